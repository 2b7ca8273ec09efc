//! Calls of the store: touches of several groups, with their ages as of the call.

use std::sync::Arc;

use super::Now;
use super::handle::Taken;
use super::pending::TouchBatch;
use super::progress::OpenCall;
use crate::presence::{Count, Presence, PresenceError, Scope, Touch, TouchedGroup};

/// A call that has ended.
pub(super) struct Sent {
    pub(super) groups: Vec<TouchedGroup>,
    /// Of each group.
    pub(super) outcomes: Vec<Result<Count, PresenceError>>,
    _taken: Vec<(Taken, OpenCall)>,
}

/// Makes one call.
pub(super) async fn send(presence: Arc<dyn Presence>, batches: Vec<(Scope, TouchBatch)>, now: Now) -> Sent {
    // Ages are computed last: a touch that waited is older.
    let now = now();
    let (groups, taken): (Vec<_>, Vec<_>) = batches
        .into_iter()
        .map(|(scope, TouchBatch { seen, taken, call })| {
            let touches = seen.into_iter().map(|((user, finer), at)| Touch {
                user,
                age: now.since(at),
                finer,
            });
            let touches = touches.collect();
            (TouchedGroup { scope, touches }, (taken, call))
        })
        .unzip();
    let outcomes = presence.touch_together(&groups).await;
    Sent {
        groups,
        outcomes,
        _taken: taken,
    }
}
