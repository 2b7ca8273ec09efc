//! Presence in a Redis whose clock is set: ahead by ten minutes, and right again.

use std::num::NonZeroU16;
use std::time::Duration;

use chrono::TimeDelta;
use headcount::config;
use headcount::presence::Presence;
use headcount::presence::Scope;

use crate::support::moved_clock::MovedClock;
use crate::support::presence::all_show;
use crate::support::redis::RedisServer;
use crate::support::redis_presence::{self, seen};

const WINDOW: Duration = Duration::from_secs(300);
const MINUTE: Duration = Duration::from_secs(60);
const AHEAD: Duration = Duration::from_secs(600);

/// Nobody remembers whom: the sidecar that saw them has gone.
#[tokio::test]
async fn p18_whoever_came_while_the_clock_was_ahead_leaves_in_time() {
    let clock = MovedClock::new();
    let server = RedisServer::start_by(&clock);
    let presence = redis_presence::open(&server.config(), WINDOW);
    let shown = async |community: &str| {
        let community = community.into();
        let page = presence.list(&community, None, 10).await.unwrap().value;
        let count = presence
            .all_counts(std::slice::from_ref(&community))
            .await
            .unwrap()
            .value[0];
        assert_eq!(count.current, page.len() as u64);
        assert!(page.iter().all(|seen| seen.last_seen <= count.as_of), "{page:?}");
        page.iter().map(|seen| seen.user.to_string()).collect::<Vec<_>>()
    };
    clock.is_ahead(AHEAD);
    let touches = [seen("a", Duration::ZERO), seen("b", 4 * MINUTE)];
    presence.touch(&"42".into(), &touches).await.unwrap();
    presence
        .touch(&"43".into(), &[seen("c", Duration::ZERO)])
        .await
        .unwrap();
    clock.is_ahead(Duration::ZERO);
    presence.sweep().await.unwrap();
    assert_eq!(
        (shown("42").await, shown("43").await),
        (vec!["a".to_owned(), "b".to_owned()], vec!["c".to_owned()])
    );

    clock.is_ahead(2 * MINUTE);
    presence.sweep().await.unwrap();
    assert_eq!(shown("42").await, ["a"], "b's age is what it was");
    clock.is_ahead(WINDOW);
    presence.sweep().await.unwrap();
    assert_eq!((shown("42").await, shown("43").await), (vec![], vec![]));
    assert!(presence.communities(10).await.unwrap().value.is_empty());
}

#[tokio::test]
async fn p18_whoever_was_there_is_there_while_the_clock_is_ahead_and_afterwards() {
    let clock = MovedClock::new();
    let server = RedisServer::start_by(&clock);
    let sidecar = redis_presence::mirrored(&server.config(), WINDOW);
    sidecar.touch(&"42".into(), &[seen("a", MINUTE)]).await.unwrap();
    all_show(&[&*sidecar], "42", &["a"]).await;
    for ahead in [AHEAD, Duration::ZERO] {
        clock.is_ahead(ahead);
        // Forgets whom it takes for gone.
        let _ = sidecar.sweep().await;
        all_show(&[&*sidecar], "42", &["a"]).await;
        let page = sidecar.list(&"42".into(), None, 1).await.unwrap().value;
        let count = sidecar.all_counts(&["42".into()]).await.unwrap().value[0];
        let age = count.as_of - page[0].last_seen;
        assert!(age.num_seconds() >= 59, "{age}");
    }
}

#[tokio::test]
async fn p18_no_call_moves_more_than_a_bounded_number_of_members() {
    const MEMBERS: usize = 6_000;
    let clock = MovedClock::new();
    let server = RedisServer::start_by(&clock);
    let config = config::Redis {
        partitions: NonZeroU16::MIN,
        ..server.config()
    };
    let presence = redis_presence::open(&config, WINDOW);
    clock.is_ahead(MINUTE);
    let touches: Vec<_> = (0..MEMBERS)
        .map(|user| seen(&user.to_string(), 2 * MINUTE))
        .collect();
    let communities = ["1", "2", "3"].map(Scope::from);
    for community in &communities {
        presence.touch(community, &touches).await.unwrap();
    }
    presence.sweep().await.unwrap();
    clock.is_ahead(Duration::ZERO);
    let mut raw = server.raw().await;
    let () = redis::cmd("CONFIG")
        .arg("RESETSTAT")
        .query_async(&mut raw)
        .await
        .unwrap();
    presence.sweep().await.unwrap();
    let told: String = redis::cmd("INFO")
        .arg("commandstats")
        .query_async(&mut raw)
        .await
        .unwrap();
    assert!(told.contains("cmdstat_evalsha:calls=2,"), "{told}");
    for community in &communities {
        let page = presence.list(community, None, MEMBERS).await.unwrap().value;
        let count = presence
            .all_counts(std::slice::from_ref(community))
            .await
            .unwrap()
            .value[0];
        assert_eq!(page.len(), MEMBERS);
        assert!(
            page.iter()
                .all(|seen| count.as_of - seen.last_seen >= TimeDelta::seconds(119))
        );
    }
}
