//! What every store must do, run over both databases, each with default and with other names and keys.

use std::sync::Arc;

use headcount::browser_session::BrowserSession;
use headcount::ids::{CommunityId, UserId};
use headcount::store::Stats;

use crate::store_site::{SessionRow, Site, at};

/// Each test once per variant.
macro_rules! contract {
    ($($test:ident,)+) => {
        contract! { @variants ($($test)+)
            postgres_default PostgresDefault, postgres_renamed PostgresRenamed,
            sqlite_default SqliteDefault, sqlite_renamed SqliteRenamed }
    };
    (@variants $tests:tt $($module:ident $variant:ident),+) => {
        $(contract! { @module $tests $module $variant })+
    };
    (@module ($($test:ident)+) $module:ident $variant:ident) => {
        mod $module {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Variant::$variant).await;
            })+
        }
    };
}

mod apply;
mod claims;
mod counters;
mod disabled;
mod django;
mod event_values;
mod identify;
mod keys;
mod ledger;
mod moments;
mod own_events;
mod past_visitors;
mod profiles;
mod session_checks;
pub mod session_kinds;
mod sessions;
mod stats;
mod visitors;

/// Alice, signed in, and a community.
async fn alice(site: &Site) -> (UserId, Arc<BrowserSession>, CommunityId) {
    let alice = site.member("alice").await;
    let session = site
        .session(&alice, "token-of-alice", SessionRow::default())
        .await;
    (alice, session, site.community("gardening").await)
}

async fn stats_of_march(site: &Site, community: &CommunityId) -> Stats {
    site.store
        .stats(community, at("2024-03-01T00:00:00Z"), at("2024-04-01T00:00:00Z"))
        .await
        .unwrap()
}

/// A page view that the sidecar wrote.
async fn viewed(site: &Site, user: &UserId, community: &CommunityId, when: &str) {
    let metadata = in_community(community);
    site.app_event(user, "page_view", &metadata, when).await;
}

fn in_community(community: &CommunityId) -> String {
    format!(r#"{{"url": "/x", "community_id": "{community}", "source": "headcount"}}"#)
}
