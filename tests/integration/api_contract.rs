//! The API's contract: what the `OpenAPI` document promises is what the sidecar answers. The document itself decides
//! what is asked: schemathesis makes requests that fit it and requests that do not.

mod client;

use std::process::Command;

use crate::support::api_keys::{BOTH, KeyFile, key};
use crate::support::backend::{python, python_says};
use crate::support::wire::{Answer, exchange};
use crate::support::world::{Wanted, World};

/// Longest time of one run, in seconds. Reaching it fails the test.
const LIMIT: &str = "120";

/// Runs schemathesis against everything that the sidecar's own document describes, with these settings.
fn run_schemathesis(world: &World, settings: &str, credentials: &str) {
    let origin = format!("http://127.0.0.1:{}", world.sidecar.port);
    let directory = tempfile::tempdir().expect("a directory");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/api_contract");
    let settings = &format!("{folder}/{settings}");
    let output = Command::new("timeout")
        .arg(LIMIT)
        .arg(python("st"))
        .args(["--config-file", settings, "run"])
        .arg(format!("{origin}/api/visitors/openapi.json"))
        .env("HEADCOUNT_TOKEN", credentials)
        .env("HEADCOUNT_ORIGIN", &origin)
        .env("NO_PROXY", "127.0.0.1")
        .env("NO_COLOR", "1")
        .env("COLUMNS", "120")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(directory.path())
        .output()
        .expect("schemathesis runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
}

#[tokio::test]
async fn a1_what_the_document_promises_is_what_is_answered() {
    let mut wanted = Wanted::usual();
    // As many reports as are made, and answers however busy the machine is.
    wanted.config = "[api]\nbeacon_rate = 6000\ntimeout = \"60s\"\n".into();
    let world = wanted.start().await;
    let alice = world.member("alice").await;
    alice.sees(&world.community("rust")).await;
    world.wait_for_views(1).await;
    let cookie = alice.cookie();
    let (_, token) = cookie.split_once('=').expect("a cookie");
    run_schemathesis(&world, "schemathesis.toml", token);
}

#[tokio::test]
async fn a1_what_the_document_promises_servers_is_what_they_are_answered() {
    let file = KeyFile::new(&[("schemathesis", &format!("{BOTH}rate = 60000\nburst = 10000\n"))]);
    let wanted = Wanted {
        config: "[api]\ntimeout = \"60s\"\n".into(),
        ..Wanted::usual()
    };
    let world = file.wanted(wanted).start().await;
    run_schemathesis(&world, "servers.toml", &key("schemathesis"));
}

#[tokio::test]
async fn a5_the_document_is_a_valid_one() {
    let world = World::shared().await;
    let document: serde_json::Value = world.stranger().json("/api/visitors/openapi.json").await;
    let validate =
        "import json, sys; from openapi_spec_validator import validate; validate(json.loads(sys.argv[1]))";
    python_says(validate, &[&document.to_string()]);
}

/// Sends a head, with `headers` that end in line ends, and nothing else.
async fn head(world: &World, method: &str, path: &str, headers: &str) -> Answer {
    let port = world.sidecar.port;
    let request = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{headers}\r\n");
    exchange(port, request, method == "HEAD").await
}

/// On the API's paths what the proxy refuses by itself looks like what the API refuses; on the app's it is a short text.
#[tokio::test]
async fn a2_what_the_proxy_refuses_on_the_apis_paths_has_the_apis_form() {
    let world = World::shared().await;
    let alice = world.member("alice").await;
    let list = world.visitors("rust", "");
    let too_large = format!(
        "Origin: http://127.0.0.1:{}\r\nCookie: {}\r\nContent-Length: 8193\r\n\r\n{:8191}",
        world.sidecar.port,
        alice.cookie(),
        ""
    );
    for (method, path, headers, status, allow) in [
        ("TRACE", &*list, "", 405, Some("GET,HEAD")),
        ("TRACE", "/api/visits", "", 405, Some("POST")),
        ("TRACE", "/api/visitors/live", "", 405, Some("GET")),
        ("OPTIONS", &*list, "", 405, Some("GET,HEAD")),
        ("POST", "/api/visits", &*too_large, 413, None),
        ("GET", "/api/visitors/counts", "", 400, None),
        ("GET", "/api/visitors/counts?format=xml", "", 404, None),
        ("GET", &*list, "", 401, None),
    ] {
        let answer = head(world, method, path, headers).await;
        let what = format!("{method} {path}: {}", answer.text());
        assert_eq!(answer.status, status, "{what}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json"),
            "{what}"
        );
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
        assert_eq!(answer.header("allow"), allow, "{what}");
        let document = answer.json();
        assert_eq!(document["status"], status, "{what}");
        assert_eq!(document["type"], "about:blank", "{what}");
        for text in ["title", "detail"] {
            assert!(!document[text].as_str().expect("text").is_empty(), "{what}");
        }
    }
    let of_the_app = head(world, "TRACE", "/about/", "").await;
    assert_eq!(of_the_app.status, 405);
    assert_eq!(
        of_the_app.header("allow"),
        Some("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
    );
    assert_eq!(
        of_the_app.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
}
