//! Writes page views into the app's tables, each exactly once (step 5b, record).
//!
//! ```text
//! request ──try_send──▶ appender ──one synced commit──▶ spool ──one transaction──▶ the app's tables
//!            bounded     a few ms       on disk         applier      and ledger
//! ```
//!
//! The handle never waits. The appender writes the views of a few milliseconds to disk in one commit, and keeps as many
//! in memory as there is room for; the applier takes them from there or from the disk in batches, reads the next while it
//! writes one, and deletes a batch some time after the database has committed it together with its ledger key. So a view
//! can be lost only before it is on disk, and is never written twice: not after a crash, not after an outage, not when
//! the answer to a COMMIT is lost, not when the database loses what it had committed.
//!
//! Architecture invariant: nothing here knows of requests; whether a page view counts was decided before.

mod ahead;
pub mod appender;
pub mod applier;
mod batch_size;
mod drain;
mod failures;
mod forgetting;
mod kept;
mod late;
pub mod load;
mod metrics;
#[cfg(test)]
mod model;
mod refusals;
pub mod spool;
mod spools;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod trouble;
pub mod unresolved;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::batch::RecordedView;
use crate::communities::Communities;
use crate::config;
use crate::geoip::GeoIp;
use crate::page_view::{Dropped, Queue};
use crate::recent_pages::RecentPages;
use crate::status::{Component, Status};
use crate::store::Store;
use appender::{Appender, AppenderWaker};
use applier::Applier;
use drain::Drain;
use late::Late;
use load::{Bytes, Load};
pub use metrics::Metrics;
use spool::{Directory, Spool};
use spools::Spools;
use unresolved::UnresolvedView;

/// Most views of a transaction in SQLite.
const MOST_IN_SQLITE: NonZeroUsize = NonZeroUsize::new(500).unwrap();

/// Takes views for the app's tables.
#[derive(Clone)]
pub struct Writer {
    queue: mpsc::Sender<Message>,
    flushes: mpsc::Sender<oneshot::Sender<()>>,
    /// Views accepted and not yet in the spool.
    load: Load,
    /// Views of a full group.
    full: usize,
    limits: BatchLimits,
    spools: Arc<Spools>,
    /// Behind the queue, whose end it tells of.
    waker: AppenderWaker,
}

/// The writer's dependencies.
pub struct Dependencies {
    /// The app's tables.
    pub store: Arc<dyn Store>,
    /// Slug to id, for views that came while the database was away.
    pub communities: Arc<Communities>,
    /// Where views came from.
    pub geoip: Option<GeoIp>,
    /// The dashboard's recent pages: the latest of those that are put into the spool, and those whose visitor was identified
    /// late.
    pub recent: RecentPages,
    /// The folder of the spools.
    pub directory: Directory,
    /// This process' own spool.
    pub spool: Arc<Spool>,
    /// Where the writer's state is shown.
    pub status: Status,
}

enum Message {
    View(Box<Accepted>),
    Flush(oneshot::Sender<()>),
}

/// A view on its way to the spool.
struct Accepted {
    view: View,
    /// When it was accepted: `unspooled` counts from here.
    since: Instant,
}

enum View {
    Recorded {
        view: RecordedView,
        /// Whether the dashboard may show its page.
        is_listed: bool,
    },
    Unresolved(UnresolvedView),
}

impl View {
    fn weight(&self) -> usize {
        match self {
            Self::Recorded { view, .. } => view.view.weight(),
            Self::Unresolved(unresolved) => unresolved.weight(),
        }
    }
}

/// Sizes and times of the writer, from the configuration.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// A batch is due when this many views wait …
    pub batch_views: NonZeroUsize,
    /// … or this many bytes …
    pub batch_bytes: usize,
    /// … or when the first has waited this long.
    pub batch_age: Duration,
    /// Most views of a transaction, while there is a backlog …
    pub most_views: u64,
    /// … and most bytes in the spool.
    pub most_bytes: u64,
    /// A transaction that takes longer takes too much at a time.
    pub slow: Duration,
    /// Longest time from acceptance until a view is given to the disk.
    pub unspooled: Duration,
    /// Most that may wait on disk.
    pub spool_bytes: u64,
    /// How long rows are kept that the database has acknowledged; zero: not at all.
    pub keep_applied: Duration,
}

impl BatchLimits {
    /// Limits from their configuration sections.
    pub fn new(record: &config::Record, spool: &config::Spool, database: &config::Database) -> Self {
        // SQLite has one writer at a time: the app would wait for a large transaction.
        let (most_at_once, most_views, most_bytes) = if database.is_sqlite() {
            (MOST_IN_SQLITE, 0, 0)
        } else {
            (NonZeroUsize::MAX, 20_000, 4 << 20)
        };
        // Of more than the queue holds none would ever be full.
        let batch_views = record.batch_views.min(record.queue_views).min(most_at_once);
        Self {
            batch_views,
            batch_bytes: usize::try_from(record.batch_bytes.as_u64()).unwrap_or(usize::MAX),
            batch_age: record.batch_age,
            most_views,
            most_bytes,
            slow: database.statement_timeout / 4,
            // The rest is for the commit.
            unspooled: spool.max_unspooled / 5 * 4,
            spool_bytes: spool.max_bytes.as_u64(),
            keep_applied: record.keep_applied,
        }
    }

    /// When a view that comes at `now` was accepted, as far as that counts. One that has waited for longer than lookups
    /// ordinarily take, half of `spool.max_unspooled`, waits for others all the same: a commit for each would be too many.
    fn accepted_at(&self, now: Instant, waited: Duration) -> Instant {
        let most_waited = self.unspooled / 8 * 5;
        now.checked_sub(waited.min(most_waited)).unwrap_or(now)
    }

    /// Most bytes of dead letters, of unresolved views, and of kept rows, each: a part of the spool, so that
    /// neither bad rows nor made-up cookies keep good views out.
    fn share(&self) -> u64 {
        self.spool_bytes / 4
    }
}

impl Writer {
    /// The handle, and its two workers, which the caller must run.
    pub(crate) fn new(
        record: &config::Record,
        limits: BatchLimits,
        parts: Dependencies,
        bytes: Bytes,
        metrics: &Arc<Metrics>,
    ) -> (Self, Appender, Applier) {
        let (queue, accepted) = mpsc::channel(record.queue_views.get());
        let (flushes, asked) = mpsc::channel(16);
        let load = Load::new(Queue::Writer, bytes, &metrics.views);
        let components = (parts.status.writes.clone(), parts.status.updates.clone());
        let spools = Spools::new(parts.spool, limits.spool_bytes, parts.status);
        let spools = Arc::new(spools);
        let waker = AppenderWaker::default();
        let appender = Appender {
            queue: accepted,
            waker: waker.clone(),
            load: load.clone(),
            limits,
            directory: parts.directory.clone(),
            spools: Arc::clone(&spools),
            recent: parts.recent.clone(),
            room: Component::default(),
            metrics: Arc::clone(metrics),
        };
        let late = Late::new(Arc::clone(&parts.store), parts.communities);
        let drain = Drain::new(
            parts.store,
            late,
            parts.geoip,
            parts.recent,
            limits,
            components,
            Arc::clone(metrics),
        );
        let applier = Applier::new(
            drain,
            limits,
            parts.directory,
            Arc::clone(&spools),
            asked,
            metrics,
        );
        let handle = Self {
            queue,
            flushes,
            load,
            full: limits.batch_views.get(),
            limits,
            spools,
            waker,
        };
        (handle, appender, applier)
    }

    /// Queues a view that was accepted so long ago. Never waits.
    ///
    /// # Errors
    /// Why the view is dropped: the queue has no room for it.
    pub fn write(&self, view: RecordedView, is_listed: bool, waited: Duration) -> Result<(), Dropped> {
        self.accept(View::Recorded { view, is_listed }, waited)
    }

    /// The same for a view whose visitor or community is not known yet. Never waits.
    ///
    /// # Errors
    /// Why the view is dropped: the queue has no room for it.
    pub fn write_unresolved(&self, view: UnresolvedView, waited: Duration) -> Result<(), Dropped> {
        self.accept(View::Unresolved(view), waited)
    }

    fn accept(&self, view: View, waited: Duration) -> Result<(), Dropped> {
        let weight = view.weight();
        if !self.load.add(weight) {
            self.waker.wake();
            return Err(self.why_full());
        }
        let accepted = Accepted {
            view,
            since: self.limits.accepted_at(Instant::now(), waited),
        };
        self.queue
            .try_send(Message::View(Box::new(accepted)))
            .map_err(|_| {
                self.load.free(weight);
                self.load.done(1);
                self.why_full()
            })?;
        if self.load.views() >= self.full {
            self.waker.wake();
        }
        Ok(())
    }

    fn why_full(&self) -> Dropped {
        if self.spools.status.spool.is_down() {
            Dropped::SpoolUnavailable
        } else {
            Dropped::WriterQueueFull
        }
    }

    /// Views accepted and not yet in the spool.
    pub fn unspooled(&self) -> usize {
        self.load.views()
    }

    /// Views in this process' spools that are not yet applied.
    pub fn spooled(&self) -> u64 {
        self.spools.views()
    }

    /// Waits until everything written before is in the spool.
    pub async fn flush_to_spool(&self) {
        let (done, finished) = oneshot::channel();
        if self.queue.send(Message::Flush(done)).await.is_ok() {
            self.waker.wake();
            let _ = finished.await;
        }
    }

    /// Waits until everything written before is in the spool, and everything in it has been applied.
    pub async fn flush(&self) {
        self.flush_to_spool().await;
        let (done, finished) = oneshot::channel();
        if self.flushes.send(done).await.is_ok() {
            let _ = finished.await;
        }
    }
}
