//! Sweeps of Redis: each partition separately, so that a failing server does not stop the sweeps of the others. Which of
//! them are this sidecar's turn: `turns`.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};

use super::node::Node;
use super::turns::{FIRST, LEASE};
use super::{COMMON_PARTITION, CONCURRENCY, Redis, invoke};
use crate::presence::keys::decode;
use crate::presence::moment::Moment;
use crate::presence::shared_settings::longest_window;
use crate::presence::window::KEPT;
use crate::presence::{Count, CountChange, PresenceError, REMEMBERED, Sweep, millis};

/// Communities, and as many other scopes, per call of the sweep script.
const SWEPT_SCOPES: usize = 100;
/// Calls per partition and sweep; what is left waits for the next sweep.
const SWEEP_ROUNDS: usize = 50;
/// How long a mark outlives the last sweep: long compared with the time between sweeps, and no longer than the
/// sidecar's settings count, so that a sidecar whose settings others have dropped touches all users again.
const MARK_KEPT: Duration = KEPT;

/// No partition is left alone for longer than this part of the window: users who come meanwhile leave no earlier than a
/// window later, or a little earlier where their touch waited.
const A_PART_OF_THE_WINDOW: u32 = 8;

/// Answer of the sweep script: now, lag, whether more are due, the mark before, settings in use, changes, whether this
/// sidecar holds the lease, time until a scope is due.
type SweepReply = (
    i64,
    i64,
    bool,
    Option<u64>,
    Vec<String>,
    Vec<(String, u64, u64)>,
    bool,
    i64,
);

/// Result of sweeping one failure domain.
#[derive(Debug, Default)]
struct SweptDomain {
    has_failed: AtomicBool,
    has_lost: AtomicBool,
    /// The longest window in use, in milliseconds.
    window: AtomicI64,
}

impl SweptDomain {
    /// Whether it has lost something, or could not be asked.
    fn may_lack(&self) -> bool {
        self.has_lost.load(Ordering::Relaxed) || self.has_failed.load(Ordering::Relaxed)
    }
}

impl Redis {
    /// All partitions.
    pub(super) async fn sweep_all(&self) -> Result<Sweep, PresenceError> {
        self.sweep_partitions(self.keys.partitions().collect()).await
    }

    /// Those whose turn it is: the first tells whether this sidecar sweeps the others.
    pub(super) async fn sweep_due(&self) -> Result<Sweep, PresenceError> {
        let mut swept = self.sweep_partitions(self.turns.firsts()).await?;
        let others = self.turns.due_others(Moment::now());
        swept.add(self.sweep_partitions(others).await?);
        Ok(swept)
    }

    /// Gives the lease up where this sidecar has it: its key expires at once, unless another has it by now.
    pub(super) async fn give_up_lease(&self) {
        if !self.turns.gives_up() {
            return;
        }
        let mut call = self.leave.prepare_invoke();
        call.key(self.keys.sweeper(FIRST)).arg(self.marks.id());
        let leave = async |redis: Node| invoke::<()>(&call, redis).await;
        if let Err(error) = self.servers.call(FIRST, leave).await {
            tracing::debug!(%error, "the lease of the sweeps is not given up; another sidecar sweeps when it has passed");
        }
    }

    /// A failure domain is left at its first failure; the others are still swept.
    async fn sweep_partitions(&self, partitions: Vec<u16>) -> Result<Sweep, PresenceError> {
        let domains: Vec<_> = self.domains.all().map(|_| SweptDomain::default()).collect();
        let outcomes = stream::iter(partitions).map(|partition| {
            let domain = &domains[self.domains.index(partition)];
            self.sweep_partition_of(domain, partition)
        });
        // In a Cluster all at once: those of a node that hangs keep no place from the others, whose losses are to be noticed.
        let at_once = if domains.len() > 1 {
            domains.len()
        } else {
            CONCURRENCY
        };
        let swept = outcomes
            .buffer_unordered(at_once)
            .fold(Ok(Sweep::default()), async |all, some| {
                let (mut all, some) = (all?, some?);
                all.add(some);
                Ok(all)
            })
            .await;
        self.adopt_window(&domains);
        if domains.iter().any(SweptDomain::may_lack) {
            self.turns.begin_anew();
        }
        // Also if other partitions could not be swept: the mark is written, and reports a loss only once.
        for (domain, swept) in self.domains.all().zip(domains) {
            if swept.has_lost.into_inner() {
                domain.note_loss();
            }
        }
        swept
    }

    /// Nothing if another partition of the domain has failed already.
    async fn sweep_partition_of(&self, domain: &SweptDomain, partition: u16) -> Result<Sweep, PresenceError> {
        if domain.has_failed.load(Ordering::Relaxed) {
            return Ok(Sweep::default());
        }
        let outcome = self.sweep_partition(partition, domain).await;
        if outcome.is_err() {
            domain.has_failed.store(true, Ordering::Relaxed);
        }
        outcome
    }

    /// Notes and logs how the settings of other sidecars on the same keys differ.
    fn compare(&self, differences: Vec<String>) {
        self.agreement.set(
            differences,
            |difference| tracing::warn!("{difference}"),
            |_| tracing::info!("all sidecars on the same redis.key_prefix have the same settings again"),
        );
    }

    /// Takes the longest window that any partition reports. Partitions that do not answer or have lost data may lack a
    /// longer one.
    fn adopt_window(&self, domains: &[SweptDomain]) {
        let longest = domains
            .iter()
            .map(|domain| domain.window.load(Ordering::Relaxed))
            .max();
        let may_lack = domains.iter().any(SweptDomain::may_lack);
        self.window.swept(longest.unwrap_or_default(), may_lack);
    }

    /// Also notes what it learns of the domain.
    async fn sweep_partition(&self, partition: u16, domain: &SweptDomain) -> Result<Sweep, PresenceError> {
        let mut swept = Sweep::default();
        for _ in 0..SWEEP_ROUNDS {
            let number = self.marks.next();
            let mut call = self.sweep.prepare_invoke();
            call.key(self.keys.due(partition));
            call.key(self.keys.mark(partition, self.marks.id()));
            call.key(self.keys.settings(partition));
            call.key(self.keys.finer(partition));
            if self.turns.takes_lease(partition) {
                call.key(self.keys.sweeper(partition));
            }
            call.arg(self.window.at_least()).arg(millis(REMEMBERED));
            call.arg(self.keys.changes());
            call.arg(self.keys.seen_prefix(partition));
            call.arg(self.keys.state_prefix(partition));
            call.arg(SWEPT_SCOPES);
            call.arg(number).arg(millis(MARK_KEPT));
            call.arg(self.settings().to_string());
            call.arg(self.marks.id()).arg(millis(LEASE));
            let call = &call;
            let sweep = |redis: Node| async move { invoke(call, redis.with_all_keys()?).await };
            let called = Moment::now();
            let (now, lag, more, mark, in_use, changes, holds, left): SweepReply =
                self.servers.call(partition, sweep).await?;
            if self.turns.takes_lease(partition) {
                self.turns.asked_for_lease(holds);
            }
            if self.marks.written(partition, number, mark) {
                domain.has_lost.store(true, Ordering::Relaxed);
            }
            domain
                .window
                .fetch_max(longest_window(&in_use), Ordering::Relaxed);
            if partition == COMMON_PARTITION {
                self.compare(self.settings().differences(&in_use));
            }
            let as_of = self.heard(partition, now, called)?;
            swept.lag = swept.lag.max(Duration::from_millis(lag.unsigned_abs()));
            let changes = changes.into_iter().filter_map(|(scope, current, seq)| {
                Some(CountChange {
                    scope: decode(&scope)?,
                    count: Count { current, seq, as_of },
                })
            });
            swept.changes.extend(changes);
            if !more {
                let left = u64::try_from(left).ok().map(Duration::from_millis);
                let longest = self.window.time() / A_PART_OF_THE_WINDOW;
                self.turns.swept(partition, called, left, longest);
                break;
            }
        }
        Ok(swept)
    }
}
