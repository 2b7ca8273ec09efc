//! The database is away while JWTs come whose sessions nobody has looked up.

use std::path::Path;

use super::feed;
use crate::support::jwt::{Pair, records_the_feed, status, with_jwt};
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::redis::eventually;
use crate::support::world::Wanted;

/// All bytes of the files in a folder.
fn bytes_in(folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            bytes.extend(bytes_in(&path));
        } else {
            bytes.extend(std::fs::read(&path).unwrap_or_default());
        }
    }
    bytes
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn i26_views_of_sessions_that_nobody_has_looked_up_wait_without_the_jwt() {
    let database = Proxy::refusing(Postgres::shared().port());
    database.resume().await;
    let wanted = Wanted {
        database: "acquire_timeout = \"200ms\"".into(),
        database_port: Some(database.port()),
        ..Wanted::usual()
    };
    let (_keys, wanted) = with_jwt(wanted, "session_claim = \"sid\"");
    let world = wanted.start().await;
    records_the_feed(&world.sidecar).await;
    let alice = Pair::of(&world, "alice").await;
    let app = world.stranger();
    database.refuse().await;
    let path = feed(&world, "rust");
    for _ in 0..3 {
        assert_eq!(status(&app, &path, &alice.access).await, 200);
    }
    world
        .sidecar
        .wait_for_metric("headcount_spool_views", |views| views == 3.0)
        .await;
    let spool = bytes_in(&world.sidecar.directory().join("spool"));
    let sid = alice.claims()["sid"].as_str().expect("a key").to_owned();
    assert!(contains(&spool, &sid), "the session's key waits");
    for part in alice.access.split('.') {
        assert!(!contains(&spool, part), "and nothing of the JWT");
    }
    database.resume().await;
    let views = world.wait_for_views(3).await;
    assert!(views.iter().all(|view| view["username"] == "alice"));
    eventually(async || {
        let sessions = world.site.ask("oracle/sessions").await;
        sessions
            .as_array()
            .expect("a list")
            .iter()
            .any(|session| session["pages_visited"] == 3)
    })
    .await;
}
