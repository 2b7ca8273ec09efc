//! The hand-over: SIGQUIT gives the listening sockets of a running sidecar to a new process. Clients notice
//! nothing, what was recorded is exactly what was seen, and whatever goes wrong leaves the old process serving.
//!
//! The clients here speak byte by byte: none sends a request again, as client libraries do in silence when a
//! kept connection turns out to be closed.

mod command;
mod endings;
mod failures;
mod listeners;
mod live;
mod load;
mod log;
mod under_load;

use reqwest::StatusCode;

use crate::support::sidecar::Sidecar;

/// Longer than any test: for what must not happen by itself.
const NEVER: &str = "1h";

/// Status and body of a page of the admin listener.
async fn admin(sidecar: &Sidecar, path: &str) -> (StatusCode, String) {
    let response = reqwest::get(sidecar.admin_url(path)).await.expect("an answer");
    (response.status(), response.text().await.expect("text"))
}

/// The process that runs serves, as if nothing had been tried.
async fn still_serves(sidecar: &Sidecar) {
    assert_eq!(admin(sidecar, "/readyz").await.0, 200, "{}", sidecar.log());
    let page = reqwest::get(sidecar.url("/about/")).await.expect("an answer");
    assert_eq!(page.status(), 200);
}

/// Appends to the configuration, which the running process has read already.
fn configure(sidecar: &Sidecar, more: &str) {
    let path = sidecar.config();
    let text = std::fs::read_to_string(&path).expect("a configuration");
    std::fs::write(path, format!("{text}\n{more}\n")).expect("a configuration");
}

/// Changes the configuration, which the running process has read already.
fn reconfigure(sidecar: &Sidecar, from: &str, to: &str) {
    let path = sidecar.config();
    let text = std::fs::read_to_string(&path).expect("a configuration");
    assert!(text.contains(from), "{from}");
    std::fs::write(path, text.replace(from, to)).expect("a configuration");
}
