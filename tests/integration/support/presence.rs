//! What sidecars show, asked as the visitors API asks.

use headcount::ids::CommunityId;
use headcount::presence::Presence;

use super::redis::eventually;

/// What a sidecar shows: who is in a community, latest first, and whether that is stale.
pub(crate) async fn shown(presence: &dyn Presence, community: &str) -> (Vec<String>, bool) {
    let community = CommunityId::from(community);
    let page = presence.list(&community, None, 100).await.expect("an answer");
    let counts = presence
        .counts(std::slice::from_ref(&community))
        .await
        .expect("an answer");
    let users: Vec<_> = page.value.iter().map(|seen| seen.user.to_string()).collect();
    let is_settled = counts.value[0].current == users.len() as u64;
    (users, page.stale || counts.stale || !is_settled)
}

/// Sweeps as the sidecars' workers do, until each shows these users, and not from memory.
pub(crate) async fn all_show(sidecars: &[&dyn Presence], community: &str, users: &[&str]) {
    eventually(async || {
        for sidecar in sidecars {
            // Fails until Redis is back.
            let _ = sidecar.sweep().await;
        }
        for sidecar in sidecars {
            let (shown, stale) = shown(*sidecar, community).await;
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
    eventually(async || {
        let page = sidecar
            .list(&community.into(), None, 100)
            .await
            .expect("an answer");
        let shown: Vec<_> = page.value.iter().map(|seen| seen.user.as_str()).collect();
        page.stale && shown == users
    })
    .await;
}
