//! Touches users again that the store may lack.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::Mirror;
use crate::presence::failure_domain::FailureDomain;
use crate::presence::worker;
use crate::presence::{PresenceError, Scope};
use crate::retry::jittered;
use crate::status::Component;

/// Scopes touched again at a time, shared by the failure domains: fresh touches queue behind at most this many
/// calls.
const CONCURRENCY: usize = 8;
/// Pause before a failed re-touch is tried again, unless the store comes back before; jittered by up to a quarter.
const RETRY: Duration = Duration::from_secs(1);

impl Mirror {
    /// Touches again whenever a failure domain needs it. Never ends by itself.
    pub(super) async fn heal(self: Arc<Self>, domain: Arc<FailureDomain>) {
        let mut occasions = domain.watch();
        let retouches = Component::default();
        loop {
            // Before any user is read: losses and failures from here on cause another round.
            let seen = *occasions.borrow_and_update();
            if domain.lacks_touches() {
                let outcome = self.touch_all_again(&domain).await;
                worker::note(&retouches, "re-touches", outcome.as_ref().err());
                if outcome.is_ok() {
                    domain.mend(seen);
                }
                if self.is_whole(&domain) {
                    self.release(&domain);
                }
            }
            tokio::select! {
                _ = occasions.changed() => {}
                () = tokio::time::sleep(jittered(RETRY)) => {}
            }
        }
    }

    /// Touches all remembered users of one failure domain, or stops at the first call that fails.
    async fn touch_all_again(&self, domain: &Arc<FailureDomain>) -> Result<(), PresenceError> {
        let mut scopes = self.memory.occupied();
        scopes.retain(|scope| Arc::ptr_eq(self.domains.of(scope), domain));
        let touches: usize = stream::iter(scopes)
            .map(|scope| self.touch_again(scope))
            .buffer_unordered(CONCURRENCY.div_ceil(self.domains.all().len()))
            .try_fold(0, async |all, some| Ok(all + some))
            .await?;
        if touches > 0 {
            tracing::info!(
                touches,
                "touched again all users that the presence store may lack"
            );
        }
        Ok(())
    }

    async fn touch_again(&self, scope: Scope) -> Result<usize, PresenceError> {
        let touches = self.memory.touches(&scope);
        if !touches.is_empty() {
            self.store.touch(&scope, &touches).await?;
            self.metrics.retouches.inc_by(touches.len() as u64);
        }
        Ok(touches.len())
    }
}

/// A touch that the store has not taken yet: counts as a failure if it has not when this is dropped.
pub(super) struct Owed<'a>(pub(super) &'a FailureDomain);

impl Owed<'_> {
    pub(super) fn taken(self) {
        std::mem::forget(self);
    }
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        self.0.note_failure();
    }
}
