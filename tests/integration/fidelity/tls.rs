//! The TLS listener.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::service::free_port;
use crate::support::tls::Certificate;
use crate::support::world::{Wanted, World};

#[tokio::test]
async fn over_tls_the_site_is_the_same_and_the_app_is_told() {
    let world = World::shared().await;
    let certificate = Certificate::of("site.test");
    let port = free_port();
    let mut wanted = Wanted::usual();
    let listener = certificate.listener(port);
    wanted.config = format!("[api]\naccess = \"public\"\n{listener}");
    let _sidecar = world.another_sidecar(&wanted);
    let curl = |path: &str| {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--noproxy", "*", "--cacert"])
            .arg(certificate.path())
            .args(["--resolve", &format!("site.test:{port}:127.0.0.1")])
            .args(["--header", "X-Forwarded-Proto: http"])
            .arg(format!("https://site.test:{port}{path}"))
            .output()
            .expect("curl runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    };
    let echo: Value = serde_json::from_slice(&curl("/echo")).expect("JSON");
    assert_eq!(echo["headers"]["HTTP_X_FORWARDED_PROTO"], "https");
    assert_eq!(echo["headers"]["HTTP_HOST"], format!("site.test:{port}"));
    let file = reqwest::get(world.site.url("/download?size=300000"))
        .await
        .expect("an answer");
    assert!(
        curl("/download?size=300000") == file.bytes().await.expect("a body"),
        "the bodies differ"
    );
    // A live connection leaves Pingora with its TLS.
    let mut listening = Command::new("curl")
        .args(["--silent", "--no-buffer", "--noproxy", "*", "--cacert"])
        .arg(certificate.path())
        .args(["--resolve", &format!("site.test:{port}:127.0.0.1")])
        .args(["--header", "Accept: text/event-stream"])
        .arg(format!(
            "https://site.test:{port}{}",
            world.visitors("rust", "/live")
        ))
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl runs");
    let lines = BufReader::new(listening.stdout.take().expect("its output")).lines();
    let data = lines
        .map_while(Result::ok)
        .find(|line| line.starts_with("data: "));
    listening.kill().expect("it runs still");
    listening.wait().expect("it ends");
    assert!(data.is_some_and(|data| data.contains("current_visitors")));
}
