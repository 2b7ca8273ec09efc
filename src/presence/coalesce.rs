//! Coalesces touches of the same user in the same scope. Pure; the time is a parameter.
//! Within a few seconds they are one touch, and one more at the end of that time, with its age, if the user was
//! seen again meanwhile, so that the last view counts.
//!
//! A member is remembered only as long as needed, and their number is bounded: when full, the member touched
//! longest ago is forgotten, which costs at most one touch too many; its deferred touch is returned at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::time::Duration;

use super::Scope;
use super::moment::Moment;
use crate::ids::UserId;

type ScopedUser = (Scope, UserId);

/// Recently touched members.
#[derive(Debug)]
pub struct Coalescer {
    coalesce: Duration,
    capacity: NonZeroUsize,
    /// Looked up for every view, by reference.
    members: HashMap<Scope, HashMap<UserId, Touched>>,
    /// Members by age of their touch: each is here once.
    by_age: BTreeMap<Turn, ScopedUser>,
    /// Those that were seen again.
    seen_again: BTreeSet<Turn>,
    next_number: u64,
}

/// When the time of a touch begins, with a number to tell touches of one moment apart.
type Turn = (Moment, u64);

/// What is remembered of a member.
#[derive(Debug)]
struct Touched {
    turn: Turn,
    /// When the user was last seen, as touched.
    seen: Moment,
    /// When the user was last seen after it.
    again: Option<Moment>,
}

/// What to do about a user who was seen.
#[derive(Debug, PartialEq, Eq)]
pub enum TouchDecision {
    /// Touch the user.
    Touch {
        /// The deferred touch of the member that was forgotten to make room: send it, too.
        instead_of: Option<Deferred>,
    },
    /// Nothing yet, or nothing at all: the user was touched with a later moment.
    Deferred,
}

/// A touch that was deferred.
#[derive(Debug, PartialEq, Eq)]
pub struct Deferred {
    /// Where.
    pub scope: Scope,
    /// The user.
    pub user: UserId,
    /// When the user was last seen.
    pub at: Moment,
}

impl Coalescer {
    /// Touches within `coalesce` are one. At most `capacity` members are remembered.
    pub fn new(coalesce: Duration, capacity: NonZeroUsize) -> Self {
        Self {
            coalesce,
            capacity,
            members: HashMap::new(),
            by_age: BTreeMap::new(),
            seen_again: BTreeSet::new(),
            next_number: 0,
        }
    }

    /// What to do about a user seen at `at`, in any order. [`TouchDecision::Touch`] counts as the touch.
    pub fn admit(&mut self, at: Moment, scope: &Scope, user: &UserId) -> TouchDecision {
        let known = self.members.get_mut(scope).and_then(|users| users.get_mut(user));
        if let Some(touched) = known {
            let (since, _) = touched.turn;
            if at < touched.seen || at.since(since) < self.coalesce {
                if at >= touched.seen
                    && touched
                        .again
                        .replace(touched.again.map_or(at, |last| last.max(at)))
                        .is_none()
                {
                    self.seen_again.insert(touched.turn);
                }
                return TouchDecision::Deferred;
            }
            self.failed(scope, user);
        }
        self.forget_old(at);
        self.touched(at, at, (scope.clone(), user.clone()));
        let has_room = self.by_age.len() <= self.capacity.get();
        TouchDecision::Touch {
            instead_of: if has_room { None } else { self.forget_oldest() },
        }
    }

    /// The touch did not reach the store: the next page view touches again. When the user was last seen after it, if so.
    pub fn failed(&mut self, scope: &Scope, user: &UserId) -> Option<Moment> {
        let touched = self.remove(scope, user)?;
        self.by_age.remove(&touched.turn);
        self.seen_again.remove(&touched.turn);
        touched.again
    }

    /// When [`Coalescer::due`] has something next.
    pub fn next_due(&self) -> Option<Moment> {
        let (touched, _) = *self.seen_again.first()?;
        Some(touched + self.coalesce)
    }

    /// Deferred touches whose time has come. They count as touches now.
    pub fn due(&mut self, now: Moment) -> Vec<Deferred> {
        self.take(now, |touched, coalesce| now.since(touched) >= coalesce)
    }

    /// All deferred touches, before their time. They count as touches now.
    pub fn finish(&mut self, now: Moment) -> Vec<Deferred> {
        self.take(now, |_, _| true)
    }

    fn take(&mut self, now: Moment, is_due: impl Fn(Moment, Duration) -> bool) -> Vec<Deferred> {
        let mut due = Vec::new();
        while let Some(turn) = self.seen_again.first().copied()
            && is_due(turn.0, self.coalesce)
        {
            due.extend(self.forget(turn));
        }
        for deferred in &due {
            // Where it is an old view's, a later one is not put off.
            let since = now.min(deferred.at + self.coalesce);
            let member = (deferred.scope.clone(), deferred.user.clone());
            self.touched(since, deferred.at, member);
        }
        due
    }

    fn touched(&mut self, since: Moment, seen: Moment, member: ScopedUser) {
        let turn = (since, self.next_number);
        let touched = Touched {
            turn,
            seen,
            again: None,
        };
        let (scope, user) = member.clone();
        self.members.entry(scope).or_default().insert(user, touched);
        self.by_age.insert(turn, member);
        self.next_number += 1;
    }

    fn remove(&mut self, scope: &Scope, user: &UserId) -> Option<Touched> {
        let users = self.members.get_mut(scope)?;
        let touched = users.remove(user);
        if users.is_empty() {
            self.members.remove(scope);
        }
        touched
    }

    /// Stops at a member that was seen again: its deferred touch is not sent yet.
    fn forget_old(&mut self, now: Moment) {
        while let Some((turn, _)) = self.by_age.first_key_value()
            && now.since(turn.0) >= self.coalesce
            && !self.seen_again.contains(turn)
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) -> Option<Deferred> {
        let turn = *self.by_age.first_key_value()?.0;
        self.forget(turn)
    }

    /// Returns the member's deferred touch, if any.
    fn forget(&mut self, turn: Turn) -> Option<Deferred> {
        self.seen_again.remove(&turn);
        let (scope, user) = self.by_age.remove(&turn)?;
        let at = self.remove(&scope, &user)?.again?;
        Some(Deferred { scope, user, at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COALESCE: Duration = Duration::from_secs(5);

    fn coalescer(capacity: usize) -> Coalescer {
        Coalescer::new(COALESCE, NonZeroUsize::new(capacity).unwrap())
    }

    fn remembered(coalescer: &Coalescer) -> usize {
        coalescer.members.values().map(HashMap::len).sum()
    }

    fn admits(coalescer: &mut Coalescer, at: Moment, community: &str, user: &str) -> bool {
        coalescer.admit(at, &community.into(), &user.into()) != TouchDecision::Deferred
    }

    #[test]
    fn a_second_touch_within_the_time_is_left_out() {
        let mut coalescer = coalescer(10);
        let start = Moment::now();
        assert!(admits(&mut coalescer, start, "42", "a"));
        assert!(!admits(&mut coalescer, start, "42", "a"));
        let just_before = start + COALESCE.checked_sub(Duration::from_millis(1)).unwrap();
        assert!(!admits(&mut coalescer, just_before, "42", "a"));
        assert!(admits(&mut coalescer, start + COALESCE, "42", "a"));
    }

    #[test]
    fn a_steady_reader_is_touched_again_and_again() {
        let mut coalescer = coalescer(10);
        let start = Moment::now();
        let touches = (0..60)
            .filter(|second| admits(&mut coalescer, start + Duration::from_secs(*second), "42", "a"))
            .count();
        assert_eq!(touches, 12, "left-out touches must not put off the next");
    }

    #[test]
    fn other_users_and_other_communities_are_other_touches() {
        let mut coalescer = coalescer(10);
        let now = Moment::now();
        assert!(admits(&mut coalescer, now, "42", "a"));
        assert!(admits(&mut coalescer, now, "42", "b"));
        assert!(admits(&mut coalescer, now, "43", "a"));
    }

    #[test]
    fn a_failed_touch_is_made_again() {
        let mut coalescer = coalescer(10);
        let now = Moment::now();
        assert!(admits(&mut coalescer, now, "42", "a"));
        coalescer.failed(&"42".into(), &"a".into());
        assert!(admits(&mut coalescer, now, "42", "a"));
        assert!(!admits(&mut coalescer, now, "42", "a"));
        assert_eq!(coalescer.by_age.len(), 1);
    }

    #[test]
    fn nobody_is_remembered_for_longer_than_it_is_of_use() {
        let mut coalescer = coalescer(10);
        let start = Moment::now();
        admits(&mut coalescer, start, "42", "a");
        admits(&mut coalescer, start + Duration::from_secs(1), "42", "b");
        admits(&mut coalescer, start + COALESCE, "42", "c");
        assert_eq!(remembered(&coalescer), 2, "a's time has passed");
        assert_eq!(coalescer.by_age.len(), 2);
    }

    #[test]
    fn its_memory_is_bounded() {
        let mut coalescer = coalescer(100);
        let now = Moment::now();
        for user in 0..1_000 {
            assert!(admits(&mut coalescer, now, "42", &user.to_string()));
        }
        assert_eq!(remembered(&coalescer), 100);
        assert_eq!(coalescer.by_age.len(), 100);
        assert!(!admits(&mut coalescer, now, "42", "999"), "the newest stay");
        assert!(admits(&mut coalescer, now, "42", "0"), "the oldest went");
    }

    fn seen(community: &str, user: &str, at: Moment) -> Deferred {
        Deferred {
            scope: community.into(),
            user: user.into(),
            at,
        }
    }

    #[test]
    fn p19_whoever_was_seen_again_is_touched_once_more_with_the_last_time() {
        let mut coalescer = coalescer(10);
        let start = Moment::now();
        let after = |millis| start + Duration::from_millis(millis);
        for (at, user) in [(0, "again"), (10, "once"), (20, "again"), (4_900, "again")] {
            admits(&mut coalescer, after(at), "42", user);
        }
        assert_eq!(coalescer.next_due(), Some(start + COALESCE));
        assert_eq!(coalescer.due(after(4_999)), []);
        assert_eq!(coalescer.due(after(5_000)), [seen("42", "again", after(4_900))]);
        assert_eq!(coalescer.next_due(), None, "told once");
        assert!(
            !admits(&mut coalescer, after(5_100), "42", "again"),
            "it was a touch"
        );
        assert_eq!(coalescer.next_due(), Some(after(10_000)));
        assert!(admits(&mut coalescer, after(5_100), "42", "once"));
    }

    #[test]
    fn p22_a_view_that_comes_after_a_later_one_of_the_member_is_no_touch() {
        let mut coalescer = coalescer(10);
        let start = Moment::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(admits(&mut coalescer, after(20), "42", "a"));
        for seconds in [0, 19] {
            assert!(!admits(&mut coalescer, after(seconds), "42", "a"));
        }
        assert_eq!(coalescer.next_due(), None, "the touch tells more");
        admits(&mut coalescer, after(24), "42", "a");
        admits(&mut coalescer, after(22), "42", "a");
        assert_eq!(coalescer.due(after(25)), [seen("42", "a", after(24))]);
        assert!(!admits(&mut coalescer, after(23), "42", "a"));
        assert_eq!(coalescer.next_due(), None);
    }

    #[test]
    fn p22_old_views_put_off_neither_the_last_one_nor_what_others_have_waiting() {
        let mut coalescer = coalescer(10);
        let start = Moment::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        admits(&mut coalescer, after(60), "42", "new");
        admits(&mut coalescer, after(61), "42", "new");
        // Identified a minute late.
        assert!(admits(&mut coalescer, start, "42", "old"));
        assert!(!admits(&mut coalescer, after(3), "42", "old"));
        assert_eq!(coalescer.due(after(61)), [seen("42", "old", after(3))]);
        assert!(!admits(&mut coalescer, after(7), "42", "old"));
        assert_eq!(coalescer.due(after(61)), [seen("42", "old", after(7))]);
        assert!(admits(&mut coalescer, after(62), "42", "old"), "seen just now");
        assert_eq!(coalescer.due(after(65)), [seen("42", "new", after(61))]);
    }

    #[test]
    fn p19_what_is_touched_again_anyway_is_not_deferred() {
        let mut coalescer = coalescer(10);
        let start = Moment::now();
        admits(&mut coalescer, start, "42", "a");
        admits(&mut coalescer, start + COALESCE / 2, "42", "a");
        assert!(admits(&mut coalescer, start + COALESCE, "42", "a"));
        assert_eq!(coalescer.due(start + COALESCE * 3), []);
    }

    #[test]
    fn p19_what_there_is_no_room_for_and_what_is_left_at_the_end_is_touched_at_once() {
        let mut coalescer = coalescer(2);
        let start = Moment::now();
        let later = start + Duration::from_secs(1);
        for (at, user) in [(start, "a"), (later, "a"), (later, "b")] {
            admits(&mut coalescer, at, "42", user);
        }
        let instead_of = Some(seen("42", "a", later));
        assert_eq!(
            coalescer.admit(later, &"42".into(), &"c".into()),
            TouchDecision::Touch { instead_of }
        );
        assert_eq!(coalescer.next_due(), None, "told once");
        admits(&mut coalescer, later, "42", "b");
        assert_eq!(coalescer.finish(later), [seen("42", "b", later)]);
        assert_eq!(coalescer.finish(later), []);
        assert!(!admits(&mut coalescer, later, "42", "b"), "it was a touch");
    }

    #[test]
    fn p19_whoever_is_due_is_told_once_however_many_come_before_somebody_asks() {
        let mut coalescer = coalescer(100);
        let start = Moment::now();
        let mut forced = 0;
        for round in 0..50 {
            let at = start + COALESCE * round;
            for user in 0..100 {
                let user = UserId::new(format!("{round}-{user}"));
                for _ in 0..2 {
                    let admitted = coalescer.admit(at, &"42".into(), &user);
                    forced += usize::from(matches!(admitted, TouchDecision::Touch { instead_of: Some(_) }));
                }
                assert!(remembered(&coalescer) <= 100 && coalescer.by_age.len() <= 100);
            }
        }
        assert_eq!(forced, 49 * 100);
        assert_eq!(coalescer.due(start + COALESCE * 50).len(), 100);
        assert_eq!(coalescer.seen_again.len(), 0);
    }
}
