//! What stands before the sidecar, and what stands behind it: nginx and `HAProxy`, gunicorn, uvicorn and hypercorn, each
//! with what it says, expects and refuses.

mod answers;
mod clients;
mod loops;
mod origins;
mod prefixes;
mod refusals;
mod spellings;
mod targets;
mod untrusted;
mod versions;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::asgi::Asgi;
use crate::support::backend::Settings;
use crate::support::nginx::Nginx;
use crate::support::sidecar::Sidecar;
use crate::support::wire::{Answer, exchange};
use crate::support::world::{Wanted, World};

/// Trusts whoever comes from this machine.
const TRUSTING: &str = "[limits]\ntrusted_proxies = [\"127.0.0.1/32\"]\n";

/// The usual world behind trusted proxies.
fn trusting() -> Wanted {
    let mut wanted = Wanted::usual();
    wanted.config = TRUSTING.into();
    wanted
}

/// A sidecar that trusts its proxies, in front of the shared world's site.
async fn trusting_sidecar() -> Sidecar {
    World::shared().await.another_sidecar(&trusting())
}

/// A site that redirects plain http, behind a sidecar that trusts its proxies.
async fn https_only() -> World {
    let mut wanted = trusting();
    wanted.settings = Settings {
        https_only: true,
        ..Settings::default()
    };
    wanted.start().await
}

/// A sidecar in front of an app under this server.
async fn before(app: &Asgi, config: &str) -> Sidecar {
    let mut wanted = Wanted::usual();
    wanted.servers = Some(vec![app.address()]);
    wanted.config = config.into();
    World::shared().await.another_sidecar(&wanted)
}

/// nginx in front of a sidecar, with further directives.
fn nginx(sidecar: &Sidecar, directives: &str) -> Nginx {
    let port = sidecar.port;
    Nginx::start(&format!(
        "location / {{ proxy_pass http://127.0.0.1:{port}; proxy_http_version 1.1; {directives} }}"
    ))
}

/// A request of a browser.
fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n")
}

/// Headers that the app received, as `/echo` of the site shows them.
fn received(answer: &Answer) -> BTreeMap<String, String> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let headers: BTreeMap<String, Value> =
        serde_json::from_value(answer.json()["headers"].clone()).expect("a map");
    let text = |value: Value| value.as_str().unwrap_or_default().to_owned();
    headers
        .into_iter()
        .map(|(name, value)| (name, text(value)))
        .collect()
}

/// Refused requests of a reason.
async fn refused(sidecar: &Sidecar, reason: &str) -> usize {
    let name = format!("headcount_requests_refused_total{{reason=\"{reason}\"}}");
    sidecar.count(&name).await
}

/// Sends a request through a proxy and returns what the site's `/echo` received.
async fn echoed(port: u16) -> BTreeMap<String, String> {
    received(&exchange(port, get("/echo"), false).await)
}
