//! The rows of the visitor list.

use chrono::Utc;
use headcount::ids::UserId;
use headcount::store::VisitorRow;

use crate::store_site::{SessionRow, Site, Variant, at};

contract! {
    i3_a_visitor_shows_the_latest_session_that_is_active_not_ended_and_not_expired,
    visitors_come_with_name_and_picture_and_without_the_deleted,
}

async fn i3_a_visitor_shows_the_latest_session_that_is_active_not_ended_and_not_expired(variant: Variant) {
    let site = Site::new(variant).await;
    let alice = site.member("alice").await;
    let started = |when: &str, pages_visited| SessionRow {
        started_at: at(when),
        pages_visited,
        ..SessionRow::default()
    };
    let open = |when, pages| started(when, pages);
    let mut inactive = started("2024-03-04T09:00:00Z", 4);
    inactive.is_active = false;
    let mut ended = started("2024-03-05T09:00:00Z", 5);
    ended.is_ended = true;
    let mut expired = started("2024-03-06T09:00:00Z", 6);
    expired.expires_at = Utc::now();
    for (name, row) in [
        ("first", open("2024-03-01T09:00:00Z", 1)),
        ("latest", open("2024-03-03T09:00:00.5Z", 3)),
        ("second", open("2024-03-02T09:00:00Z", 2)),
        ("inactive", inactive),
        ("ended", ended),
        ("expired", expired),
    ] {
        site.session(&alice, name, row).await;
    }
    let visitors = site.store.visitors(std::slice::from_ref(&alice)).await.unwrap();
    assert_eq!(
        visitors,
        [VisitorRow {
            user_id: alice,
            username: "alice".into(),
            avatar: None,
            started_at: Some(at("2024-03-03T09:00:00.5Z")),
            pages_visited: Some(3),
        }]
    );
}

async fn visitors_come_with_name_and_picture_and_without_the_deleted(variant: Variant) {
    let site = Site::new(variant).await;
    let alice = site.member_with_avatar("alice", "faces/alice.png").await;
    let bob = site.member("bob").await;
    site.member("carol").await;
    let gone = if variant.is_renamed() {
        "0190163d-8694-739b-aea5-966c26f8ad91"
    } else {
        "999999"
    };
    let asked = [
        bob.clone(),
        UserId::from(gone),
        UserId::from("no key at all"),
        UserId::from("\0"),
        alice.clone(),
    ];
    let mut visitors = site.store.visitors(&asked).await.unwrap();
    visitors.sort_by(|a, b| a.username.cmp(&b.username));
    let without_session = |user_id, username: &str, avatar: Option<&str>| VisitorRow {
        user_id,
        username: username.into(),
        avatar: avatar.map(Into::into),
        started_at: None,
        pages_visited: None,
    };
    assert_eq!(
        visitors,
        [
            without_session(alice, "alice", Some("faces/alice.png")),
            without_session(bob, "bob", None)
        ]
    );
    assert_eq!(site.store.visitors(&[]).await.unwrap(), []);
}
