//! Which touches are worth sending: the same user in the same community within a few seconds is one touch.
//! Pure; the time is a parameter.
//!
//! It remembers no longer than that needs, and is bounded: when full, the longest untouched is forgotten, which
//! costs at most a touch too many.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use crate::ids::{CommunityId, UserId};

type Member = (CommunityId, UserId);

/// What was touched a moment ago.
#[derive(Debug)]
pub struct Coalescer {
    coalesce: Duration,
    capacity: NonZeroUsize,
    /// Each with the number of its touch.
    members: HashMap<Member, u64>,
    /// The same by age: numbers rise with time.
    by_age: BTreeMap<u64, (Instant, Member)>,
    next_number: u64,
}

impl Coalescer {
    /// Touches within `coalesce` are one. At most `capacity` members are remembered.
    pub fn new(coalesce: Duration, capacity: NonZeroUsize) -> Self {
        Self {
            coalesce,
            capacity,
            members: HashMap::new(),
            by_age: BTreeMap::new(),
            next_number: 0,
        }
    }

    /// Whether to touch, of somebody seen at `at`. If so, this counts as the touch.
    pub fn admit(&mut self, at: Instant, community: &CommunityId, user: &UserId) -> bool {
        self.forget_old(at);
        let member = (community.clone(), user.clone());
        if self.members.contains_key(&member) {
            return false;
        }
        self.members.insert(member.clone(), self.next_number);
        self.by_age.insert(self.next_number, (at, member));
        self.next_number += 1;
        if self.members.len() > self.capacity.get() {
            self.forget_oldest();
        }
        true
    }

    /// The touch did not reach the store: the next page view touches again.
    pub fn failed(&mut self, community: &CommunityId, user: &UserId) {
        if let Some(number) = self.members.remove(&(community.clone(), user.clone())) {
            self.by_age.remove(&number);
        }
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some((_, (at, _))) = self.by_age.first_key_value()
            && now.saturating_duration_since(*at) >= self.coalesce
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, (_, member))) = self.by_age.pop_first() {
            self.members.remove(&member);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COALESCE: Duration = Duration::from_secs(5);

    fn coalescer(capacity: usize) -> Coalescer {
        Coalescer::new(COALESCE, NonZeroUsize::new(capacity).unwrap())
    }

    fn admits(coalescer: &mut Coalescer, at: Instant, community: &str, user: &str) -> bool {
        coalescer.admit(at, &community.into(), &user.into())
    }

    #[test]
    fn a_second_touch_within_the_time_is_left_out() {
        let mut coalescer = coalescer(10);
        let start = Instant::now();
        assert!(admits(&mut coalescer, start, "42", "a"));
        assert!(!admits(&mut coalescer, start, "42", "a"));
        let just_before = start + COALESCE.checked_sub(Duration::from_millis(1)).unwrap();
        assert!(!admits(&mut coalescer, just_before, "42", "a"));
        assert!(admits(&mut coalescer, start + COALESCE, "42", "a"));
    }

    #[test]
    fn a_steady_reader_is_touched_again_and_again() {
        let mut coalescer = coalescer(10);
        let start = Instant::now();
        let touches = (0..60)
            .filter(|second| admits(&mut coalescer, start + Duration::from_secs(*second), "42", "a"))
            .count();
        assert_eq!(touches, 12, "left-out touches must not put off the next");
    }

    #[test]
    fn other_users_and_other_communities_are_other_touches() {
        let mut coalescer = coalescer(10);
        let now = Instant::now();
        assert!(admits(&mut coalescer, now, "42", "a"));
        assert!(admits(&mut coalescer, now, "42", "b"));
        assert!(admits(&mut coalescer, now, "43", "a"));
    }

    #[test]
    fn a_failed_touch_is_made_again() {
        let mut coalescer = coalescer(10);
        let now = Instant::now();
        assert!(admits(&mut coalescer, now, "42", "a"));
        coalescer.failed(&"42".into(), &"a".into());
        assert!(admits(&mut coalescer, now, "42", "a"));
        assert!(!admits(&mut coalescer, now, "42", "a"));
        assert_eq!(coalescer.by_age.len(), 1);
    }

    #[test]
    fn nobody_is_remembered_for_longer_than_it_is_of_use() {
        let mut coalescer = coalescer(10);
        let start = Instant::now();
        admits(&mut coalescer, start, "42", "a");
        admits(&mut coalescer, start + Duration::from_secs(1), "42", "b");
        admits(&mut coalescer, start + COALESCE, "42", "c");
        assert_eq!(coalescer.members.len(), 2, "a's time has passed");
        assert_eq!(coalescer.by_age.len(), 2);
    }

    #[test]
    fn its_memory_is_bounded() {
        let mut coalescer = coalescer(100);
        let now = Instant::now();
        for user in 0..1_000 {
            assert!(admits(&mut coalescer, now, "42", &user.to_string()));
        }
        assert_eq!(coalescer.members.len(), 100);
        assert_eq!(coalescer.by_age.len(), 100);
        assert!(!admits(&mut coalescer, now, "42", "999"), "the newest stay");
        assert!(admits(&mut coalescer, now, "42", "0"), "the oldest went");
    }
}
