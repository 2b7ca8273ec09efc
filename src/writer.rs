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
use crate::metrics::Metrics;
use crate::store::Store;
use batch::{BatchLimits, RecordedView};

/// Takes views for the app's tables.
#[derive(Clone)]
pub struct Writer {
    queue: mpsc::Sender<Message>,
    bytes: Arc<AtomicUsize>,
    max_bytes: usize,
    metrics: Arc<Metrics>,
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
        metrics: Arc<Metrics>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, queue) = mpsc::channel(record.queue_views.get());
        let bytes = Arc::new(AtomicUsize::new(0));
        let limits = BatchLimits {
            views: record.batch_views.get(),
            bytes: to_usize(record.batch_bytes.as_u64()),
            age: record.batch_age,
        };
        let worker = worker::Worker::new(queue, bytes.clone(), limits, store, metrics.clone());
        let max_bytes = to_usize(record.queue_bytes.as_u64());
        (Self { queue: sender, bytes, max_bytes, metrics }, worker.run())
    }

    /// Queues a view. Never waits.
    ///
    /// # Errors
    /// The queue is full; the view is given up.
    pub fn write(&self, view: RecordedView) -> Result<(), Full> {
        let weight = view.weight();
        let before = self.bytes.fetch_add(weight, Ordering::Relaxed);
        if before + weight > self.max_bytes || self.queue.try_send(Message::View(Box::new(view))).is_err() {
            self.bytes.fetch_sub(weight, Ordering::Relaxed);
            return Err(Full);
        }
        let waiting = self.queue.max_capacity() - self.queue.capacity();
        worker::show_queue(&self.metrics, waiting, before + weight);
        Ok(())
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
