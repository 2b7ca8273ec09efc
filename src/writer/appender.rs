//! Appends queued page views to the spool: the views of a few milliseconds in one commit.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::load::{InProgress, Load};
use super::spool::append::Append;
use super::spool::encode::StoredViews;
use super::spool::{Directory, Spool, SpoolError};
use super::spools::Spools;
use super::unresolved::{UnresolvedView, VisitorRef};
use super::{BatchLimits, Message, View};
use crate::batch::RecordedView;
use crate::page_view::Dropped;
use crate::recent_pages::{KEPT, RecentPages};
use crate::retry::Backoff;
use crate::status::Component;
use crate::tasks::{Task, Tasks};
use crate::writer::Metrics;

/// First and longest pause between two tries to write the spool.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));

/// Writes views to disk while it runs.
pub struct Appender {
    pub(super) queue: mpsc::Receiver<Message>,
    pub(super) waker: AppenderWaker,
    pub(super) load: Load,
    pub(super) limits: BatchLimits,
    pub(super) directory: Directory,
    pub(super) spools: Arc<Spools>,
    pub(super) recent: RecentPages,
    /// Down while the spool has none.
    pub(super) room: Component,
    pub(super) metrics: Arc<Metrics>,
}

/// Ends the appender's wait for the rest of a group. Handles wake it so, and not by each further view: waking another
/// thread is a system call, made in the request.
#[derive(Clone, Default)]
pub(super) struct AppenderWaker(Arc<Notify>);

impl AppenderWaker {
    /// The group is full, or somebody waits for it.
    pub(super) fn wake(&self) {
        self.0.notify_one();
    }
}

impl Drop for AppenderWaker {
    /// It may be that of the last handle.
    fn drop(&mut self) {
        self.wake();
    }
}

/// What goes into one commit.
struct Group {
    recorded: Vec<RecordedView>,
    /// Which of them the dashboard may show, in their order.
    listed: Vec<usize>,
    unresolved: Vec<UnresolvedView>,
    hand: InProgress,
    flushes: Vec<oneshot::Sender<()>>,
    is_last: bool,
}

impl Group {
    fn new(hand: InProgress) -> Self {
        Self {
            recorded: Vec::new(),
            listed: Vec::new(),
            unresolved: Vec::new(),
            hand,
            flushes: Vec::new(),
            is_last: false,
        }
    }

    /// Shows the latest pages, as many as are kept: of thousands a second the others would be gone at once.
    fn show(&self, recent: &RecentPages) {
        let latest = self.listed.len().saturating_sub(KEPT);
        let listed = self.listed[latest..].iter();
        for recorded in listed.filter_map(|place| self.recorded.get(*place)) {
            recent.note(&recorded.view, recorded.community.as_ref());
        }
    }

    fn push(&mut self, view: View) {
        self.hand.take(view.weight());
        match view {
            View::Recorded { view, is_listed } => {
                if is_listed {
                    self.listed.push(self.recorded.len());
                }
                self.recorded.push(view);
            }
            View::Unresolved(view) => self.unresolved.push(view),
        }
    }
}

impl Appender {
    /// Runs until every handle is gone and everything is in the spool, or until `stop` turns true;
    /// [`super::Writer::unspooled`] then counts what is not in the spool.
    pub(crate) fn start(self, tasks: &Tasks, stop: watch::Receiver<bool>) -> JoinHandle<()> {
        tasks.keep_worker(Task::Appender, (self, stop), |(appender, stop)| {
            appender.run(stop.clone()).boxed()
        })
    }

    async fn run(&mut self, stop: watch::Receiver<bool>) {
        let stopped = async move {
            let mut stop = stop;
            let _ = stop.wait_for(|stop| *stop).await;
        };
        tokio::select! {
            () = stopped => {}
            () = self.work() => {}
        }
    }

    async fn work(&mut self) {
        loop {
            let mut group = self.collect().await;
            if group.hand.views() > 0 {
                group.hand.free();
                group.show(&self.recent);
                self.append(group.recorded, group.unresolved).await;
                group.hand.done();
            }
            for done in group.flushes {
                let _ = done.send(());
            }
            if group.is_last {
                return;
            }
        }
    }

    /// Waits for a view, then as long as it may wait, unless the group is full before; takes all that are queued,
    /// including those that arrived during the last commit.
    async fn collect(&mut self) -> Group {
        let mut group = Group::new(InProgress::new(&self.load));
        let mut due: Option<Instant> = None;
        loop {
            let message = match (self.queue.try_recv(), due) {
                (Ok(message), _) => Some(message),
                (Err(TryRecvError::Disconnected), _) => None,
                (Err(TryRecvError::Empty), None) => self.queue.recv().await,
                (Err(TryRecvError::Empty), Some(due)) if due <= Instant::now() => return group,
                (Err(TryRecvError::Empty), Some(due)) => {
                    tokio::select! {
                        () = sleep_until(due) => {}
                        () = self.waker.0.notified() => {}
                    }
                    continue;
                }
            };
            match message {
                Some(Message::View(accepted)) => {
                    due.get_or_insert(accepted.since + self.limits.unspooled);
                    group.push(accepted.view);
                    let is_full = group.hand.views() >= self.limits.batch_views.get()
                        || group.hand.weight() >= self.limits.batch_bytes;
                    if is_full {
                        return group;
                    }
                }
                Some(Message::Flush(done)) => {
                    group.flushes.push(done);
                    return group;
                }
                None => {
                    group.is_last = true;
                    return group;
                }
            }
        }
    }

    /// Puts views into the spool as soon as it can be written, unless it is full.
    async fn append(&mut self, recorded: Vec<RecordedView>, unresolved: Vec<UnresolvedView>) {
        let spool = self.spools.own.load_full();
        let waiting = spool.waiting();
        if self.spools.bytes() >= self.limits.spool_bytes {
            let reason = "the spool has reached spool.max_bytes; page views are dropped until it has room";
            self.room.down(reason, |reason| tracing::error!("{reason}"));
            let views = recorded.len() + unresolved.len();
            self.metrics.views.dropped[Dropped::SpoolFull].inc_by(views as u64);
            return;
        }
        self.room.up(|_| tracing::info!("the spool has room again"));
        let mut bodies = Vec::new();
        if !recorded.is_empty() {
            bodies.push(StoredViews::Recorded(recorded));
        }
        if waiting.unresolved_bytes >= self.limits.share() {
            for view in &unresolved {
                let reason = match view.whose {
                    VisitorRef::Token(_) => Dropped::SessionUnavailable,
                    VisitorRef::Session { .. } => Dropped::CommunityUnavailable,
                };
                self.metrics.views.dropped[reason].inc();
            }
        } else if !unresolved.is_empty() {
            bodies.push(StoredViews::Unresolved(unresolved));
        }
        if !bodies.is_empty() {
            self.append_retrying(bodies).await;
            self.spools.show();
            self.spools.appended.notify_one();
        }
    }

    async fn append_retrying(&self, bodies: Vec<StoredViews>) {
        let mut backoff = PAUSES;
        let mut append = Append::new(bodies);
        loop {
            let spool = self.spools.own.load_full();
            let start = Instant::now();
            // A deleted file still takes writes, and keeps none.
            let appended = if spool.is_in_place() {
                spool.append(&mut append).await
            } else {
                Err(std::io::Error::from(std::io::ErrorKind::NotFound).into())
            };
            match appended {
                Ok(()) => {
                    self.spools.is_disk_full.store(false, Ordering::Relaxed);
                    self.metrics.append_duration.observe(start.elapsed());
                    let spool = &self.spools.status.spool;
                    spool.up(|_| tracing::info!("the spool can be written again"));
                    return;
                }
                Err(error) => {
                    self.failed(&spool, &error).await;
                    let is_replaced = self.spools.own.load().id() != spool.id();
                    if is_replaced && matches!(spool.has_taken(&append).await, Ok(true)) {
                        return;
                    }
                }
            }
            sleep(backoff.pause()).await;
        }
    }

    /// Logs a failure once, and creates a new spool where the old one can no longer be used. The failure is told before that:
    /// on a disk that hangs nothing may come back from the folder.
    async fn failed(&self, spool: &Arc<Spool>, error: &SpoolError) {
        let status = &self.spools.status.spool;
        // While it lasts, the reason may be why no new one can be created.
        if !status.is_down() {
            status.down(self.directory.explain(error), |error| {
                tracing::error!(
                    error,
                    "page views cannot be put into the spool: they wait in memory (record.queue_bytes), and what does not fit \
                     there is dropped; trying again"
                );
            });
        }
        let mut is_disk_full = error.is_unwritable();
        if error.is_damage() || !spool.is_in_place() {
            let new = self.directory.create().await;
            is_disk_full = new.as_ref().is_err_and(SpoolError::is_unwritable);
            match new {
                Ok(new) => {
                    let (old, new_id) = (spool.id(), new.id());
                    self.spools.own.store(new);
                    self.spools.adopt([Arc::clone(spool)]);
                    tracing::warn!(%old, new = %new_id, "a new spool takes the place of one that cannot be used");
                }
                // That tells more than that the former one is not there.
                Err(error) => status.down_for(self.directory.explain(&error), |error| {
                    tracing::error!(
                        error,
                        "no new spool can be created: page views wait in memory (record.queue_bytes), and what does not fit \
                         there is dropped; trying again"
                    );
                }),
            }
        } else {
            status.down(self.directory.explain(error), |_| {});
        }
        self.spools.is_disk_full.store(is_disk_full, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, RecentPrecision};
    use crate::page_view::Metrics as ViewMetrics;
    use crate::page_view::Queue;
    use crate::status::Status;
    use crate::writer::load::Bytes;
    use crate::writer::testing;

    #[test]
    fn v53_the_latest_pages_of_a_group_are_shown_but_for_hidden_members() {
        let metrics = Arc::<ViewMetrics>::default();
        let load = Load::new(Queue::Writer, Bytes::new(1 << 24, &metrics), &metrics);
        let mut group = Group::new(InProgress::new(&load));
        let most = 60;
        for second in 0..most {
            let mut view = testing::recorded("/c/rust/");
            view.view.at = chrono::DateTime::from_timestamp(second, 0).expect("a time");
            let is_listed = second != most - 1;
            group.push(View::Recorded { view, is_listed });
        }
        let recent = RecentPages::new(RecentPrecision::Path);
        group.show(&recent);
        let shown = recent.latest();
        assert_eq!(shown.len(), KEPT);
        assert_eq!(
            shown[0].1.at.timestamp(),
            most - 2,
            "the last one is of a hidden member"
        );
        assert_eq!(shown[KEPT - 1].0, 1, "no more were noted than are kept");
        group.hand.free();
        group.hand.done();
    }

    /// Of a folder on a disk that hangs nothing may come back: here the failure is cut off while another spool is made.
    #[tokio::test]
    async fn w12_a_spool_that_cannot_be_written_is_told_before_another_is_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let spool_config = config::Spool {
            dir: folder.path().join("spool"),
            ..config::Spool::default()
        };
        let directory = Directory::prepare(&spool_config).expect("a folder");
        let spool = directory.create().await.expect("a spool");
        let limits = BatchLimits::new(
            &config::Record::default(),
            &spool_config,
            &config::Database::default(),
        );
        let status = Status::default();
        let metrics = Arc::<Metrics>::default();
        let bytes = Bytes::new(1 << 24, &metrics.views);
        let (_views, queue) = mpsc::channel(1);
        let appender = Appender {
            queue,
            waker: AppenderWaker::default(),
            load: Load::new(Queue::Writer, bytes, &metrics.views),
            limits,
            directory,
            spools: Arc::new(Spools::new(
                Arc::clone(&spool),
                limits.spool_bytes,
                status.clone(),
            )),
            recent: RecentPages::new(RecentPrecision::Path),
            room: Component::default(),
            metrics,
        };
        assert!(!status.spool.is_down());
        std::fs::remove_dir_all(&spool_config.dir).expect("it is gone");
        std::fs::create_dir(&spool_config.dir).expect("a folder");
        let gone = std::io::Error::from(std::io::ErrorKind::NotFound).into();
        let failed = appender.failed(&spool, &gone).now_or_never();
        assert_eq!(failed, None, "another spool is not made at once");
        assert!(status.spool.is_down());
    }
}
