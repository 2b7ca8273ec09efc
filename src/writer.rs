//! Step 5b, record: page views into the app's tables, in batches.
//!
//! A handle with bounded queue, and a worker that collects views until a batch is full or old enough, then
//! applies it in one transaction. While the database is away the batch stays and is tried again; what no
//! longer fits into the queue meanwhile is dropped and counted.

pub mod batch;
mod worker;

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::config;
use crate::geoip::GeoIp;
use crate::metrics::Metrics;
use crate::recorder::load::{Bytes, Load};
use crate::store::Store;
use batch::{BatchLimits, RecordedView};

/// Takes views for the app's tables.
#[derive(Clone)]
pub struct Writer {
    queue: mpsc::Sender<Message>,
    /// Views accepted and not yet applied: queued, or in the batch at hand.
    load: Load,
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
    pub(crate) fn new(
        record: &config::Record,
        store: Arc<dyn Store>,
        geoip: Option<GeoIp>,
        bytes: Bytes,
        metrics: Arc<Metrics>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, queue) = mpsc::channel(record.queue_views.get());
        let load = Load::new("writer", bytes, &metrics);
        let limits = BatchLimits {
            views: record.batch_views.get(),
            bytes: usize::try_from(record.batch_bytes.as_u64()).unwrap_or(usize::MAX),
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
        (Self { queue: sender, load }, worker.run())
    }

    /// Queues a view. Never waits.
    ///
    /// # Errors
    /// The queue is full; the view is given up.
    pub fn write(&self, view: RecordedView) -> Result<(), Full> {
        let weight = view.weight();
        if !self.load.add(weight) {
            return Err(Full);
        }
        self.queue.try_send(Message::View(Box::new(view))).map_err(|_| {
            self.load.free(weight);
            self.load.done(1);
            Full
        })
    }

    /// Views accepted and not yet applied.
    pub fn waiting(&self) -> usize {
        self.load.views()
    }

    /// Waits until everything written before has been applied.
    pub async fn flush(&self) {
        let (done, finished) = oneshot::channel();
        if self.queue.send(Message::Flush(done)).await.is_ok() {
            let _ = finished.await;
        }
    }
}
