//! Signal handlers for SIGTERM, SIGINT, SIGHUP and SIGQUIT. Pingora handles some of them differently, and leaves SIGHUP
//! to kill the process.

use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Shutdown;
use crate::telemetry;

/// The meaning of SIGHUP and SIGQUIT.
#[derive(Clone, Debug)]
pub enum SignalPolicy {
    /// As usual for services.
    Service {
        /// SIGHUP: route files are read again.
        reload: mpsc::Sender<()>,
        /// SIGQUIT: the listening sockets go to a new process.
        hand_over: mpsc::Sender<()>,
    },
    /// As SIGTERM: the terminal was closed, or its quit key was pressed.
    Terminal {
        /// A folder to remove where a second signal ends the process at once.
        folder: PathBuf,
    },
}

/// Signals to a terminal's process that come within this time are one: closing a terminal sends several.
const TOGETHER: Duration = Duration::from_secs(1);

/// Turns SIGTERM and SIGINT into shutdown (the second one ends the process at once), and SIGHUP and SIGQUIT into what
/// `signal_policy` says.
pub struct Signals {
    shutdown: Shutdown,
    signal_policy: SignalPolicy,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    quit: Signal,
}

impl Signals {
    /// Installs the handlers. Signals then wait for [`Signals::handle`].
    ///
    /// # Errors
    /// The handlers cannot be installed.
    pub fn listen(shutdown: Shutdown, signal_policy: SignalPolicy) -> std::io::Result<Self> {
        Ok(Self {
            shutdown,
            signal_policy,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// Handles signals, for ever.
    pub async fn handle(&mut self) {
        let mut first = None;
        loop {
            // A full channel already holds the request.
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
                _ = self.hangup.recv() => if let SignalPolicy::Service { reload, .. } = &self.signal_policy {
                    let _ = reload.try_send(());
                    continue;
                },
                _ = self.quit.recv() => if let SignalPolicy::Service { hand_over, .. } = &self.signal_policy {
                    let _ = hand_over.try_send(());
                    continue;
                },
            }
            if !self.shutdown.has_started() {
                tracing::info!("shutting down");
                self.shutdown.start();
                first = Some(Instant::now());
                continue;
            }
            if let SignalPolicy::Terminal { folder } = &self.signal_policy {
                if first.is_some_and(|first| first.elapsed() < TOGETHER) {
                    continue;
                }
                // Nothing can be done about a folder that cannot be removed.
                let _ = std::fs::remove_dir_all(folder);
            }
            tracing::warn!("second signal: ending at once");
            telemetry::flush();
            std::process::exit(1);
        }
    }
}
