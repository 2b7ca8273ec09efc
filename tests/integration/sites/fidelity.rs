//! What goes through the sidecar is what goes without it, on every site: see the tests of `fidelity`.

use crate::fidelity::{request, unchanged_between};
use crate::support::sidecar::Sidecar;
use crate::support::subject::Subject;

/// Sends the same bytes to the site and to the sidecar.
pub(super) async fn is_unchanged(subject: &Subject, sidecar: &Sidecar) {
    let topic = subject.page("hidden_topic");
    let lines = [
        "GET /".to_owned(),
        "HEAD /".to_owned(),
        "GET /nowhere/%C3%A9/?q=a%20b&q=c".to_owned(),
        "GET //double//slashes/".to_owned(),
        "OPTIONS /".to_owned(),
        "DELETE /".to_owned(),
        // A redirect, or the refusal of a page that not everybody may see.
        format!("GET {}", topic.trim_end_matches('/')),
        format!("GET {topic}"),
        format!("HEAD {}", subject.page("community")),
    ];
    for line in lines {
        unchanged_between(subject.port, sidecar.port, request(&line, &[], "")).await;
    }
    let form = [
        "Content-Type: application/x-www-form-urlencoded",
        "Cookie: a=1; b=\"2\"",
    ];
    let post = request("POST /nowhere/", &form, "a=1&b=%C3%A9");
    unchanged_between(subject.port, sidecar.port, post).await;
    let old = "GET / HTTP/1.0\r\nHost: site.test\r\n\r\n";
    unchanged_between(subject.port, sidecar.port, old).await;
}
