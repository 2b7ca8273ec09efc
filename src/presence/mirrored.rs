//! A memory of this sidecar's own touches in front of a store that may be away or lose data (P14).
//!
//! Whatever this sidecar touches it also remembers, for the window, at most 200,000 members. That memory is used
//! for two things only:
//!
//! - **Reads** while the store is away, slow, or known to have lost touches that were not yet made again: they are
//!   answered from memory and marked stale. Memory holds less than the store (other sidecars' visitors are missing),
//!   never more.
//! - **Re-touches** when the store may have lost touches or failed to take one: every remembered user is touched
//!   again, with the true age, so that no user stays longer than the window and no user who left comes
//!   back. Touches of the same user by several sidecars are one visitor (P12).
//!
//! A client that pages while answers switch from store to memory may see a user twice, but misses none that this
//! sidecar saw: it remembers before it touches.
//!
//! A read that memory cannot answer fails: until the store was reached once, or a whole window has passed since
//! the start, memory is too incomplete.
//!
//! **Changes** of communities whose touches may be missing are held back meanwhile (`feed`).
//!
//! All of this holds for each [`FailureDomain`] of the store separately: losses or failures of one make no answers
//! about communities of another stale.

mod answers;
mod feed;
mod retouches;

use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use tokio::time::timeout;

use self::answers::{moved, told, too_slow};
use self::retouches::Owed;
use super::failure_domain::{FailureDomain, FailureDomains};
use super::grants::{Grant, NotedGrant};
use super::memory::InMemory;
use super::moment::{self, Moment};
use super::{
    Answer, Count, CountStream, Presence, PresenceError, Scope, Seen, SteadyClock, Sweep, Touch,
    TouchedGroup, Window,
};
use crate::ids::{CommunityId, UserId};
use crate::presence::Metrics;
use crate::presence::changes::{CountChanges, Subscription};
use crate::tasks::{AbortOnDrop, Task, Tasks};

/// Most members remembered, a user in a scope each, where each user is in two at least: the site and a community, or the
/// site twice as many; some 300 bytes each. Beyond that, those seen longest ago are forgotten first.
const MEMBERS: NonZeroUsize = NonZeroUsize::new(200_000).unwrap();

/// A store with a memory in front. Dropping it ends the tasks that touch again.
pub struct Mirrored {
    mirror: Arc<Mirror>,
    tasks: Tasks,
    /// Forwards changes, from the first subscription on.
    feed: OnceLock<AbortOnDrop>,
    _healers: Vec<AbortOnDrop>,
}

struct Mirror {
    store: Arc<dyn Presence>,
    memory: InMemory,
    domains: FailureDomains,
    changes: CountChanges,
    started: Moment,
    window: Window,
    patience: Duration,
    metrics: Arc<Metrics>,
}

impl Mirrored {
    /// Puts a memory in front of `store`, which notes in `domains` when it may have lost touches. Users are present
    /// for `window`, as in the store. A read waits for the store at most for `patience`. Re-touches run as one of
    /// `tasks`.
    pub fn start(
        store: Arc<dyn Presence>,
        window: Window,
        patience: Duration,
        domains: FailureDomains,
        metrics: Arc<Metrics>,
        tasks: &Tasks,
    ) -> Self {
        let mirror = Arc::new(Mirror {
            store,
            memory: InMemory::bounded(window.clone(), SteadyClock::steady(moment::steady()), MEMBERS),
            domains,
            changes: CountChanges::new(),
            started: Moment::now(),
            window,
            patience,
            metrics,
        });
        let heal = |domain: &Arc<FailureDomain>| {
            let (mirror, domain) = (Arc::clone(&mirror), Arc::clone(domain));
            tasks.keep(Task::Retouches, move || {
                Arc::clone(&mirror).heal(Arc::clone(&domain))
            })
        };
        let healers = mirror.domains.all().map(|domain| heal(domain).into()).collect();
        Self {
            mirror,
            tasks: tasks.clone(),
            feed: OnceLock::new(),
            _healers: healers,
        }
    }
}

#[async_trait]
impl Presence for Mirrored {
    fn remember(&self, scope: &Scope, touches: &[Touch]) {
        // An error is ignored: `touch` returns it again.
        let _ = self.mirror.memory.take(scope, touches);
    }

    /// Remembers first: a touch that the store does not take is then made again.
    async fn touch(&self, scope: &Scope, touches: &[Touch]) -> Result<Count, PresenceError> {
        let mirror = &self.mirror;
        mirror.memory.take(scope, touches)?;
        let owed = Owed(mirror.domains.of(scope));
        let count = mirror.store.touch(scope, touches).await?;
        owed.taken();
        Ok(count)
    }

    async fn touch_together(&self, groups: &[TouchedGroup]) -> Vec<Result<Count, PresenceError>> {
        let mirror = &self.mirror;
        let Some(first) = groups.first() else {
            return Vec::new();
        };
        // They were announced, so they are remembered. They share a part of the store, and so a failure domain.
        let owed = Owed(mirror.domains.of(&first.scope));
        let outcomes = mirror.store.touch_together(groups).await;
        // What memory does not take either need not be made again.
        if outcomes
            .iter()
            .all(|outcome| matches!(outcome, Ok(_) | Err(PresenceError::Community)))
        {
            owed.taken();
        }
        outcomes
    }

    fn part_of(&self, scope: &Scope) -> Option<u16> {
        self.mirror.store.part_of(scope)
    }

    fn counts(&self, scopes: Vec<Scope>) -> CountStream<'_> {
        let mirror = &self.mirror;
        let mut is_counted = false;
        mirror
            .store_counts(scopes)
            .map(move |(scope, answer)| {
                let answer = mirror.count(&scope, answer);
                if !is_counted && matches!(answer, Ok(Answer { stale: true, .. })) {
                    is_counted = true;
                    mirror.metrics.stale_answers.inc();
                }
                (scope, answer)
            })
            .boxed()
    }

    /// Asks about each failure domain separately; of those that the store does not tell, those remembered.
    async fn communities(&self, limit: usize) -> Result<Answer<Vec<CommunityId>>, PresenceError> {
        let mirror = &self.mirror;
        let domains = mirror.domains.all().enumerate();
        let asked =
            domains.map(|(place, domain)| mirror.ask(domain, mirror.store.communities_of(place, limit)));
        let answers = try_join_all(asked).await?;
        let is_missing: Vec<_> = answers.iter().map(Option::is_none).collect();
        let told = answers.into_iter().flatten().flat_map(|answer| answer.value);
        if !is_missing.contains(&true) {
            return Ok(Answer::current(told.take(limit).collect()));
        }
        mirror.metrics.stale_answers.inc();
        let mut remembered = mirror.memory.communities(usize::MAX).await?.value;
        remembered.retain(|community| is_missing[mirror.domains.index_of(&community.into())]);
        Ok(Answer::stale(told.chain(remembered).take(limit).collect()))
    }

    async fn list(
        &self,
        scope: &Scope,
        after: Option<&Seen>,
        limit: usize,
    ) -> Result<Answer<Vec<Seen>>, PresenceError> {
        let mirror = &self.mirror;
        let domain = mirror.domains.of(scope);
        if let Some(answer) = mirror.ask(domain, mirror.store.list(scope, after, limit)).await? {
            return Ok(answer);
        }
        mirror.metrics.stale_answers.inc();
        let shift = mirror.shift(domain);
        let after = after.map(|last| Seen {
            user: last.user.clone(),
            last_seen: moved(last.last_seen, -shift),
        });
        let page = mirror.memory.list(scope, after.as_ref(), limit).await?.value;
        Ok(Answer::stale(told(page, shift)))
    }

    async fn present(&self, scope: &Scope, users: &[UserId]) -> Result<Answer<Vec<Seen>>, PresenceError> {
        let mirror = &self.mirror;
        let domain = mirror.domains.of(scope);
        if let Some(answer) = mirror.ask(domain, mirror.store.present(scope, users)).await? {
            return Ok(answer);
        }
        mirror.metrics.stale_answers.inc();
        let present = mirror.memory.present(scope, users).await?.value;
        Ok(Answer::stale(told(present, mirror.shift(domain))))
    }

    /// The store's also where it may lack touches: it has the peak, which does not depend on them.
    async fn peak_of_the_day(&self) -> Result<Answer<u64>, PresenceError> {
        let mirror = &self.mirror;
        let domain = mirror.domains.of(&Scope::Site);
        let answer = timeout(mirror.patience, mirror.store.peak_of_the_day()).await;
        let answer = answer.unwrap_or_else(|_| Err(too_slow()));
        match answer {
            Err(error) if mirror.makes_up_for(&error, domain) => {
                let peak = mirror.memory.peak_of_the_day().await?.value;
                Ok(Answer::stale(peak))
            }
            answer => answer,
        }
    }

    /// Removals from memory are not reported: the store reports its own changes.
    async fn sweep(&self) -> Result<Sweep, PresenceError> {
        self.sweep_memory().await?;
        self.mirror.store.sweep().await
    }

    async fn sweep_in_turn(&self) -> Result<Sweep, PresenceError> {
        self.sweep_memory().await?;
        self.mirror.store.sweep_in_turn().await
    }

    async fn leave_sweeps(&self) {
        self.mirror.store.leave_sweeps().await;
    }

    fn window(&self) -> Option<Duration> {
        Some(self.mirror.window.time())
    }

    fn shares_grants(&self) -> bool {
        self.mirror.store.shares_grants()
    }

    fn losses(&self) -> Option<FailureDomains> {
        self.mirror.store.losses()
    }

    async fn note_grants(
        &self,
        community: &CommunityId,
        grants: &[Grant],
    ) -> Result<Vec<Option<NotedGrant>>, PresenceError> {
        self.mirror.store.note_grants(community, grants).await
    }

    async fn grant(&self, scope: &Scope, user: &UserId) -> Result<Option<NotedGrant>, PresenceError> {
        let answer = timeout(self.mirror.patience, self.mirror.store.grant(scope, user)).await;
        answer.unwrap_or_else(|_| Err(too_slow()))
    }

    async fn ping(&self) -> Result<(), PresenceError> {
        self.mirror.store.ping().await
    }

    fn subscribe(&self) -> Subscription {
        self.feed()
    }
}

impl Mirrored {
    async fn sweep_memory(&self) -> Result<(), PresenceError> {
        let mirror = &self.mirror;
        mirror.memory.sweep().await?;
        #[expect(clippy::cast_precision_loss, reason = "at most 200 000")]
        mirror.metrics.remembered.set(mirror.memory.members() as f64);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
