//! Hand-over: a running sidecar gives its listening sockets to a new process, and no request fails.
//!
//! The new process (`headcount run --upgrade`) prepares everything, waits at a Unix socket, and says that it is ready.
//! SIGQUIT makes the old one connect there. Both send lines:
//!
//! ```text
//! old: headcount hand-over 1 <number of sockets>     with the sockets (SCM_RIGHTS)
//! new: serving                                       it accepts connections, as the old one still does
//! old: yours                                         from now on it accepts none; with its standard error
//! new: (closes)                                      systemd, if there is one, knows its process id
//! ```
//!
//! Until `yours` the old process serves as before, even if the new one sends `refused: <reason>`, stays silent or
//! crashes; it then sends `kept`. If the old one stays silent, the new one does not take the sockets; if the old one
//! dies, the new one does.
//!
//! Why not Pingora's own: it makes the *old* process wait a few seconds for the new one, hands over without knowing
//! whether the new one serves, ends without a successor when no process waits, uses a socket that every user may write
//! to, and does not include the admin listener.

mod command;
mod connection;
mod giver;
mod taker;
mod upgrade_socket;

use std::fmt;

pub use command::{UpgradeError, upgrade};
pub use giver::{NotHandedOver, Successor, hand_over};
pub use taker::{AwaitedPredecessor, NotTakenOver, Predecessor};
pub use upgrade_socket::{UpgradeSocket, UpgradeSocketError};

/// Upper bound of listeners that can be handed over: what fits into one message.
pub const MAX_SOCKETS: usize = 250;

/// First line of the old process, without the number of sockets.
const GREETING: &str = "headcount hand-over 1";
const SERVING: &str = "serving";
const YOURS: &str = "yours";
const KEPT: &str = "kept";
/// A reason follows.
const REFUSED: &str = "refused: ";

/// Stages of a new process. It prints these on standard output, where [`upgrade`] reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Everything is ready; the old process needs a SIGQUIT.
    Waiting,
    /// It has the sockets, and the old process has been told.
    Serving,
}

impl Stage {
    /// The printed line.
    pub fn line(self) -> &'static str {
        match self {
            Self::Waiting => "ready: send SIGQUIT to the running sidecar",
            Self::Serving => "serving: the sockets have been handed over",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.line())
    }
}

#[cfg(test)]
mod tests;
