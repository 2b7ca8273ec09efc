//! Targets that are no URLs and are sent all the same: nginx and app servers take them.

use super::before;
use crate::support::asgi::Asgi;
use crate::support::wire::exchange;
use crate::support::world::World;

fn get(target: &[u8]) -> Vec<u8> {
    [
        b"GET ",
        target,
        b" HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n",
    ]
    .concat()
}

#[tokio::test]
async fn e18_odd_characters_reach_the_app_as_the_same_path_and_query() {
    let world = World::shared().await;
    for target in [
        &b"/echo/<b>?q=<b>"[..],
        b"/echo?q=\"quoted\"&x=<>`",
        b"/echo/`tick`\"quote\"",
    ] {
        let direct = exchange(world.site.port(), get(target), false).await.json();
        let through = exchange(world.sidecar.port, get(target), false).await;
        assert_eq!(through.status, 200, "{}", target.escape_ascii());
        let through = through.json();
        assert_eq!(through["path"], direct["path"], "{}", target.escape_ascii());
        let parsed = |echo: &serde_json::Value| {
            let query = echo["query"].as_str().expect("text").to_owned();
            percent_decoded(&query)
        };
        assert_eq!(parsed(&through), parsed(&direct), "{}", target.escape_ascii());
    }
    // Bytes that are no text are escaped one by one; text is left as it is.
    let echo = exchange(world.sidecar.port, get(b"/echo/caf\xe9?q=\xff\xfe"), false)
        .await
        .json();
    assert_eq!(
        (&echo["path"], &echo["query"]),
        (&"/echo/caf%E9".into(), &"q=%FF%FE".into())
    );
}

fn percent_decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text)
        .decode_utf8_lossy()
        .into_owned()
}

/// ASGI servers take a target in absolute form for a path, or refuse it.
#[tokio::test]
async fn e19_a_target_in_absolute_form_reaches_the_app_as_a_path() {
    for server in ["uvicorn", "hypercorn"] {
        let app = Asgi::start(server);
        let sidecar = before(&app, "").await;
        for target in ["http://site.test/a/b?c=d", "HTTP://site.test/a/b?c=d"] {
            let answer = exchange(sidecar.port, get(target.as_bytes()), false).await;
            assert_eq!(answer.status, 200, "{server}: {}", answer.text());
            let echo = answer.json();
            assert_eq!(
                (&echo["path"], &echo["query"]),
                (&"/a/b".into(), &"c=d".into()),
                "{server}"
            );
        }
        let answer = exchange(sidecar.port, get("/<b>?q=\"x\"".as_bytes()), false).await;
        assert_eq!(answer.json()["path"], "/<b>", "{server}");
    }
}
