//! Signals. Pingora handles some of them in a way that does not suit us, and leaves SIGHUP to kill the process.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::Shutdown;
use crate::telemetry;

/// What SIGHUP and SIGQUIT ask for.
#[derive(Clone, Debug)]
pub enum Manners {
    /// The custom of services.
    Service {
        /// SIGHUP: route files are read again.
        reload: mpsc::Sender<()>,
        /// SIGQUIT: the listening sockets go to a new process.
        hand_over: mpsc::Sender<()>,
    },
    /// As SIGTERM: the terminal was closed, or somebody pressed its quit key.
    Terminal,
}

/// Turns signals into shutdown (SIGTERM, SIGINT; the second one ends the process at once), and SIGHUP and
/// SIGQUIT into what `manners` say.
///
/// # Errors
/// The handlers cannot be installed.
pub fn listen_to_signals(shutdown: Shutdown, manners: Manners) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut quit = signal(SignalKind::quit())?;
    tokio::spawn(async move {
        loop {
            // A full channel already holds the request.
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => if let Manners::Service { reload, .. } = &manners {
                    let _ = reload.try_send(());
                    continue;
                },
                _ = quit.recv() => if let Manners::Service { hand_over, .. } = &manners {
                    let _ = hand_over.try_send(());
                    continue;
                },
            }
            if shutdown.has_started() {
                tracing::warn!("second signal: ending at once");
                telemetry::flush();
                std::process::exit(1);
            }
            tracing::info!("shutting down");
            shutdown.start();
        }
    });
    Ok(())
}
