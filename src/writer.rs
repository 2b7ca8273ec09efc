//! Step 5b, record: page views into the app's tables, in batches.
//!
//! A handle with bounded queue, and a worker that collects views until a batch is full or old enough, then
//! applies it in one transaction. While the database is away the batch stays and is tried again; what no
//! longer fits into the queue meanwhile is dropped and counted.

pub mod batch;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{mpsc, oneshot};

use crate::config;
use crate::geoip::GeoIp;
use crate::metrics::Metrics;
use crate::store::Store;
use batch::{BatchLimits, RecordedView};

/// Takes views for the app's tables.
#[derive(Clone)]
pub struct Writer {
    queue: mpsc::Sender<Message>,
    load: Arc<Load>,
    max_bytes: usize,
}

/// Views accepted and not yet applied: queued, or in the batch at hand.
struct Load {
    views: AtomicUsize,
    bytes: AtomicUsize,
    metrics: Arc<Metrics>,
}

impl Load {
    /// Adds a view, unless that would exceed `max_bytes`.
    fn add(&self, weight: usize, max_bytes: usize) -> bool {
        let before = self.bytes.fetch_add(weight, Ordering::Relaxed);
        if before + weight > max_bytes {
            self.bytes.fetch_sub(weight, Ordering::Relaxed);
            return false;
        }
        self.views.fetch_add(1, Ordering::Relaxed);
        self.show();
        true
    }

    /// Takes views out again.
    fn remove(&self, views: usize, weight: usize) {
        self.bytes.fetch_sub(weight, Ordering::Relaxed);
        self.views.fetch_sub(views, Ordering::Relaxed);
        self.show();
    }

    #[expect(clippy::cast_precision_loss, reason = "a queue length")]
    fn show(&self) {
        let views = self.views.load(Ordering::Relaxed);
        self.metrics
            .recorder_queue_views
            .with_label_values(&["writer"])
            .set(views as f64);
        self.metrics
            .recorder_queue_bytes
            .set(self.bytes.load(Ordering::Relaxed) as f64);
    }
}

/// The view does not fit: the queue is full, by count or by bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

enum Message {
    View(Box<RecordedView>),
    Flush(oneshot::Sender<()>),
}

impl Writer {
    /// The handle, and the worker that must be run for it. The worker ends when every handle is gone and
    /// everything is applied.
    pub fn new(
        record: &config::Record,
        store: Arc<dyn Store>,
        geoip: Option<GeoIp>,
        metrics: Arc<Metrics>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, queue) = mpsc::channel(record.queue_views.get());
        let load = Arc::new(Load {
            views: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            metrics: metrics.clone(),
        });
        let limits = BatchLimits {
            views: record.batch_views.get(),
            bytes: to_usize(record.batch_bytes.as_u64()),
            age: record.batch_age,
        };
        let worker = worker::Worker {
            queue,
            load: load.clone(),
            limits,
            store,
            geoip,
            metrics,
        };
        let max_bytes = to_usize(record.queue_bytes.as_u64());
        (
            Self {
                queue: sender,
                load,
                max_bytes,
            },
            worker.run(),
        )
    }

    /// Queues a view. Never waits.
    ///
    /// # Errors
    /// The queue is full; the view is given up.
    pub fn write(&self, view: RecordedView) -> Result<(), Full> {
        let weight = view.weight();
        if !self.load.add(weight, self.max_bytes) {
            return Err(Full);
        }
        self.queue.try_send(Message::View(Box::new(view))).map_err(|_| {
            self.load.remove(1, weight);
            Full
        })
    }

    /// Views accepted and not yet applied.
    pub fn waiting(&self) -> usize {
        self.load.views.load(Ordering::Relaxed)
    }

    /// Waits until everything written before has been applied.
    pub async fn flush(&self) {
        let (done, finished) = oneshot::channel();
        if self.queue.send(Message::Flush(done)).await.is_ok() {
            let _ = finished.await;
        }
    }
}

/// Sizes from configuration fit into memory's addresses.
fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
