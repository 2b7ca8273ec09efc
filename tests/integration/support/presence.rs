//! What sidecars show and hear, asked as the visitors API and the live hub ask.

use std::time::Duration;

use headcount::config;
use headcount::presence::Scope;
use headcount::presence::changes::{Event, Subscription};
use headcount::presence::{Presence, PresenceError, Touch};

use super::log::Log;
use super::redis::eventually;
use super::redis_presence;
use super::service::in_time;

/// What a sidecar shows: who is in a community or another scope, latest first, and whether that is stale.
pub(crate) async fn shown(presence: &dyn Presence, community: &str) -> (Vec<String>, bool) {
    shown_at(presence, &community.into()).await
}

async fn shown_at(presence: &dyn Presence, scope: &Scope) -> (Vec<String>, bool) {
    let page = presence.list(scope, None, 100).await.expect("an answer");
    let counts = presence
        .all_counts(std::slice::from_ref(scope))
        .await
        .expect("an answer");
    let users: Vec<_> = page.value.iter().map(|seen| seen.user.to_string()).collect();
    let is_settled = counts.value[0].current == users.len() as u64;
    (users, page.stale || counts.stale || !is_settled)
}

/// Sweeps as the sidecars' workers do, until each shows these users, and not from memory.
pub(crate) async fn all_show(sidecars: &[&dyn Presence], community: &str, users: &[&str]) {
    all_show_at(sidecars, &community.into(), users).await;
}

/// The same of any scope.
pub(crate) async fn all_show_at(sidecars: &[&dyn Presence], scope: &Scope, users: &[&str]) {
    eventually(async || {
        for sidecar in sidecars {
            // Fails until Redis is back.
            let _ = sidecar.sweep().await;
        }
        for sidecar in sidecars {
            let (shown, stale) = shown_at(*sidecar, scope).await;
            if stale || shown != users {
                return false;
            }
        }
        true
    })
    .await;
}

/// Waits until memory alone is asked, and shows these users.
pub(crate) async fn is_remembered(sidecar: &dyn Presence, community: &str, users: &[&str]) {
    is_remembered_at(sidecar, &community.into(), users).await;
}

/// The same of any scope.
pub(crate) async fn is_remembered_at(sidecar: &dyn Presence, scope: &Scope, users: &[&str]) {
    eventually(async || {
        let page = sidecar.list(scope, None, 100).await.expect("an answer");
        let shown: Vec<_> = page.value.iter().map(|seen| seen.user.as_str()).collect();
        page.stale && shown == users
    })
    .await;
}

/// All that presence does, of communities on every node.
pub(crate) async fn everything(presence: &dyn Presence, communities: &[Scope]) {
    // Also waits for the nodes.
    presence.ping().await.expect("an answer");
    let mut changes = presence.subscribe();
    assert_eq!(changes.recv().await.expect("an answer"), Event::Listening);
    for community in communities {
        presence
            .touch(community, &[Touch::now("a")])
            .await
            .expect("an answer");
        assert!(matches!(
            changes.recv().await.expect("an answer"),
            Event::Change(_)
        ));
        let page = presence.list(community, None, 1).await.expect("an answer").value;
        let rest = presence
            .list(community, page.last(), 1)
            .await
            .expect("an answer")
            .value;
        assert!(rest.is_empty());
    }
    let counts = presence.all_counts(communities).await.expect("an answer").value;
    assert!(counts.iter().all(|count| count.current == 1), "{counts:?}");
    presence.sweep().await.expect("an answer");
}

/// Waits until changes are heard.
pub(crate) async fn is_listening(changes: &mut Subscription) {
    let told = async { while changes.recv().await.expect("an event") != Event::Listening {} };
    in_time("a subscription", told).await;
}

/// Touches anew until a change of the community is heard.
pub(crate) async fn is_heard(presence: &dyn Presence, changes: &mut Subscription, community: &Scope) {
    let heard = async {
        for number in 0.. {
            let user = format!("u{number}");
            // Fails while nobody is there to take it.
            let _ = presence.touch(community, &[Touch::now(&*user)]).await;
            let waited = tokio::time::timeout(Duration::from_millis(100), changes.recv()).await;
            if let Ok(Ok(Event::Change(change))) = waited
                && change.scope == *community
            {
                return;
            }
        }
    };
    in_time("a change", heard).await;
}

/// Asks twice for presence in a Redis that is refused; the log, which has one warning.
pub(crate) async fn warned_once(config: &config::Redis, window: Duration) -> String {
    let log = Log::default();
    let _listening = log.listen();
    let presence = redis_presence::open(config, window);
    for _ in 0..2 {
        let refused = presence.ping().await;
        assert!(
            matches!(refused, Err(PresenceError::Unavailable(_))),
            "{refused:?}"
        );
    }
    let text = log.text();
    assert_eq!(text.matches("WARN").count(), 1, "{text}");
    text
}
