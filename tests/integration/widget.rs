//! The widget: its script, and the tag that is put into pages of an app that knows nothing of it.

mod bodies;
mod browser;
mod heads;
mod pages;
mod policies;

use std::fmt::Write as _;

use crate::support::fake_upstream::FakeUpstream;
use crate::support::sidecar::Sidecar;
use crate::support::world::{Wanted, World};

/// Configuration with the widget in everybody's pages; `more` are further keys.
fn injecting(more: &str) -> Wanted {
    Wanted {
        config: format!("[api]\naccess = \"public\"\n[widget]\ninject = true\n{more}\n"),
        ..Wanted::usual()
    }
}

/// The same in pages of those who are signed in, which is the default.
fn members_only(more: &str) -> Wanted {
    Wanted {
        config: format!("[widget]\ninject = true\n{more}\n"),
        ..Wanted::usual().with_default_access()
    }
}

/// A sidecar that puts the widget into the pages of another server than the site.
async fn in_front_of(server: &FakeUpstream) -> Sidecar {
    let wanted = Wanted {
        servers: Some(vec![server.address()]),
        ..injecting("")
    };
    World::shared().await.another_sidecar(&wanted)
}

/// The tag of a community's pages.
fn tag(community: &str) -> String {
    format!(
        "<script async src=\"/api/visitors/widget.js\" data-place=\"corner\" data-community=\"{community}\"></script>"
    )
}

/// A navigation on a connection that is kept; `headers` are whole lines.
fn navigation(path: &str, headers: &[&str]) -> String {
    let mut text = format!("GET {path} HTTP/1.1\r\nHost: site.test\r\nAccept: text/html\r\n");
    for header in headers {
        let _ = write!(text, "{header}\r\n");
    }
    text + "\r\n"
}

/// How many pages came to this.
async fn pages(sidecar: &Sidecar, outcome: &str) -> usize {
    let name = format!("headcount_widget_pages_total{{outcome=\"{outcome}\"}}");
    sidecar.count(&name).await
}
