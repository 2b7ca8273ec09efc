//! Promise 4, the app is not surprised: what goes through the sidecar is what goes without it, but for the
//! documented headers. Every test compares with the real site, or with a server that keeps what it heard.

mod answers;
mod balancing;
mod failures;
mod identity;
mod requests;
mod reuse;
mod streaming;
mod tls;
mod tunnels;
mod uploads;

use std::fmt::Write as _;

use crate::support::fake_upstream::FakeUpstream;
use crate::support::sidecar::Sidecar;
use crate::support::wire::{Answer, exchange};
use crate::support::world::{Wanted, World};

/// Response headers that may differ between an answer with and without the sidecar, and why.
const PER_HOP: &[&str] = &[
    "connection", // each side decides about its own connection
    "keep-alive", // the same
    "date",       // the second may have changed between the two
];

/// Sends the same bytes to the site and to the sidecar, asserts that the answers are the same, and returns it.
async fn unchanged(world: &World, request: impl AsRef<[u8]>) -> Answer {
    unchanged_between(world.site.port(), world.sidecar.port, request).await
}

/// The same for a site and a sidecar on these ports.
pub async fn unchanged_between(site: u16, sidecar: u16, request: impl AsRef<[u8]>) -> Answer {
    let request = request.as_ref();
    let bodiless = request.starts_with(b"HEAD ");
    let direct = exchange(site, request, bodiless).await;
    let through = exchange(sidecar, request, bodiless).await;
    let what = request[..request.len().min(200)].escape_ascii();
    assert_eq!(through.status, direct.status, "{what}");
    assert_eq!(end_to_end(&through), end_to_end(&direct), "{what}");
    assert!(through.body == direct.body, "{what}: the bodies differ");
    through
}

/// Headers as a sorted multimap, without those that concern one connection only.
fn end_to_end(answer: &Answer) -> Vec<(String, String)> {
    let mut headers = answer.headers.clone();
    headers.retain(|(name, _)| !PER_HOP.contains(&name.as_str()));
    headers.sort();
    headers
}

/// A request on a connection that ends with it. `headers` are whole lines.
pub fn request(line: &str, headers: &[&str], body: &str) -> Vec<u8> {
    let mut text = format!("{line} HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n");
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    if !body.is_empty() {
        let _ = write!(text, "Content-Length: {}\r\n", body.len());
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

fn get(path: &str) -> Vec<u8> {
    request(&format!("GET {path}"), &[], "")
}

/// A sidecar in front of other servers than the site, with further keys of `[upstream]`.
pub async fn in_front_of(servers: &[&FakeUpstream], upstream: &str) -> Sidecar {
    let mut wanted = Wanted::usual();
    wanted.servers = Some(servers.iter().map(|server| server.address()).collect());
    wanted.upstream = upstream.to_owned();
    World::shared().await.another_sidecar(&wanted)
}

/// A name that no other test uses, for gates and tallies.
fn unique() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}
