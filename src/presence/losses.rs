//! Tells when the store may have lost what it had taken, to whoever can touch it again (P14).

use tokio::sync::watch;

/// Counts the occasions on which the store may have lost touches: each connection that is made (what is at its
/// other end may have restarted empty, or be a replica that lacks the last writes) and each mark that is gone.
/// Clones count together.
///
/// Whoever keeps connections notes an occasion *before* the first call can use the new one: an answer that
/// came without a new occasion is then an answer of a store that lost nothing.
#[derive(Debug, Clone, Default)]
pub struct Losses(watch::Sender<u64>);

impl Losses {
    /// One more occasion.
    pub fn note(&self) {
        self.0.send_modify(|occasions| *occasions += 1);
    }

    /// Occasions so far.
    pub fn occasions(&self) -> u64 {
        *self.0.borrow()
    }

    /// Changes with each occasion.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}
