//! Starts what live connections share.

use std::sync::Arc;

use chrono::Utc;

use super::recording::Recording;
use super::shared_parts::SharedParts;
use crate::config::CommunityKey;
use crate::key_type::{AppKeys, KeyType, KeyTypes};
use crate::live::{self, Live};

/// What live connections share, where they are switched on.
pub(super) fn start(shared: &SharedParts, recording: &Recording) -> Option<Live> {
    let config = &shared.config;
    if !(config.api.enabled && config.api.live) {
        return None;
    }
    let parts = live::Parts {
        presence: shared.presence.clone(),
        touches: recording.touches.clone(),
        authenticator: recording.authenticator.clone(),
        api_keys: recording.api_keys.clone(),
        clock: Arc::new(Utc::now),
        keys: match config.api.community_key {
            // Slugs are text, also such that are digits.
            CommunityKey::Slug => AppKeys::of(KeyTypes {
                community: KeyType::Text(None),
                user: KeyType::Text(None),
            }),
            CommunityKey::Id | CommunityKey::Either => recording.communities.keys(),
        },
        metrics: shared.metrics.live.clone(),
        tasks: shared.tasks.clone(),
    };
    Some(Live::start(
        &config.live,
        &config.record,
        &config.session,
        config.limits.connections(),
        parts,
    ))
}
