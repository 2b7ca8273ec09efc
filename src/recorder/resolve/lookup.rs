//! Lookups that go on whether or not a view still waits for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, timeout_at};

use super::Work;
use crate::metrics::Gauge;
use crate::page_view::{Metrics, Queue};
use crate::recorder::AcceptedView;
use crate::recorder::resolver::{LookupAnswer, Sought, ViewLookup};

impl Work {
    /// Starts a lookup. If no view waits for its answer any more, the visitor is at least touched in presence, or looked
    /// up again for that unless `is_settled`: the view itself was written unresolved.
    pub(super) fn ask(
        &self,
        permit: OwnedSemaphorePermit,
        accepted: &AcceptedView,
        is_stranger: bool,
        is_settled: Arc<AtomicBool>,
    ) -> oneshot::Receiver<ViewLookup> {
        let (answer, waiting) = oneshot::channel();
        let (resolver, destinations) = (self.resolver.clone(), self.destinations.clone());
        let (sought, late) = (Sought::of(accepted), self.late.clone());
        let running = Running::new(&destinations.metrics);
        tokio::spawn(async move {
            let (_permit, _running) = (permit, running);
            let found = resolver.look_up(&sought).await;
            match answer.send(found) {
                Err(Ok(LookupAnswer::Found(session, community))) => {
                    destinations.touch(&session, community.as_ref(), &sought.finer, sought.seen);
                }
                Err(Ok(LookupAnswer::Doubtful(_)) | Err(_)) if !is_settled.load(Ordering::Relaxed) => {
                    late.add(sought, is_stranger);
                }
                Ok(()) | Err(_) => {}
            }
        });
        waiting
    }
}

/// A lookup under way; counted until it is dropped.
struct Running(Gauge);

impl Running {
    fn new(metrics: &Metrics) -> Self {
        let lookups = metrics.queued[Queue::Lookups].clone();
        lookups.inc();
        Self(lookups)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

pub(super) async fn in_time(
    deadline: Instant,
    mut waiting: oneshot::Receiver<ViewLookup>,
) -> Option<ViewLookup> {
    if let Ok(answer) = timeout_at(deadline, &mut waiting).await {
        return answer.ok();
    }
    // An answer that arrives at this moment must not be lost.
    waiting.close();
    waiting.try_recv().ok()
}
