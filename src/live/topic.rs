//! What is known of one community's count, and when its subscribers are told: at once, unless they were told a
//! moment ago (L1). Pure; the time is a parameter.
//!
//! Two sources compete. What was *published* is ordered by its sequence number. What was *read* is at least as
//! new as its number says (P7) and has the time of the store's own clock: read later than something was true,
//! it is newer, whatever its number, because the store may have lost what it knew.

use std::time::{Duration, Instant};

use crate::presence::Count;

/// One community.
#[derive(Debug, Default)]
pub(super) struct Topic {
    known: Option<Count>,
    /// Whether the store was asked since somebody listens: what it published before is not told until then, as it
    /// may be older than the subscription.
    is_read: bool,
    /// The count that subscribers were told last, and when.
    told: Option<(u64, Instant)>,
    /// When they are to be told next.
    due: Option<Instant>,
    /// Somebody was given a count that the others were not told: then, whatever it is by then.
    split: bool,
}

/// What follows from a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Telling {
    /// Nothing, or it is planned already.
    Nothing,
    /// Tell subscribers now.
    Now,
    /// Ask again then.
    At(Instant),
}

impl Topic {
    /// The latest count.
    pub(super) fn known(&self) -> Option<Count> {
        self.known.filter(|_| self.is_read)
    }

    /// The latest count was given to a new subscriber, as the snapshot.
    pub(super) fn given(&mut self) {
        self.split |= self.due.is_some();
    }

    /// The store published a change.
    pub(super) fn published(&mut self, count: Count, now: Instant, interval: Duration) -> Telling {
        if self.known.is_some_and(|known| count.seq <= known.seq) {
            return Telling::Nothing;
        }
        self.known = Some(count);
        self.tell(now, interval)
    }

    /// The store was asked and answered.
    pub(super) fn read(&mut self, count: Count, now: Instant, interval: Duration) -> Telling {
        self.is_read = true;
        let seq = match self.known {
            None => count.seq,
            // It was on its way while changes were published.
            Some(known) if count.as_of <= known.as_of && count.seq <= known.seq => {
                return self.tell(now, interval);
            }
            // Subscribers take a count for newer by its number only.
            Some(known) if count.current != known.current => count.seq.max(known.seq + 1),
            Some(known) => count.seq.max(known.seq),
        };
        self.known = Some(Count { seq, ..count });
        self.tell(now, interval)
    }

    /// The time told by [`Telling::At`] has come: whether to tell subscribers.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        match self.due {
            Some(due) if due <= now => {}
            _ => return false,
        }
        self.due = None;
        let split = std::mem::take(&mut self.split);
        (split || self.has_news()) && self.note_told(now)
    }

    fn tell(&mut self, now: Instant, interval: Duration) -> Telling {
        if !self.has_news() || self.due.is_some() {
            return Telling::Nothing;
        }
        match self.told {
            Some((_, at)) if now < at + interval => {
                self.due = Some(at + interval);
                Telling::At(at + interval)
            }
            _ => {
                self.note_told(now);
                Telling::Now
            }
        }
    }

    fn has_news(&self) -> bool {
        let told = self.told.map(|(current, _)| current);
        self.known().is_some_and(|known| told != Some(known.current))
    }

    /// Always true.
    fn note_told(&mut self, now: Instant) -> bool {
        self.told = self.known.map(|known| (known.current, now));
        true
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use proptest::prelude::*;

    use super::*;

    const INTERVAL: Duration = Duration::from_millis(200);

    fn count(current: u64, seq: u64, as_of: i64) -> Count {
        Count {
            current,
            seq,
            as_of: DateTime::from_timestamp_millis(as_of).unwrap(),
        }
    }

    #[test]
    fn p7_what_is_not_newer_than_the_snapshot_is_ignored() {
        let now = Instant::now();
        let mut topic = Topic::default();
        assert_eq!(topic.read(count(5, 10, 100), now, INTERVAL), Telling::Now);
        for seq in [9, 10] {
            let old = topic.published(count(4, seq, 99), now, INTERVAL);
            assert_eq!(old, Telling::Nothing);
        }
        assert_eq!(topic.known().unwrap().current, 5);
        topic.published(count(6, 11, 101), now, INTERVAL);
        assert_eq!(topic.known().unwrap().current, 6);
    }

    #[test]
    fn p7_what_was_published_before_the_snapshot_is_told_with_it() {
        let now = Instant::now();
        let mut topic = Topic::default();
        assert_eq!(
            topic.published(count(6, 11, 101), now, INTERVAL),
            Telling::Nothing
        );
        assert_eq!(topic.known(), None, "it may be from before the subscription");
        // The answer was on its way while that was published.
        assert_eq!(topic.read(count(5, 10, 100), now, INTERVAL), Telling::Now);
        assert_eq!(topic.known(), Some(count(6, 11, 101)));
        assert_eq!(topic.read(count(5, 10, 100), now, INTERVAL), Telling::Nothing);
    }

    #[test]
    fn p6_a_lost_message_is_made_good_by_the_next_reading() {
        let now = Instant::now();
        let mut topic = Topic::default();
        topic.read(count(6, 11, 101), now, INTERVAL);
        // The change to 7 was lost.
        topic.read(count(7, 12, 200), now + INTERVAL, INTERVAL);
        assert_eq!(topic.known(), Some(count(7, 12, 200)));
    }

    /// Redis restarted empty: its answer has no number at all.
    #[test]
    fn p6_a_store_that_forgot_everything_is_believed_and_numbers_rise() {
        let now = Instant::now();
        let mut topic = Topic::default();
        topic.read(count(6, 1_000, 1_000), now, INTERVAL);
        let told = topic.read(count(0, 0, 2_000), now + INTERVAL, INTERVAL);
        assert_eq!(told, Telling::Now);
        assert_eq!(topic.known(), Some(count(0, 1_001, 2_000)));
        topic.published(count(1, 3_000, 3_000), now + INTERVAL, INTERVAL);
        assert_eq!(topic.known().unwrap().current, 1);
    }

    #[test]
    fn a_reading_that_changes_nothing_tells_nobody_and_is_as_of_later() {
        let now = Instant::now();
        let mut topic = Topic::default();
        topic.read(count(6, 11, 101), now, INTERVAL);
        let later = topic.read(count(6, 11, 5_000), now + INTERVAL * 2, INTERVAL);
        assert_eq!(later, Telling::Nothing);
        assert_eq!(topic.known(), Some(count(6, 11, 5_000)));
    }

    #[test]
    fn many_changes_at_once_are_told_once_at_once_and_once_more_later() {
        let start = Instant::now();
        let mut topic = Topic::default();
        assert_eq!(topic.read(count(1, 1, 1), start, INTERVAL), Telling::Now);
        let due = Telling::At(start + INTERVAL);
        assert_eq!(topic.published(count(2, 2, 2), start, INTERVAL), due);
        assert_eq!(topic.published(count(3, 3, 3), start, INTERVAL), Telling::Nothing);
        assert!(!topic.is_due(start), "not yet");
        assert!(topic.is_due(start + INTERVAL));
        assert!(!topic.is_due(start + INTERVAL), "told");
        let after = start + INTERVAL + INTERVAL;
        assert_eq!(topic.published(count(4, 4, 4), after, INTERVAL), Telling::Now);
    }

    #[test]
    fn a_count_that_is_what_it_was_is_not_told() {
        let start = Instant::now();
        let mut topic = Topic::default();
        topic.read(count(1, 1, 1), start, INTERVAL);
        topic.published(count(2, 2, 2), start, INTERVAL);
        topic.published(count(1, 3, 3), start, INTERVAL);
        assert!(!topic.is_due(start + INTERVAL));
    }

    /// It rose and fell within a moment; somebody came in between and was given what it was then.
    #[test]
    fn a_new_subscriber_is_not_left_with_a_passing_count() {
        let start = Instant::now();
        let mut topic = Topic::default();
        topic.read(count(1, 1, 1), start, INTERVAL);
        topic.published(count(2, 2, 2), start, INTERVAL);
        topic.given();
        topic.published(count(1, 3, 3), start, INTERVAL);
        assert!(topic.is_due(start + INTERVAL));
    }

    proptest! {
        /// Whatever the order: numbers told rise, no two tellings are closer than the interval, and in the
        /// end subscribers have been told what is known.
        #[test]
        fn l1_tellings_are_few_and_the_last_is_the_latest(
            steps in prop::collection::vec((0..400_u64, 0..50_u64, 0..50_u64, any::<bool>()), 1..100)
        ) {
            let mut now = Instant::now();
            let mut topic = Topic::default();
            let mut tellings: Vec<(Instant, Count)> = Vec::new();
            let mut due = None;
            let mut millis = 0;
            topic.read(count(0, 0, 0), now, INTERVAL);
            tellings.push((now, topic.known().unwrap()));
            for (pass, current, seq, is_read) in steps {
                now += Duration::from_millis(pass);
                millis += i64::try_from(pass).unwrap();
                if due.is_some_and(|due| due <= now) {
                    due = None;
                    if topic.is_due(now) {
                        tellings.push((now, topic.known().unwrap()));
                    }
                }
                let offered = count(current, seq, millis);
                let telling = if is_read {
                    topic.read(offered, now, INTERVAL)
                } else {
                    topic.published(offered, now, INTERVAL)
                };
                match telling {
                    Telling::Now => tellings.push((now, topic.known().unwrap())),
                    Telling::At(at) => due = Some(at),
                    Telling::Nothing => {}
                }
            }
            if let Some(due) = due && topic.is_due(due) {
                tellings.push((due, topic.known().unwrap()));
            }
            for pair in tellings.windows(2) {
                prop_assert!(pair[0].1.seq < pair[1].1.seq);
                prop_assert!(pair[1].0 - pair[0].0 >= INTERVAL);
            }
            prop_assert_eq!(tellings.last().unwrap().1.current, topic.known().unwrap().current);
        }
    }
}
