//! The end of the process as a type: who asks for it, who waits for it, and how long requests in flight may
//! take.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};

/// Starts the shutdown, from anywhere and as often as one likes.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Sender<bool>);

impl Shutdown {
    /// Not yet.
    pub fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Asks everything to end.
    pub fn start(&self) {
        self.0.send_replace(true);
    }

    /// Whether it has begun.
    pub fn has_started(&self) -> bool {
        *self.0.borrow()
    }

    /// A receiver that turns true.
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.0.subscribe()
    }

    /// Waits until it has begun.
    pub async fn started(&self) {
        // The sender is `self`, so this cannot end early.
        let _ = self.subscribe().wait_for(|started| *started).await;
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl ShutdownSignalWatch for Shutdown {
    /// Pingora closes its listeners and idle connections then; waiting for requests in flight is ours.
    async fn recv(&self) -> ShutdownSignal {
        self.started().await;
        ShutdownSignal::GracefulTerminate
    }
}

/// A connection taken just before the listeners closed may bring its request this much later.
const SETTLE: Duration = Duration::from_millis(100);

/// Counts requests in flight.
#[derive(Clone, Debug, Default)]
pub struct InFlight(Arc<Counter>);

#[derive(Debug, Default)]
struct Counter {
    /// In flight now.
    requests: AtomicUsize,
    /// Ever begun.
    entered: AtomicUsize,
    changed: Notify,
}

/// One request in flight, until dropped.
#[derive(Debug)]
pub struct InFlightGuard(Arc<Counter>);

impl InFlight {
    /// Counts one more, until the guard is dropped.
    pub fn enter(&self) -> InFlightGuard {
        self.0.entered.fetch_add(1, Ordering::AcqRel);
        self.0.requests.fetch_add(1, Ordering::AcqRel);
        InFlightGuard(self.0.clone())
    }

    /// Waits until there is none and none has come for a moment (`SETTLE`), at most `grace`. Returns how many are
    /// left.
    pub async fn drained(&self, grace: Duration) -> usize {
        let _ = tokio::time::timeout(grace, async {
            loop {
                self.none().await;
                let before = self.0.entered.load(Ordering::Acquire);
                tokio::time::sleep(SETTLE).await;
                if before == self.0.entered.load(Ordering::Acquire) {
                    return;
                }
            }
        })
        .await;
        self.0.requests.load(Ordering::Acquire)
    }

    async fn none(&self) {
        loop {
            let changed = self.0.changed.notified();
            if self.0.requests.load(Ordering::Acquire) == 0 {
                return;
            }
            changed.await;
        }
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        if self.0.requests.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.changed.notify_waiters();
        }
    }
}

/// What SIGHUP asks for. Pingora leaves it to kill the process.
#[derive(Clone, Debug)]
pub enum OnHangup {
    /// Route files are read again: the custom of services.
    Reload(mpsc::Sender<()>),
    /// As SIGTERM: the terminal was closed.
    End,
}

/// Turns signals into shutdown (SIGTERM, SIGINT; the second one ends the process at once), and SIGHUP into
/// what `on_hangup` says.
///
/// # Errors
/// The handlers cannot be installed.
pub fn listen_to_signals(shutdown: Shutdown, on_hangup: OnHangup) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => if let OnHangup::Reload(reload) = &on_hangup {
                    // A full channel already holds the request.
                    let _ = reload.try_send(());
                    continue;
                }
            }
            if shutdown.has_started() {
                tracing::warn!("second signal: ending at once");
                std::process::exit(1);
            }
            tracing::info!("shutting down");
            shutdown.start();
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn draining_waits_for_the_last_request_and_no_longer_than_the_grace_period() {
        let requests = InFlight::default();
        let first = requests.enter();
        let second = requests.enter();
        assert_eq!(requests.drained(Duration::from_secs(5)).await, 2);
        drop(first);
        let waiting = tokio::spawn({
            let requests = requests.clone();
            async move { requests.drained(Duration::from_secs(3600)).await }
        });
        tokio::task::yield_now().await;
        drop(second);
        assert_eq!(waiting.await.unwrap(), 0);
    }
}
