//! The writer's worker: collects batches and applies them, one after the other.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use super::Message;
use super::batch::{Batch, BatchLimits, RecordedView};
use crate::geoip::GeoIp;
use crate::metrics::{Dropped, Metrics};
use crate::recorder::load::Load;
use crate::store::{Store, StoreError};

/// Longest pause between two tries.
const MAX_DELAY: Duration = Duration::from_secs(5);

pub(super) struct Worker {
    pub(super) queue: mpsc::Receiver<Message>,
    pub(super) load: Load,
    pub(super) limits: BatchLimits,
    pub(super) store: Arc<dyn Store>,
    /// Fills in where views came from.
    pub(super) geoip: Option<GeoIp>,
    pub(super) metrics: Arc<Metrics>,
}

/// Why a batch was closed.
enum Closed {
    /// Full or old enough.
    Due,
    /// Somebody waits for it.
    Flush(oneshot::Sender<()>),
    /// Every handle is gone.
    End,
}

impl Worker {
    pub(super) async fn run(mut self) {
        loop {
            let (mut batch, closed) = self.collect().await;
            if !batch.views.is_empty() {
                self.locate(&mut batch);
                let views = batch.views.len();
                let weight = batch.views.iter().map(RecordedView::weight).sum();
                self.apply(batch).await;
                // Only now is the memory free again.
                self.load.free(weight);
                self.load.done(views);
            }
            match closed {
                Closed::Due => {}
                Closed::Flush(done) => {
                    let _ = done.send(());
                }
                Closed::End => break,
            }
        }
    }

    /// Waits for views until the batch is full, or its first view has waited long enough.
    async fn collect(&mut self) -> (Batch, Closed) {
        let mut batch = Batch::default();
        let mut bytes = 0;
        let mut due: Option<Instant> = None;
        loop {
            let message = tokio::select! {
                biased;
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    return (batch, Closed::Due);
                }
                message = self.queue.recv() => message,
            };
            match message {
                Some(Message::View(view)) => {
                    bytes += view.weight();
                    batch.views.push(*view);
                    if batch.views.len() >= self.limits.views || bytes >= self.limits.bytes {
                        return (batch, Closed::Due);
                    }
                    due.get_or_insert_with(|| Instant::now() + self.limits.age);
                }
                Some(Message::Flush(done)) => return (batch, Closed::Flush(done)),
                None => return (batch, Closed::End),
            }
        }
    }

    fn locate(&self, batch: &mut Batch) {
        let Some(geoip) = &self.geoip else { return };
        for recorded in &mut batch.views {
            if let Some(ip) = recorded.view.client_ip {
                recorded.location = geoip.locate(ip);
            }
        }
    }

    /// Applies a batch, however long the database is away. A batch that is refused for good is halved until
    /// the refused rows are found; those are given up and counted, the rest lands (W1).
    async fn apply(&self, batch: Batch) {
        let mut refused: Option<(usize, StoreError)> = None;
        let mut pending = vec![batch];
        while let Some(mut batch) = pending.pop() {
            match self.apply_retrying(&batch).await {
                Ok(()) => {}
                Err(error) if batch.views.len() == 1 => {
                    self.metrics.dropped(Dropped::Refused);
                    let before = refused.map_or(0, |(views, _)| views);
                    refused = Some((before + 1, error));
                }
                Err(_) => {
                    let later = batch.views.split_off(batch.views.len() / 2);
                    pending.push(Batch { views: later });
                    pending.push(batch);
                }
            }
        }
        if let Some((views, last)) = refused {
            tracing::warn!(
                views,
                error = %last.chain(),
                "page views were refused by the database and are given up; the error is the last one's"
            );
        }
    }

    /// Tries until the database takes or refuses the batch.
    async fn apply_retrying(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut delays = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(MAX_DELAY)
            .with_jitter()
            .without_max_times()
            .build();
        let began = Instant::now();
        let mut said: Option<String> = None;
        loop {
            let start = Instant::now();
            let error = match self.store.apply(batch).await {
                Ok(()) => {
                    self.applied(batch, start.elapsed());
                    if said.is_some() {
                        let seconds = began.elapsed().as_secs();
                        tracing::info!(seconds, "the database takes page views again");
                    }
                    return Ok(());
                }
                Err(error @ StoreError::Unavailable(_)) => error,
                Err(error) => return Err(error),
            };
            self.metrics
                .apply_retries
                .with_label_values(&[error.class()])
                .inc();
            // Once per cause: an outage may end in another kind of trouble.
            let cause = error.chain();
            if said.as_ref() != Some(&cause) {
                tracing::warn!(
                    error = cause,
                    "the database does not take page views; trying again"
                );
                said = Some(cause);
            }
            sleep(delays.next().unwrap_or(MAX_DELAY)).await;
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts and seconds")]
    fn applied(&self, batch: &Batch, took: Duration) {
        self.metrics.batch_rows.observe(batch.views.len() as f64);
        self.metrics.apply_duration.observe(took.as_secs_f64());
        self.metrics.applied_views.inc_by(batch.views.len() as u64);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.metrics.last_apply.set(now.as_secs_f64());
    }
}
