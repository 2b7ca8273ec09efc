//! Failure domains: scopes that a store keeps together, and that it serves or loses together.
//! A single server is one; in a Redis Cluster each partition is one. What is known of each is kept here, for the
//! store that notes it and for the memory in front of it, which makes up for it (P14).

use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::watch;

use super::Scope;
use super::keys::partition_of;
use super::store_clock::StoreClock;

/// All failure domains of a store. Clones share them.
#[derive(Debug, Clone)]
pub struct FailureDomains {
    domains: Arc<[Arc<FailureDomain>]>,
    number: NonZeroU16,
}

/// One failure domain: its clock, and whether it may lack touches.
///
/// It may lack touches after each new connection (the server may have restarted empty, or be a replica that lacks
/// the last writes), each change of the server that keeps it, each missing mark, and each touch that failed. These
/// occasions are counted.
///
/// An occasion is noted *before* the first call can use the new connection: an answer that came without a new
/// occasion is then an answer of a store that lost nothing.
#[derive(Debug, Default)]
pub struct FailureDomain {
    occasions: watch::Sender<u64>,
    /// The number of occasions up to which all users were touched again.
    mended: AtomicU64,
    /// Whether changes were held back because touches were missing.
    holds_back: AtomicBool,
    /// The clock of its server, as far as it has answered.
    pub(super) clock: StoreClock,
}

impl FailureDomains {
    /// For a store with this many: one, or as many as there are partitions.
    pub fn new(number: NonZeroU16) -> Self {
        Self {
            domains: (0..number.get()).map(|_| Arc::default()).collect(),
            number,
        }
    }

    /// Every one, in order.
    pub fn all(&self) -> impl ExactSizeIterator<Item = &Arc<FailureDomain>> {
        self.domains.iter()
    }

    /// The one that keeps a scope.
    pub fn of(&self, scope: &Scope) -> &Arc<FailureDomain> {
        &self.domains[self.index_of(scope)]
    }

    /// The place in [`Self::all`] of the one that keeps a scope.
    pub fn index_of(&self, scope: &Scope) -> usize {
        self.index(partition_of(scope, self.number))
    }

    /// The one that keeps a partition of the keys.
    pub fn of_partition(&self, partition: u16) -> &Arc<FailureDomain> {
        &self.domains[self.index(partition)]
    }

    /// The place in [`Self::all`] of the one that keeps a partition of the keys.
    pub fn index(&self, partition: u16) -> usize {
        usize::from(partition % self.number)
    }
}

impl FailureDomain {
    /// The store may have lost touches.
    pub fn note_loss(&self) {
        self.occasions.send_modify(|occasions| *occasions += 1);
    }

    /// The store did not take a touch. Unlike a loss, this wakes nobody who waits: the store is probably away.
    pub(super) fn note_failure(&self) {
        self.occasions.send_if_modified(|occasions| {
            *occasions += 1;
            false
        });
    }

    /// All users who were remembered at this number of occasions have been touched again.
    pub(super) fn mend(&self, occasions: u64) {
        self.mended.store(occasions, Ordering::SeqCst);
    }

    /// Whether touches may be missing.
    pub(super) fn lacks_touches(&self) -> bool {
        self.mended.load(Ordering::SeqCst) != *self.occasions.borrow()
    }

    /// The number of occasions; changes with each loss.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.occasions.subscribe()
    }

    /// Notes whether changes are held back; returns whether they were.
    pub(super) fn hold_back(&self, holds_back: bool) -> bool {
        self.holds_back.swap(holds_back, Ordering::SeqCst)
    }
}

#[cfg(test)]
impl FailureDomain {
    pub(super) fn holds_back(&self) -> bool {
        self.holds_back.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p14_each_domain_loses_by_itself() {
        let domains = FailureDomains::new(NonZeroU16::new(4).unwrap());
        domains.of_partition(2).note_loss();
        let lacking: Vec<_> = domains.all().map(|domain| domain.lacks_touches()).collect();
        assert_eq!(lacking, [false, false, true, false]);
        let whole = FailureDomains::new(NonZeroU16::MIN);
        whole.of_partition(7).note_loss();
        assert!(
            whole.of_partition(0).lacks_touches(),
            "a store of one domain keeps all partitions in it"
        );
    }

    #[test]
    fn p14_what_fails_while_users_are_touched_again_makes_another_round() {
        let domain = FailureDomain::default();
        let watch = domain.watch();
        domain.note_failure();
        assert!(domain.lacks_touches());
        assert!(!watch.has_changed().unwrap(), "it wakes nobody");
        let before = *watch.borrow();
        domain.note_loss();
        assert!(watch.has_changed().unwrap());
        domain.mend(before);
        assert!(domain.lacks_touches());
        domain.mend(before + 1);
        assert!(!domain.lacks_touches());
    }
}
