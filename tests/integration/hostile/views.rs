//! Page views under hostile conditions.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{Wire, World};
use crate::support::member::FIREFOX;

#[tokio::test]
async fn w2_w3_odd_texts_are_recorded_harmlessly() {
    let world = World::usual().await;
    let session = world
        .site
        .tell("add-session", &json!({"username": "alice"}))
        .await;
    let token = session["session_id"].as_str().expect("a token");
    let community = world.community("rust");
    let long = "\u{1f600}".repeat(4000);
    let texts: &[&[u8]] = &[
        b"\\u0000 \\x00 %00",
        b"\xff\xfe\xc0\x80 broken",
        "\u{feff}\u{202e}\u{1f600}".as_bytes(),
        b"'; DROP TABLE accounts_userevent; --",
        b"{\"json\": \"\\ud800\"}",
        long.as_bytes(),
    ];
    for text in texts {
        let mut wire = Wire::open(world.sidecar.port).await;
        wire.send(format!(
            "GET {community}?q=%00%ff&x=%u0000 HTTP/1.1\r\nHost: site.test\r\n"
        ))
        .await;
        wire.send(format!(
            "Accept: text/html\r\nCookie: session_id={token}\r\nUser-Agent: {FIREFOX} "
        ))
        .await;
        wire.send(text).await;
        wire.send("\r\nReferer: http://site.test/%00/").await;
        wire.send(text).await;
        wire.send("\r\n\r\n").await;
        assert_eq!(
            wire.answer().await.status,
            200,
            "{}",
            text[..text.len().min(50)].escape_ascii()
        );
    }
    let views = world.wait_for_views(texts.len()).await;
    assert_eq!(views.len(), texts.len());
    assert!(views.iter().all(|view| view["username"] == "alice"));
    assert!(!world.sidecar.log().contains("panicked"));
}

/// V6. Many at once on one thread, over connections that all share: each view has the right person.
#[tokio::test]
async fn v6_no_view_is_ever_somebody_elses() {
    let world = World::usual().await;
    let names = ["alice", "bob", "carol"];
    let mut members = Vec::new();
    for name in names {
        members.push(world.member(name).await);
    }
    let paths = [
        |n: usize| format!("/communities/42/posts/{n}/"),
        |n: usize| format!("/about/?n={n}"),
        |n: usize| format!("/nowhere/{n}/"),
        |n: usize| format!("/slow?ms={}", n % 7 * 10),
    ];
    let requests = (0..200).map(|n| {
        let (member, path) = (members[n % 3].clone(), paths[n / 3 % 4](n));
        async move { member.visits(&path).await }
    });
    let statuses = join_all(requests).await;
    let counted = statuses
        .iter()
        .filter(|status| **status == StatusCode::OK)
        .count();
    assert_eq!(counted, 150 + statuses.len() % 2);
    let views = world.wait_for_views(counted).await;
    assert_eq!(views.len(), counted);
    let mut by_name: BTreeMap<&str, usize> = BTreeMap::new();
    for view in &views {
        let name = view["username"].as_str().expect("a name");
        *by_name.entry(name).or_default() += 1;
        let path = view["metadata"]["path"].as_str().unwrap_or_default();
        if let Some(n) = path.strip_prefix("/communities/42/posts/") {
            let n: usize = n.trim_end_matches('/').parse().expect("a number");
            assert_eq!(name, names[n % 3], "{path}");
        }
    }
    let expected = |who: usize| {
        (0..200)
            .filter(|n| n % 3 == who && statuses[*n] == StatusCode::OK)
            .count()
    };
    assert_eq!(
        by_name,
        names
            .iter()
            .enumerate()
            .map(|(who, name)| (*name, expected(who)))
            .collect()
    );
    let sessions = world.site.ask("oracle/sessions").await;
    let total = |sessions: &Value| -> u64 {
        let sessions = sessions.as_array().expect("a list");
        sessions
            .iter()
            .filter_map(|session| session["pages_visited"].as_u64())
            .sum()
    };
    assert_eq!(total(&sessions), counted as u64);
}
