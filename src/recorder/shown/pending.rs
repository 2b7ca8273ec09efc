//! Answers of the app that wait for a lookup of their session or community: API requests with the same token wait for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::ids::SessionToken;

/// Tokens with verdicts that wait for a lookup. Bounded by the lookups.
#[derive(Default)]
pub(super) struct PendingVerdicts(Mutex<HashMap<SessionToken, Vec<watch::Receiver<()>>>>);

impl PendingVerdicts {
    pub(super) fn enter(pending: &Arc<Self>, token: &SessionToken) -> Entered {
        let (ends, waited) = watch::channel(());
        pending.all().entry(token.clone()).or_default().push(waited);
        Entered {
            pending: Arc::clone(pending),
            token: token.clone(),
            ends: Some(ends),
        }
    }

    /// Waits until those of a token have ended, at most for `patience`; whether they have.
    pub(super) async fn settle(&self, token: &SessionToken, patience: Duration) -> bool {
        let all = async {
            for mut waited in self.of(token) {
                // It ends with an error, when the lookup has ended.
                let _ = waited.changed().await;
            }
        };
        timeout(patience, all).await.is_ok()
    }

    fn of(&self, token: &SessionToken) -> Vec<watch::Receiver<()>> {
        self.all().get(token).cloned().unwrap_or_default()
    }

    fn all(&self) -> MutexGuard<'_, HashMap<SessionToken, Vec<watch::Receiver<()>>>> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A verdict that waits for a lookup, until this is dropped.
pub(super) struct Entered {
    pending: Arc<PendingVerdicts>,
    token: SessionToken,
    ends: Option<watch::Sender<()>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        drop(self.ends.take());
        let mut all = self.pending.all();
        if let Some(waited) = all.get_mut(&self.token) {
            waited.retain(|waited| waited.has_changed().is_ok());
            if waited.is_empty() {
                all.remove(&self.token);
            }
        }
    }
}
