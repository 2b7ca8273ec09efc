//! Which touches are worth sending: the same user in the same community within a few seconds is one touch.
//! Pure; the time is a parameter.
//!
//! It remembers for a whole window, longer than coalescing needs: after Redis restarted empty, this is what
//! can be touched again (P14). Bounded; when full, the longest untouched is forgotten, which costs at most a
//! touch too many.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use crate::ids::{CommunityId, UserId};

type Member = (CommunityId, UserId);

/// What was touched lately.
#[derive(Debug)]
pub struct Coalescer {
    coalesce: Duration,
    window: Duration,
    capacity: NonZeroUsize,
    members: HashMap<Member, Touch>,
    /// The same by age: numbers rise with time.
    by_age: BTreeMap<u64, Member>,
    next_number: u64,
}

#[derive(Debug)]
struct Touch {
    at: Instant,
    /// Its place in `by_age`.
    number: u64,
    failed: bool,
}

impl Coalescer {
    /// Touches within `coalesce` are one; members are remembered for `window`, at most `capacity` of them.
    pub fn new(coalesce: Duration, window: Duration, capacity: NonZeroUsize) -> Self {
        Self {
            coalesce,
            window,
            capacity,
            members: HashMap::new(),
            by_age: BTreeMap::new(),
            next_number: 0,
        }
    }

    /// Whether to touch now. If so, this counts as the touch.
    pub fn admit(&mut self, now: Instant, community: &CommunityId, user: &UserId) -> bool {
        let member = (community.clone(), user.clone());
        if let Some(touch) = self.members.get(&member) {
            if !touch.failed && now.saturating_duration_since(touch.at) < self.coalesce {
                return false;
            }
            self.by_age.remove(&touch.number);
        }
        let touch = Touch {
            at: now,
            number: self.next_number,
            failed: false,
        };
        self.by_age.insert(self.next_number, member.clone());
        self.next_number += 1;
        self.members.insert(member, touch);
        self.forget_old(now);
        true
    }

    /// The touch did not reach the store: the next page view touches again. The member stays remembered.
    pub fn failed(&mut self, community: &CommunityId, user: &UserId) {
        if let Some(touch) = self.members.get_mut(&(community.clone(), user.clone())) {
            touch.failed = true;
        }
    }

    /// Members remembered.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some(oldest) = self.by_age.first_entry() {
            let expired = self
                .members
                .get(oldest.get())
                .is_none_or(|touch| now.saturating_duration_since(touch.at) >= self.window);
            if !expired && self.members.len() <= self.capacity.get() {
                break;
            }
            self.members.remove(&oldest.remove());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COALESCE: Duration = Duration::from_secs(5);
    const WINDOW: Duration = Duration::from_secs(300);

    fn coalescer(capacity: usize) -> Coalescer {
        Coalescer::new(COALESCE, WINDOW, NonZeroUsize::new(capacity).unwrap())
    }

    fn admits(coalescer: &mut Coalescer, now: Instant, community: &str, user: &str) -> bool {
        coalescer.admit(now, &community.into(), &user.into())
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
        assert_eq!(coalescer.len(), 1, "still remembered");
        assert!(admits(&mut coalescer, now, "42", "a"));
        assert!(!admits(&mut coalescer, now, "42", "a"));
    }

    #[test]
    fn members_are_remembered_for_the_window() {
        let mut coalescer = coalescer(10);
        let start = Instant::now();
        admits(&mut coalescer, start, "42", "a");
        admits(&mut coalescer, start + Duration::from_secs(100), "42", "b");
        assert_eq!(coalescer.len(), 2);
        admits(&mut coalescer, start + WINDOW, "42", "c");
        assert_eq!(coalescer.len(), 2, "a's window has passed");
    }

    #[test]
    fn its_memory_is_bounded() {
        let mut coalescer = coalescer(100);
        let now = Instant::now();
        for user in 0..1_000 {
            assert!(admits(&mut coalescer, now, "42", &user.to_string()));
        }
        assert_eq!(coalescer.len(), 100);
        assert_eq!(coalescer.by_age.len(), 100);
        assert!(!admits(&mut coalescer, now, "42", "999"), "the newest stay");
        assert!(admits(&mut coalescer, now, "42", "0"), "the oldest went");
    }
}
