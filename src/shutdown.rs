//! The end of the process as a type: who asks for it and who waits for it, the steps in which the site's
//! listeners close, how long requests in flight may take, and the signals.

mod closing;
mod in_flight;
mod signals;

use async_trait::async_trait;
use pingora_core::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::sync::watch;

pub use closing::Closing;
pub use in_flight::{ConnectionGuard, InFlight, InFlightGuard};
pub use signals::{Manners, Signals};

/// Something that happens once: the shutdown, above all. Starts from anywhere and as often as one likes.
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
    /// Pingora closes its listeners then; idle connections and requests in flight are our affair.
    async fn recv(&self) -> ShutdownSignal {
        self.started().await;
        ShutdownSignal::GracefulTerminate
    }
}
