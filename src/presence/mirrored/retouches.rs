//! Touches users again that the store may lack.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::Mirror;
use crate::presence::failure_domain::FailureDomain;
use crate::presence::worker;
use crate::presence::{PresenceError, Scope, TOUCHED_TOGETHER, TouchedGroup};
use crate::retry::jittered;
use crate::status::Component;

/// Calls that touch again at a time, shared by the failure domains: fresh touches queue behind at most this many.
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
        let touches: usize = stream::iter(self.calls(scopes))
            .map(|scopes| self.touch_again(scopes))
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

    /// These scopes by the calls that touch them: those of one part of the store share some.
    fn calls(&self, mut scopes: Vec<Scope>) -> Vec<Vec<Scope>> {
        let part = |scope: &Scope| self.store.part_of(scope);
        scopes.sort_by_cached_key(part);
        let parts = scopes.chunk_by(|one, other| part(one).is_some() && part(one) == part(other));
        parts
            .flat_map(|part| part.chunks(TOUCHED_TOGETHER))
            .map(<[Scope]>::to_vec)
            .collect()
    }

    async fn touch_again(&self, scopes: Vec<Scope>) -> Result<usize, PresenceError> {
        let groups = scopes.into_iter().map(|scope| TouchedGroup {
            touches: self.memory.touches(&scope),
            scope,
        });
        let groups: Vec<_> = groups.filter(|group| !group.touches.is_empty()).collect();
        let outcomes = self.store.touch_together(&groups).await;
        let taken = groups
            .iter()
            .zip(&outcomes)
            .filter(|(_, outcome)| outcome.is_ok());
        let touches: usize = taken.map(|(group, _)| group.touches.len()).sum();
        self.metrics.retouches.inc_by(touches as u64);
        let failed = outcomes.into_iter().find_map(Result::err);
        failed.map_or(Ok(touches), Err)
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
