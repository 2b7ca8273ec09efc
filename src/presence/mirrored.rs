//! A memory of this sidecar's own touches in front of a store that may be away or lose data (P14).
//!
//! Whatever this sidecar touches it also remembers, for the window, at most 100,000 members. That memory is used
//! for two things only:
//!
//! - **Reads** while the store is away, slow, or known to have lost touches that were not yet made again: they are
//!   answered from memory and marked stale. Memory holds less than the store (other sidecars' visitors are missing),
//!   never more.
//! - **Re-touches** when the store may have lost touches ([`Losses`]) or failed to take one: every remembered user
//!   is touched again, with the true age, so that no user stays longer than the window and no user who left comes
//!   back. Touches of the same user by several sidecars are one visitor (P12).
//!
//! A client that pages while answers switch from store to memory may see a user twice, but misses none that this
//! sidecar saw: it remembers before it touches.
//!
//! A read that memory cannot answer fails: until the store was reached once, or a whole window has passed since
//! the start, memory is too incomplete.
//!
//! **Changes** in parts of the store that lack touches are held back meanwhile (`feed`).
//!
//! All of this holds for each part of the store separately (see [`Losses`]): losses or failures of one part make
//! no other part's answers stale.

mod feed;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use std::{fmt, io};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::try_join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::timeout;

use self::feed::{Feed, Passer};
use super::losses::Losses;
use super::memory::Memory;
use super::moment::{self, Moment};
use super::parts::counts_by_part;
use super::worker::Health;
use super::{Answer, Count, Presence, PresenceError, Seen, SteadyClock, Sweep, Touch, Window};
use crate::ids::CommunityId;
use crate::presence::Metrics;
use crate::presence::changes::Subscription;
use crate::tasks::{Kept, Task, Tasks};

/// Most members remembered, a user in a community each; some 300 bytes each. Beyond that, those seen longest ago
/// are forgotten first.
const MEMBERS: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();
/// Communities touched again at a time, shared by the parts: fresh touches queue behind at most this many calls.
const CONCURRENCY: usize = 8;
/// Pause before a failed re-touch is tried again, unless the store comes back before; jittered by up to a quarter.
const RETRY: Duration = Duration::from_secs(1);

/// A store with a memory in front. Dropping it ends the tasks that touch again.
pub struct Mirrored {
    mirror: Arc<Mirror>,
    passer: Passer,
    _healers: Vec<Kept>,
}

struct Mirror {
    store: Arc<dyn Presence>,
    memory: Memory,
    losses: Losses,
    parts: Vec<Part>,
    feed: Feed,
    started: Moment,
    window: Window,
    patience: Duration,
    metrics: Arc<Metrics>,
}

/// State of one part of the store.
#[derive(Debug, Default)]
struct Part {
    /// This part's clock minus memory's, in milliseconds, as of its last answer: stale answers use the store's
    /// time, too (P3), and cursors work across a switch from one to the other.
    shift: AtomicI64,
    /// The number of loss occasions up to which all users were touched again.
    losses_mended: AtomicU64,
    /// Calls that failed, and how many of them came before all users were touched again.
    refusals: AtomicU64,
    refusals_mended: AtomicU64,
    /// Whether it has answered since the start.
    was_reached: AtomicBool,
}

impl Mirrored {
    /// Puts a memory in front of `store`, which notes in `losses` when it may have lost touches. Users are present
    /// for `window`, as in the store. A read waits for the store at most for `patience`. Re-touches run as one of
    /// `tasks`.
    pub fn start(
        store: Arc<dyn Presence>,
        window: Window,
        patience: Duration,
        losses: Losses,
        metrics: Arc<Metrics>,
        tasks: &Tasks,
    ) -> Self {
        let mirror = Arc::new(Mirror {
            store,
            memory: Memory::bounded(window.clone(), SteadyClock::steady(moment::steady()), MEMBERS),
            parts: losses.parts().map(|_| Part::default()).collect(),
            feed: Feed::new(losses.parts().count()),
            losses,
            started: Moment::now(),
            window,
            patience,
            metrics,
        });
        let heal = |part| {
            let mirror = Arc::clone(&mirror);
            tasks.keep(Task::Retouches, move || Arc::clone(&mirror).heal(part))
        };
        let healers = mirror.losses.parts().map(|part| heal(part).into()).collect();
        Self {
            mirror,
            passer: Passer::new(tasks),
            _healers: healers,
        }
    }
}

impl fmt::Debug for Mirrored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mirrored")
            .field("window", &self.mirror.window)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Presence for Mirrored {
    fn remember(&self, community: &CommunityId, touches: &[Touch]) {
        // An error is ignored: `touch` returns it again.
        let _ = self.mirror.memory.take(community, touches);
    }

    /// Remembers first: a touch that the store does not take is then made again.
    async fn touch(&self, community: &CommunityId, touches: &[Touch]) -> Result<Count, PresenceError> {
        let mirror = &self.mirror;
        mirror.memory.take(community, touches)?;
        let part = mirror.part(mirror.losses.part(community));
        let owed = Owed(part);
        let count = mirror.store.touch(community, touches).await?;
        owed.taken();
        mirror.told_the_time(part, &count);
        Ok(count)
    }

    /// Asks each part separately; the answer is stale if that of any part is.
    async fn counts(&self, communities: &[CommunityId]) -> Result<Answer<Vec<Count>>, PresenceError> {
        counts_by_part(
            communities,
            |community| self.part(community),
            async |part, communities| self.mirror.counts(part, &communities).await,
        )
        .await
    }

    async fn communities(&self, limit: usize) -> Result<Answer<Vec<CommunityId>>, PresenceError> {
        let mirror = &self.mirror;
        let answers = mirror.losses.parts().map(|part| mirror.communities(part, limit));
        let answers = try_join_all(answers).await?;
        let stale = answers.iter().any(|answer| answer.stale);
        let value = answers.into_iter().flat_map(|answer| answer.value);
        Ok(Answer {
            value: value.take(limit).collect(),
            stale,
        })
    }

    async fn list(
        &self,
        community: &CommunityId,
        after: Option<&Seen>,
        limit: usize,
    ) -> Result<Answer<Vec<Seen>>, PresenceError> {
        let mirror = &self.mirror;
        let part = mirror.losses.part(community);
        let question = mirror.store.list(community, after, limit);
        if let Some(answer) = mirror.ask(part, question).await? {
            return Ok(answer);
        }
        let shift = mirror.part(part).shift();
        let after = after.map(|last| Seen {
            user: last.user.clone(),
            last_seen: moved(last.last_seen, -shift),
        });
        let mut page = mirror.memory.list(community, after.as_ref(), limit).await?.value;
        for seen in &mut page {
            seen.last_seen = moved(seen.last_seen, shift);
        }
        Ok(Answer::stale(page))
    }

    /// Removals from memory are not reported: the store reports its own changes.
    async fn sweep(&self) -> Result<Sweep, PresenceError> {
        let mirror = &self.mirror;
        mirror.memory.sweep().await?;
        #[expect(clippy::cast_precision_loss, reason = "at most 100 000")]
        mirror.metrics.remembered.set(mirror.memory.members() as f64);
        let swept = mirror.store.sweep().await?;
        mirror.reached(mirror.losses.parts());
        Ok(swept)
    }

    fn window(&self) -> Option<Duration> {
        Some(self.mirror.window.time())
    }

    async fn ping(&self) -> Result<(), PresenceError> {
        self.mirror.store.ping().await
    }

    fn subscribe(&self) -> Subscription {
        self.passer.subscribe(&self.mirror)
    }

    fn part(&self, community: &CommunityId) -> u16 {
        self.mirror.losses.part(community)
    }
}

impl Mirror {
    fn part(&self, part: u16) -> &Part {
        &self.parts[usize::from(part)]
    }

    /// Counts of communities of one part.
    async fn counts(
        &self,
        part: u16,
        communities: &[CommunityId],
    ) -> Result<Answer<Vec<Count>>, PresenceError> {
        if let Some(answer) = self.ask(part, self.store.counts(communities)).await? {
            if let Some(count) = answer.value.first() {
                self.told_the_time(self.part(part), count);
            }
            return Ok(answer);
        }
        let shift = self.part(part).shift();
        let mut counts = self.memory.counts(communities).await?.value;
        for count in &mut counts {
            count.seq = 0;
            count.as_of = moved(count.as_of, shift);
        }
        Ok(Answer::stale(counts))
    }

    /// Communities of one part.
    async fn communities(&self, part: u16, limit: usize) -> Result<Answer<Vec<CommunityId>>, PresenceError> {
        if let Some(answer) = self
            .ask(part, self.store.communities_of_part(part, limit))
            .await?
        {
            return Ok(answer);
        }
        let mut remembered = self.memory.communities(usize::MAX).await?.value;
        remembered.retain(|community| self.losses.part(community) == part);
        remembered.truncate(limit);
        Ok(Answer::stale(remembered))
    }

    /// The answer of one part of the store; `None` where memory must answer.
    async fn ask<T>(
        &self,
        part: u16,
        question: impl Future<Output = Result<T, PresenceError>>,
    ) -> Result<Option<T>, PresenceError> {
        let answer = if self.is_whole(part) {
            let answer = timeout(self.patience, question).await;
            answer.unwrap_or_else(|_| Err(unavailable("the presence store took too long to answer")))
        } else {
            Err(unavailable("the presence store lacks touches"))
        };
        if answer.is_ok() {
            self.reached([part].into_iter());
        }
        match answer {
            // Unless touches were lost meanwhile.
            Ok(answer) if self.is_whole(part) => Ok(Some(answer)),
            Err(error) if !matches!(error, PresenceError::Unavailable(_)) || !self.remembers_enough(part) => {
                Err(error)
            }
            _ => {
                self.metrics.stale_answers.inc();
                Ok(None)
            }
        }
    }

    /// Whether a part of the store has all its remembered users, as far as is known.
    fn is_whole(&self, part: u16) -> bool {
        !self.needs_mending(part) || self.memory.members() == 0
    }

    /// Whether touches may be missing in a part of the store.
    fn needs_mending(&self, part: u16) -> bool {
        let occasions = self.losses.occasions(part);
        let part = self.part(part);
        part.losses_mended.load(Ordering::SeqCst) != occasions
            || part.refusals_mended.load(Ordering::SeqCst) != part.refusals.load(Ordering::SeqCst)
    }

    /// Whether memory is complete enough to be better than no answer.
    fn remembers_enough(&self, part: u16) -> bool {
        self.part(part).was_reached.load(Ordering::Relaxed) || self.started.elapsed() >= self.window.time()
    }

    /// Updates the clock difference from an answer, which has the time of its part.
    fn told_the_time(&self, part: &Part, count: &Count) {
        let shift = count.as_of - self.memory.time();
        part.shift.store(shift.num_milliseconds(), Ordering::Relaxed);
        part.was_reached.store(true, Ordering::Relaxed);
    }

    /// Notes that these parts have answered.
    fn reached(&self, parts: impl Iterator<Item = u16>) {
        for part in parts {
            self.part(part).was_reached.store(true, Ordering::Relaxed);
        }
    }

    /// Touches again whenever a part needs it. Never ends by itself.
    async fn heal(self: Arc<Self>, part: u16) {
        let mut losses = self.losses.watch();
        let mut retouches = Health::new("re-touches");
        loop {
            let seen = self.losses.occasions(part);
            if self.needs_mending(part) {
                let outcome = self.touch_all_again(part).await;
                retouches.note(outcome.as_ref().err());
                if self.is_whole(part) {
                    self.feed.mended(part);
                }
            }
            let pause = RETRY.mul_f64(rand::random_range(0.75..1.25));
            tokio::select! {
                _ = losses.wait_for(|noted| noted.get(usize::from(part)) != Some(&seen)) => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Touches all remembered users of one part, or stops at the first call that fails.
    async fn touch_all_again(&self, part: u16) -> Result<(), PresenceError> {
        // Before any user is read: losses and failures from here on cause another round.
        let losses = self.losses.occasions(part);
        let refusals = self.part(part).refusals.load(Ordering::SeqCst);
        let mut communities = self.memory.communities(usize::MAX).await?.value;
        communities.retain(|community| self.losses.part(community) == part);
        let touches: usize = stream::iter(communities)
            .map(|community| self.touch_again(community))
            .buffer_unordered(CONCURRENCY.div_ceil(self.parts.len()))
            .try_fold(0, async |all, some| Ok(all + some))
            .await?;
        let mended = self.part(part);
        mended.losses_mended.store(losses, Ordering::SeqCst);
        mended.refusals_mended.store(refusals, Ordering::SeqCst);
        if touches > 0 {
            tracing::info!(
                touches,
                "touched again all users that the presence store may lack"
            );
        }
        Ok(())
    }

    async fn touch_again(&self, community: CommunityId) -> Result<usize, PresenceError> {
        let touches = self.memory.touches(&community);
        if !touches.is_empty() {
            let count = self.store.touch(&community, &touches).await?;
            self.told_the_time(self.part(self.losses.part(&community)), &count);
            self.metrics.retouches.inc_by(touches.len() as u64);
        }
        Ok(touches.len())
    }
}

/// A touch that its part has not taken yet: counts as a failure if it has not when this is dropped.
struct Owed<'a>(&'a Part);

impl Owed<'_> {
    fn taken(self) {
        std::mem::forget(self);
    }
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        self.0.refusals.fetch_add(1, Ordering::SeqCst);
    }
}

impl Part {
    fn shift(&self) -> TimeDelta {
        TimeDelta::milliseconds(self.shift.load(Ordering::Relaxed))
    }
}

/// Unchanged where the sum is out of range: only made-up cursors are that far off.
fn moved(time: DateTime<Utc>, shift: TimeDelta) -> DateTime<Utc> {
    time.checked_add_signed(shift).unwrap_or(time)
}

fn unavailable(why: &'static str) -> PresenceError {
    PresenceError::Unavailable(io::Error::new(io::ErrorKind::TimedOut, why).into())
}

#[cfg(test)]
mod tests;
