//! Presence in a store that may be away or forget, with a memory of this sidecar's own in front (P14).
//!
//! Whatever this sidecar touches it also remembers, for the window, at most 100,000 members. That memory is
//! used for two things only:
//!
//! - **Reads** while the store is away, slow, or known to have lost something that is not yet touched again:
//!   they are answered from memory and marked stale. Memory tells less than the store (other sidecars' visitors
//!   are missing), never more.
//! - **Re-touches** when the store may have lost touches ([`Losses`]) or did not take one: everybody remembered
//!   is touched again, with their true age, so that nobody stays longer than their window and nobody who left
//!   comes back. Touches of the same user by several sidecars are one visitor (P12).
//!
//! A client that reads page after page while answers change over from store to memory may see somebody twice,
//! but misses nobody whom this sidecar saw: it remembers before it touches.
//!
//! What memory cannot tell fails: until the store was there once, or a whole window has passed since the start,
//! it would know next to nothing.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{fmt, io};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::losses::Losses;
use super::memory::Memory;
use super::worker::Health;
use super::{Answer, Count, Presence, PresenceError, Seen, Sweep, Touch};
use crate::ids::CommunityId;
use crate::metrics::Metrics;
use crate::presence::changes::Subscription;

/// Most members remembered, a user in a community each; some 300 bytes each. Beyond, those seen longest ago are
/// forgotten first.
const MEMBERS: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();
/// Communities touched again at a time: fresh touches stand behind so many calls at most.
const CONCURRENCY: usize = 8;
/// Until a re-touch that failed is tried again, unless the store comes back before; put off or brought forward
/// by up to a quarter.
const RETRY: Duration = Duration::from_secs(1);

/// A store with a memory in front. Dropping it ends the task that touches again.
pub struct Mirrored {
    mirror: Arc<Mirror>,
    healer: JoinHandle<()>,
}

struct Mirror {
    store: Arc<dyn Presence>,
    memory: Memory,
    /// What memory's clock lacks to the store's, in milliseconds, as of the store's last answer: stale answers
    /// go by the store's time, too (P3), and cursors lead from one to the other.
    shift: AtomicI64,
    /// Occasions on which the store may have lost touches, and how many of them came before everybody was
    /// touched again.
    losses: Losses,
    losses_mended: AtomicU64,
    /// The same for calls that the store did not take.
    refusals: AtomicU64,
    refusals_mended: AtomicU64,
    started: Instant,
    window: Duration,
    patience: Duration,
    metrics: Arc<Metrics>,
}

impl Mirrored {
    /// Puts a memory in front of `store`, which notes in `losses` when it may have lost something. Users are
    /// present for `window`. A read waits for the store at most for `patience`. Re-touches run on `runtime`.
    pub fn start(
        store: Arc<dyn Presence>,
        window: Duration,
        patience: Duration,
        losses: Losses,
        metrics: Arc<Metrics>,
        runtime: &Handle,
    ) -> Self {
        let mirror = Arc::new(Mirror {
            store,
            memory: Memory::bounded(window, Arc::new(steady_clock()), MEMBERS),
            shift: AtomicI64::new(0),
            losses,
            losses_mended: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
            refusals_mended: AtomicU64::new(0),
            started: Instant::now(),
            window,
            patience,
            metrics,
        });
        let healer = runtime.spawn(Arc::clone(&mirror).heal());
        Self { mirror, healer }
    }
}

impl Drop for Mirrored {
    fn drop(&mut self) {
        self.healer.abort();
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
    /// Remembers first: what the store does not take is owed to it.
    async fn touch(&self, community: &CommunityId, touches: &[Touch]) -> Result<Count, PresenceError> {
        let mirror = &self.mirror;
        mirror.memory.touch(community, touches).await?;
        let outcome = mirror.store.touch(community, touches).await;
        match &outcome {
            Ok(count) => mirror.told_the_time(count),
            Err(_) => {
                mirror.refusals.fetch_add(1, Ordering::SeqCst);
            }
        }
        outcome
    }

    async fn counts(&self, communities: &[CommunityId]) -> Result<Answer<Vec<Count>>, PresenceError> {
        let mirror = &self.mirror;
        if let Some(answer) = mirror.ask(mirror.store.counts(communities)).await? {
            if let Some(count) = answer.value.first() {
                mirror.told_the_time(count);
            }
            return Ok(answer);
        }
        let shift = mirror.shift();
        let mut counts = mirror.memory.counts(communities).await?.value;
        for count in &mut counts {
            count.seq = 0;
            count.as_of = moved(count.as_of, shift);
        }
        Ok(Answer::stale(counts))
    }

    async fn communities(&self, limit: usize) -> Result<Answer<Vec<CommunityId>>, PresenceError> {
        let mirror = &self.mirror;
        if let Some(answer) = mirror.ask(mirror.store.communities(limit)).await? {
            return Ok(answer);
        }
        mirror
            .memory
            .communities(limit)
            .await
            .map(|answer| Answer::stale(answer.value))
    }

    async fn list(
        &self,
        community: &CommunityId,
        after: Option<&Seen>,
        limit: usize,
    ) -> Result<Answer<Vec<Seen>>, PresenceError> {
        let mirror = &self.mirror;
        if let Some(answer) = mirror.ask(mirror.store.list(community, after, limit)).await? {
            return Ok(answer);
        }
        let shift = mirror.shift();
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

    /// What memory forgets is nobody's business: the store tells the changes.
    async fn sweep(&self) -> Result<Sweep, PresenceError> {
        let mirror = &self.mirror;
        mirror.memory.sweep().await?;
        #[expect(clippy::cast_precision_loss, reason = "at most 100 000")]
        mirror
            .metrics
            .presence_remembered
            .set(mirror.memory.members() as f64);
        mirror.store.sweep().await
    }

    async fn ping(&self) -> Result<(), PresenceError> {
        self.mirror.store.ping().await
    }

    fn subscribe(&self) -> Subscription {
        self.mirror.store.subscribe()
    }
}

impl Mirror {
    /// What the store says; `None` where memory must do.
    async fn ask<T>(
        &self,
        question: impl Future<Output = Result<T, PresenceError>>,
    ) -> Result<Option<T>, PresenceError> {
        let answer = if self.is_whole() {
            let answer = timeout(self.patience, question).await;
            answer.unwrap_or_else(|_| Err(unavailable("the presence store took too long to answer")))
        } else {
            Err(unavailable("the presence store lacks touches"))
        };
        match answer {
            // Unless it has lost something meanwhile.
            Ok(answer) if self.is_whole() => Ok(Some(answer)),
            Err(error) if !matches!(error, PresenceError::Unavailable(_)) || !self.remembers_enough() => {
                Err(error)
            }
            _ => {
                self.metrics.presence_stale_answers.inc();
                Ok(None)
            }
        }
    }

    /// Whether the store has everybody who is remembered, as far as is known.
    fn is_whole(&self) -> bool {
        !self.needs_mending() || self.memory.members() == 0
    }

    /// Whether something may be missing in the store.
    fn needs_mending(&self) -> bool {
        self.losses_mended.load(Ordering::SeqCst) != self.losses.occasions()
            || self.refusals_mended.load(Ordering::SeqCst) != self.refusals.load(Ordering::SeqCst)
    }

    /// Whether memory is worth more than no answer.
    fn remembers_enough(&self) -> bool {
        self.losses.occasions() > 0 || self.started.elapsed() >= self.window
    }

    /// An answer says what the store's time is now.
    fn told_the_time(&self, count: &Count) {
        let shift = count.as_of - self.memory.time();
        self.shift.store(shift.num_milliseconds(), Ordering::Relaxed);
    }

    fn shift(&self) -> TimeDelta {
        TimeDelta::milliseconds(self.shift.load(Ordering::Relaxed))
    }

    /// Touches again whenever that is needed. Never ends by itself.
    async fn heal(self: Arc<Self>) {
        let mut losses = self.losses.watch();
        let mut retouches = Health::new("re-touches");
        loop {
            if self.needs_mending() {
                let outcome = self.touch_all_again().await;
                retouches.note(outcome.as_ref().err());
            }
            let pause = RETRY.mul_f64(rand::random_range(0.75..1.25));
            tokio::select! {
                _ = losses.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Touches everybody remembered, or stops at the first call that fails.
    async fn touch_all_again(&self) -> Result<(), PresenceError> {
        // Before anybody is looked at: what is lost or refused from here on makes another round.
        let (losses, refusals) = (self.losses.occasions(), self.refusals.load(Ordering::SeqCst));
        let communities = self.memory.communities(usize::MAX).await?.value;
        let touches: usize = stream::iter(communities)
            .map(|community| self.touch_again(community))
            .buffer_unordered(CONCURRENCY)
            .try_fold(0, async |all, some| Ok(all + some))
            .await?;
        self.losses_mended.store(losses, Ordering::SeqCst);
        self.refusals_mended.store(refusals, Ordering::SeqCst);
        if touches > 0 {
            tracing::info!(touches, "touched again those whom the presence store may lack");
        }
        Ok(())
    }

    async fn touch_again(&self, community: CommunityId) -> Result<usize, PresenceError> {
        let touches = self.memory.touches(&community);
        if !touches.is_empty() {
            let count = self.store.touch(&community, &touches).await?;
            self.told_the_time(&count);
            self.metrics.presence_retouches.inc_by(touches.len() as u64);
        }
        Ok(touches.len())
    }
}

/// Starts at this machine's time, and is not set when that is: ages stay true.
fn steady_clock() -> impl Fn() -> DateTime<Utc> {
    let (time, start) = (Utc::now(), Instant::now());
    move || time + TimeDelta::from_std(start.elapsed()).unwrap_or_default()
}

/// As it is where the sum is no time: only made-up cursors are so far off.
fn moved(time: DateTime<Utc>, shift: TimeDelta) -> DateTime<Utc> {
    time.checked_add_signed(shift).unwrap_or(time)
}

fn unavailable(why: &'static str) -> PresenceError {
    PresenceError::Unavailable(io::Error::new(io::ErrorKind::TimedOut, why).into())
}

#[cfg(test)]
mod tests;
