//! Counters: columns of the app's community table with who is there now, and all-time visitors and page views.
//!
//! A cache for the app's own pages: the sidecar's answers never read them. One sidecar writes at a time, the one with the
//! lease; each `interval` it adds up what batches have added (`rounds`), and once a day it compares all counters with the
//! events (`reconciliation`).
//!
//! Invariant: nothing here happens in the transaction of a batch. What that leaves behind commits with its events, so that
//! the counters can be made from it at any time, by any sidecar.

mod in_turn;
mod lease;
mod metrics;
mod omissions;
mod pending;
mod reconciliation;
mod rounds;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::config::{self, Config};
use crate::ids::CommunityId;
use crate::presence::Presence;
use crate::shutdown::Shutdown;
use crate::status::Component;
use crate::store::CounterStore;
use crate::tasks::{Task, Tasks};
use in_turn::Reconciler;
use lease::HeldLease;
pub use metrics::Metrics;
use pending::PendingCursor;

/// Longest time in which the lease is given up when the process ends.
const RELEASING: Duration = Duration::from_secs(1);

/// Keeps the counters while it runs. A handle.
#[derive(Clone)]
pub struct CommunityCounters(Arc<Shared>);

struct Shared {
    /// This process, as a holder of the lease.
    holder: Uuid,
    config: config::Counters,
    store: Arc<dyn CounterStore>,
    /// Who is there now; `None` where that is not written.
    presence: Option<Arc<dyn Presence>>,
    metrics: Arc<Metrics>,
    lease: HeldLease,
    /// Communities that cannot be counted, or take too long, each with when it is tried again.
    postponed: Mutex<HashMap<CommunityId, Instant>>,
    pending: PendingCursor,
    /// The process serves the site.
    serves: Shutdown,
    /// The process ends: the lease is not taken again.
    ending: AtomicBool,
    /// Whether rounds succeed.
    rounds: Component,
    reconciler: Reconciler,
}

impl CommunityCounters {
    /// Starts to keep them, once `serves` is set.
    pub fn start(
        config: &Config,
        store: Arc<dyn CounterStore>,
        presence: &Arc<dyn Presence>,
        metrics: Arc<Metrics>,
        tasks: &Tasks,
        serves: Shutdown,
    ) -> Self {
        let lease = HeldLease::default();
        let writes_presence = config.writes_presence();
        let shared = Arc::new(Shared {
            holder: Uuid::new_v4(),
            config: config.counters.clone(),
            store: store.clone(),
            presence: writes_presence.then(|| presence.clone()),
            metrics: metrics.clone(),
            lease: lease.clone(),
            postponed: Mutex::default(),
            pending: PendingCursor::default(),
            serves,
            ending: AtomicBool::new(false),
            rounds: Component::default(),
            reconciler: Reconciler {
                config: config.counters.clone(),
                store,
                of_present: writes_presence,
                metrics,
                lease,
                comparisons: Component::default(),
            },
        });
        for (task, work) in [
            (Task::CountersLease, CounterTask::Lease),
            (Task::Counters, CounterTask::Rounds),
            (Task::CountersReconciliation, CounterTask::Reconciliation),
        ] {
            let shared = shared.clone();
            tasks.keep(task, move || work.run(shared.clone()));
        }
        Self(shared)
    }

    /// Writes once more what is counted, where this process has the lease, and gives that up: another sidecar need not
    /// wait until it has expired. Writing takes at most `limit`, giving up the lease one second more; what is left is written by the next
    /// holder.
    pub async fn finish(self, limit: Duration) {
        let shared = self.0;
        // First: it is not taken or renewed again, however long the round takes.
        shared.ending.store(true, Ordering::Relaxed);
        if shared.lease.is_held() {
            let _ = timeout(limit, shared.round()).await;
        }
        let last = async {
            let _ = shared.store.release_lease(shared.holder).await;
            shared.store.disconnect().await;
        };
        let _ = timeout(RELEASING, last).await;
    }
}

#[derive(Clone, Copy)]
enum CounterTask {
    Lease,
    Rounds,
    Reconciliation,
}

impl CounterTask {
    async fn run(self, shared: Arc<Shared>) {
        match self {
            Self::Lease => shared.keep_lease().await,
            Self::Rounds => shared.keep_rounds().await,
            Self::Reconciliation => shared.reconciler.keep_reconciled().await,
        }
    }
}
