//! The hand-over: a running sidecar gives its listening sockets to a new process, and no request fails.
//!
//! The new process (`headcount run --upgrade`) makes everything ready, waits at a Unix socket, and says so.
//! SIGQUIT lets the old one connect there. Both speak in lines:
//!
//! ```text
//! old: headcount hand-over 1 <number of sockets>     the sockets come along (SCM_RIGHTS)
//! new: serving                                       it accepts connections, as the old one still does
//! old: yours                                         from now on it accepts none; its standard error comes along
//! new: (closes)                                      whoever supervises it knows its process id
//! ```
//!
//! Until `yours` the old process goes on as if nothing had happened, whatever becomes of the new one: `refused:
//! <reason>`, silence, a crash. `kept` tells the new one so. Silence of the old one is no answer; its death is:
//! then the sockets are the new one's.
//!
//! Why not Pingora's own: it makes the *old* process wait a few seconds for the new one, hands over without
//! knowing whether the new one serves, ends without a successor when nobody waits, takes a socket that everybody
//! may write to, and knows nothing of the admin listener.

mod command;
mod connection;
mod giver;
mod place;
mod taker;

use std::fmt;

pub use command::{UpgradeError, upgrade};
pub use giver::{NotHandedOver, Successor, hand_over};
pub use place::{Place, PlaceError};
pub use taker::{NotTakenOver, Predecessor, Waiting};

/// Upper bound of listeners that can be handed over: what fits into one message.
pub const MAX_SOCKETS: usize = 250;

/// First line of the old process, but for the number of sockets.
const GREETING: &str = "headcount hand-over 1";
const SERVING: &str = "serving";
const YOURS: &str = "yours";
const KEPT: &str = "kept";
/// A reason follows.
const REFUSED: &str = "refused: ";

/// How far a new process is. It prints these on standard output, where [`upgrade`] reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Everything is ready; SIGQUIT to the old process is what it takes.
    Waiting,
    /// It has the sockets, and the old process knows.
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
