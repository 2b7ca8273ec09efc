//! Pending values of one subscriber: per community the latest value, never a queue (L1). Pure.

use std::sync::Arc;

use super::message::Update;
use crate::ids::CommunityId;

/// The communities of one subscriber.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    /// Where the search for the next value begins, so that a busy community does not starve others.
    next: usize,
}

#[derive(Debug)]
struct Slot {
    community: CommunityId,
    /// Number of the newest value that was offered.
    newest: Option<u64>,
    waiting: Option<Arc<Update>>,
}

/// Outcome for an offered value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offered {
    /// It is pending.
    Waiting,
    /// It is pending, in place of one that was not sent in time.
    Replaced,
    /// It is not newer than an earlier one, or of a community that the subscriber does not have.
    Ignored,
}

impl Slots {
    /// Adds a community; false if it is there already.
    pub(super) fn add(&mut self, community: CommunityId) -> bool {
        if self.contains(&community) {
            return false;
        }
        self.slots.push(Slot {
            community,
            newest: None,
            waiting: None,
        });
        true
    }

    /// Removes a community, with its pending value; false if it is not there.
    pub(super) fn remove(&mut self, community: &CommunityId) -> bool {
        let before = self.slots.len();
        self.slots.retain(|slot| slot.community != *community);
        self.slots.len() < before
    }

    /// Whether the subscriber has the community.
    pub(super) fn contains(&self, community: &CommunityId) -> bool {
        self.slots.iter().any(|slot| slot.community == *community)
    }

    /// All communities.
    pub(super) fn communities(&self) -> Vec<CommunityId> {
        self.slots.iter().map(|slot| slot.community.clone()).collect()
    }

    /// Whether every community has had a value.
    pub(super) fn are_complete(&self) -> bool {
        self.slots.iter().all(|slot| slot.newest.is_some())
    }

    /// Offers a value, which may be old (P7).
    pub(super) fn offer(&mut self, update: &Arc<Update>) -> Offered {
        let slot = self
            .slots
            .iter_mut()
            .find(|slot| slot.community == *update.community());
        let Some(slot) = slot else {
            return Offered::Ignored;
        };
        if slot.newest.is_some_and(|newest| update.seq() <= newest) {
            return Offered::Ignored;
        }
        slot.newest = Some(update.seq());
        match slot.waiting.replace(Arc::clone(update)) {
            Some(_) => Offered::Replaced,
            None => Offered::Waiting,
        }
    }

    /// Takes the next pending value.
    pub(super) fn take(&mut self) -> Option<Arc<Update>> {
        let length = self.slots.len();
        for turn in 0..length {
            let place = (self.next + turn) % length;
            if let Some(update) = self.slots[place].waiting.take() {
                self.next = place + 1;
                return Some(update);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use chrono::DateTime;
    use proptest::prelude::*;

    use super::*;
    use crate::key_type::AppKeys;
    use crate::live::topic::Known;
    use crate::presence::Count;

    fn update(community: &str, seq: u64) -> Arc<Update> {
        let as_of = DateTime::UNIX_EPOCH;
        let count = Count {
            current: seq,
            seq,
            as_of,
        };
        Arc::new(Update::new(
            community.into(),
            Known { count, stale: false },
            &AppKeys::default(),
        ))
    }

    fn slots(communities: &[&str]) -> Slots {
        let mut slots = Slots::default();
        for community in communities {
            assert!(slots.add((*community).into()));
        }
        slots
    }

    #[test]
    fn l1_a_slow_subscriber_gets_the_latest_value_and_no_other() {
        let mut slots = slots(&["42"]);
        assert_eq!(slots.offer(&update("42", 1)), Offered::Waiting);
        for seq in 2..100 {
            assert_eq!(slots.offer(&update("42", seq)), Offered::Replaced);
        }
        assert_eq!(slots.take().unwrap().seq(), 99);
        assert!(slots.take().is_none());
    }

    #[test]
    fn p7_a_value_that_is_not_newer_is_ignored_also_after_it_was_taken() {
        let mut slots = slots(&["42"]);
        slots.offer(&update("42", 5));
        slots.take();
        for seq in [0, 4, 5] {
            assert_eq!(slots.offer(&update("42", seq)), Offered::Ignored);
        }
        assert_eq!(slots.offer(&update("42", 6)), Offered::Waiting);
    }

    #[test]
    fn a_busy_community_does_not_keep_the_others_waiting() {
        let mut slots = slots(&["1", "2", "3"]);
        for community in ["1", "2", "3"] {
            slots.offer(&update(community, 1));
        }
        let mut taken = Vec::new();
        for seq in 2..5 {
            let next = slots.take().unwrap();
            taken.push(next.community().to_string());
            slots.offer(&update("1", seq));
        }
        assert_eq!(taken, ["1", "2", "3"]);
    }

    #[test]
    fn what_was_unsubscribed_from_is_not_told() {
        let mut slots = slots(&["1", "2"]);
        slots.offer(&update("1", 1));
        assert!(slots.remove(&"1".into()) && !slots.remove(&"1".into()));
        assert!(slots.take().is_none());
        assert_eq!(slots.offer(&update("1", 2)), Offered::Ignored);
        assert!(!slots.add("2".into()));
        assert_eq!(slots.communities(), ["2".into()]);
    }

    #[test]
    fn a_community_that_nobody_was_ever_in_has_a_snapshot_too() {
        let mut slots = slots(&["42"]);
        assert!(!slots.are_complete());
        assert_eq!(slots.offer(&update("42", 0)), Offered::Waiting);
        assert!(slots.are_complete());
    }

    proptest! {
        #[test]
        fn l1_p7_what_is_taken_rises_and_ends_with_the_newest(
            steps in prop::collection::vec((0..3_usize, prop::option::of(0..20_u64)), 1..200)
        ) {
            let names = ["1", "2", "3"];
            let mut slots = slots(&names);
            let mut newest: HashMap<String, u64> = HashMap::new();
            let mut taken: HashMap<String, Vec<u64>> = HashMap::new();
            let mut take = |slots: &mut Slots| {
                let update = slots.take()?;
                taken.entry(update.community().to_string()).or_default().push(update.seq());
                Some(())
            };
            for (community, seq) in steps {
                match seq {
                    Some(seq) => {
                        slots.offer(&update(names[community], seq));
                        let newest = newest.entry(names[community].to_owned()).or_default();
                        *newest = seq.max(*newest);
                    }
                    None => {
                        take(&mut slots);
                    }
                }
            }
            while take(&mut slots).is_some() {}
            for (community, newest) in newest {
                let taken = &taken[&community];
                prop_assert!(taken.is_sorted_by(|a, b| a < b));
                prop_assert_eq!(*taken.last().unwrap(), newest);
            }
        }
    }
}
