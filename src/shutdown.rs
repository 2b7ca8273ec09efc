//! Shutdown of the process: a flag to set and wait for, closing of listeners, requests in flight, and signals.

mod closing;
mod in_flight;
mod signals;

use async_trait::async_trait;
use pingora_core::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::sync::watch;

pub use closing::Closing;
pub use in_flight::{ConnectionGuard, InFlight, InFlightGuard};
pub use signals::{SignalPolicy, Signals};

/// A flag that is set once, such as the shutdown. Any holder may set it, as often as it likes.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Sender<bool>);

impl Shutdown {
    /// A flag that is not set.
    pub fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Sets the flag.
    pub fn start(&self) {
        self.0.send_replace(true);
    }

    /// Whether it is set.
    pub fn has_started(&self) -> bool {
        *self.0.borrow()
    }

    /// A receiver that turns true.
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.0.subscribe()
    }

    /// Waits until it is set.
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
    /// Pingora then closes its listeners; idle connections and requests in flight are handled by us.
    async fn recv(&self) -> ShutdownSignal {
        self.started().await;
        ShutdownSignal::GracefulTerminate
    }
}
