//! The state of one scope's count, and when its subscribers are sent updates. Pure; the time is a parameter.
//! An update is sent at once, unless one was sent a moment ago (L1).
//!
//! Two sources compete. A *published* count is ordered by the store's sequence number. A *read* count is at least
//! as new as its number says (P7) and has the time of the store's own clock: read later than the known count was
//! true, it is newer, whatever its number, because the store may have lost data. After a gap in the feed the store
//! may be another one, with another clock: then the next read count is taken in any case.
//!
//! Subscribers get sequence numbers of our own, which rise whatever the store's do.

use std::time::{Duration, Instant};

use crate::presence::{Answer, Count};

/// How long a known count is kept after presence went away, before a remembered one replaces it: that is lower where
/// there are several sidecars, and most outages are short.
pub(super) const STANDS: Duration = Duration::from_secs(5);

/// The state of one scope.
#[derive(Debug, Default)]
pub(super) struct Topic {
    /// The latest count, with a number of our own.
    known: Option<LiveCount>,
    /// The store's number of that count.
    store_seq: u64,
    /// The store may not be the one that the known count came from.
    doubted: bool,
    /// Whether the count was read since the first subscription: published counts are not sent before that, as they
    /// may be older than the subscription.
    is_read: bool,
    /// The count that subscribers were sent last, its staleness, and when.
    pushed: Option<(u64, bool, Instant)>,
    /// When the next update is due.
    due: Option<Instant>,
    /// Since when the store has not answered readings.
    away_since: Option<Instant>,
    /// A new subscriber was given a count that the others were not sent: the next update is sent even if the count
    /// is back at the former value.
    split: bool,
}

/// A scope's count, as its subscribers get it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LiveCount {
    pub(super) count: Count,
    /// Whether the store is away, and this count was remembered here.
    pub(super) stale: bool,
}

/// When to push the latest count to the subscribers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Push {
    /// Not now; or it is planned already.
    Nothing,
    /// Now.
    Now,
    /// Ask again then.
    At(Instant),
}

impl Topic {
    /// The latest count.
    pub(super) fn known(&self) -> Option<LiveCount> {
        self.known.filter(|_| self.is_read)
    }

    /// The latest count was given to a new subscriber, as the snapshot.
    pub(super) fn given(&mut self) {
        self.split |= self.due.is_some();
    }

    /// Changes may have been missed, and the store may be another.
    pub(super) fn doubt(&mut self) {
        self.doubted = true;
    }

    /// The store published a change.
    pub(super) fn published(&mut self, count: Count, now: Instant, interval: Duration) -> Push {
        if self.known.is_some() && count.seq <= self.store_seq {
            return Push::Nothing;
        }
        self.know(count, false);
        self.push(now, interval)
    }

    /// A reading is over; without a count if there is no answer.
    pub(super) fn answered(
        &mut self,
        answer: Option<Answer<Count>>,
        now: Instant,
        interval: Duration,
    ) -> Push {
        match answer {
            Some(Answer { value, stale: false }) => {
                self.away_since = None;
                self.read(value, false, now, interval)
            }
            remembered => {
                let since = *self.away_since.get_or_insert(now);
                let stands = now < since + STANDS && self.known().is_some();
                let remembered = remembered.filter(|_| !stands);
                remembered.map_or(Push::Nothing, |answer| {
                    self.read(answer.value, true, now, interval)
                })
            }
        }
    }

    /// The store answered a reading; or, `stale`, it is away, and this count was remembered here.
    fn read(&mut self, count: Count, stale: bool, now: Instant, interval: Duration) -> Push {
        self.is_read = true;
        // A remembered count has the time of another clock, and any answer is better.
        let is_better = |known: LiveCount| known.stale && !stale;
        let outdated = |known: LiveCount| {
            !is_better(known) && count.as_of <= known.count.as_of && count.seq <= self.store_seq
        };
        // The answer was under way while changes were published.
        if !self.doubted && self.known.is_some_and(outdated) {
            return self.push(now, interval);
        }
        // A remembered count says nothing about the store.
        self.doubted &= stale;
        self.know(count, stale);
        self.push(now, interval)
    }

    fn know(&mut self, count: Count, stale: bool) {
        if !stale {
            self.store_seq = count.seq;
        }
        let seq = match self.known {
            None => count.seq,
            // Subscribers order counts only by their number.
            Some(known) if (count.current, stale) != (known.count.current, known.stale) => {
                count.seq.max(known.count.seq + 1)
            }
            Some(known) => count.seq.max(known.count.seq),
        };
        let count = Count { seq, ..count };
        self.known = Some(LiveCount { count, stale });
    }

    /// The time of [`Push::At`] has come: returns whether to push.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        match self.due {
            Some(due) if due <= now => {}
            _ => return false,
        }
        self.due = None;
        let split = std::mem::take(&mut self.split);
        (split || self.has_news()) && self.note_pushed(now)
    }

    fn push(&mut self, now: Instant, interval: Duration) -> Push {
        if !self.has_news() || self.due.is_some() {
            return Push::Nothing;
        }
        match self.pushed {
            Some((_, _, at)) if now < at + interval => {
                self.due = Some(at + interval);
                Push::At(at + interval)
            }
            _ => {
                self.note_pushed(now);
                Push::Now
            }
        }
    }

    fn has_news(&self) -> bool {
        let pushed = self.pushed.map(|(current, stale, _)| (current, stale));
        self.known()
            .is_some_and(|known| pushed != Some((known.count.current, known.stale)))
    }

    /// Always true.
    fn note_pushed(&mut self, now: Instant) -> bool {
        self.pushed = self.known.map(|known| (known.count.current, known.stale, now));
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

    fn current(count: Count) -> LiveCount {
        LiveCount { count, stale: false }
    }

    #[test]
    fn p7_what_is_not_newer_than_the_snapshot_is_ignored() {
        let now = Instant::now();
        let mut topic = Topic::default();
        assert_eq!(topic.read(count(5, 10, 100), false, now, INTERVAL), Push::Now);
        for seq in [9, 10] {
            let old = topic.published(count(4, seq, 99), now, INTERVAL);
            assert_eq!(old, Push::Nothing);
        }
        assert_eq!(topic.known().unwrap().count.current, 5);
        topic.published(count(6, 11, 101), now, INTERVAL);
        assert_eq!(topic.known().unwrap().count.current, 6);
    }

    #[test]
    fn p7_what_was_published_before_the_snapshot_is_told_with_it() {
        let now = Instant::now();
        let mut topic = Topic::default();
        assert_eq!(topic.published(count(6, 11, 101), now, INTERVAL), Push::Nothing);
        assert_eq!(topic.known(), None, "it may be from before the subscription");
        // The answer was on its way while that was published.
        assert_eq!(topic.read(count(5, 10, 100), false, now, INTERVAL), Push::Now);
        assert_eq!(topic.known(), Some(current(count(6, 11, 101))));
        assert_eq!(topic.read(count(5, 10, 100), false, now, INTERVAL), Push::Nothing);
    }

    #[test]
    fn p6_a_lost_message_is_made_good_by_the_next_reading() {
        let now = Instant::now();
        let mut topic = Topic::default();
        topic.read(count(6, 11, 101), false, now, INTERVAL);
        // The change to 7 was lost.
        topic.read(count(7, 12, 200), false, now + INTERVAL, INTERVAL);
        assert_eq!(topic.known(), Some(current(count(7, 12, 200))));
    }

    /// Redis restarted empty: its answer has no number at all.
    #[test]
    fn p6_a_store_that_forgot_everything_is_believed_and_numbers_rise() {
        let now = Instant::now();
        let mut topic = Topic::default();
        topic.read(count(6, 1_000, 1_000), false, now, INTERVAL);
        let told = topic.read(count(0, 0, 2_000), false, now + INTERVAL, INTERVAL);
        assert_eq!(told, Push::Now);
        assert_eq!(topic.known(), Some(current(count(0, 1_001, 2_000))));
        topic.published(count(1, 3_000, 3_000), now + INTERVAL, INTERVAL);
        assert_eq!(topic.known().unwrap().count.current, 1);
    }

    /// Another Redis with another clock: what it publishes has lower numbers than what is known.
    #[test]
    fn p6_after_a_gap_the_store_is_believed_whatever_its_clock_says() {
        let now = Instant::now();
        let mut topic = Topic::default();
        topic.read(count(6, 90_000, 90_000), false, now, INTERVAL);
        topic.doubt();
        topic.read(count(2, 60_000, 60_000), false, now, INTERVAL);
        assert_eq!(topic.known().unwrap().count.current, 2);
        topic.published(count(3, 60_001, 60_001), now, INTERVAL);
        let known = topic.known().unwrap().count;
        assert_eq!(known.current, 3);
        assert!(known.seq > 90_000, "subscribers' numbers rise");
        // Once: an answer that was overtaken is one again.
        topic.read(count(2, 60_000, 60_000), false, now, INTERVAL);
        assert_eq!(topic.known().unwrap().count.current, 3);
    }

    #[test]
    fn what_is_remembered_while_the_store_is_away_is_told_as_stale_and_then_as_current() {
        let start = Instant::now();
        let mut topic = Topic::default();
        topic.read(count(6, 11, 101), false, start, INTERVAL);
        let later = start + INTERVAL;
        assert_eq!(topic.read(count(6, 0, 200), true, later, INTERVAL), Push::Now);
        let stale = topic.known().unwrap();
        assert!(stale.stale && stale.count.seq == 12, "{stale:?}");
        let again = topic.read(count(6, 0, 300), true, later + INTERVAL, INTERVAL);
        assert_eq!(again, Push::Nothing);
        let back = topic.read(count(6, 11, 400), false, later + INTERVAL, INTERVAL);
        assert_eq!(back, Push::Now);
        let known = topic.known().unwrap();
        assert!(!known.stale && known.count.seq == 13, "{known:?}");
        topic.published(count(7, 12, 500), later + INTERVAL * 2, INTERVAL);
        assert_eq!(topic.known().unwrap().count.current, 7);
    }

    /// The store's part has failed over to a server whose clock is behind.
    #[test]
    fn what_was_remembered_gives_way_to_any_answer() {
        let now = Instant::now();
        let mut topic = Topic::default();
        topic.read(count(6, 11, 10_000), false, now, INTERVAL);
        topic.read(count(1, 0, 20_000), true, now, INTERVAL);
        topic.read(count(6, 11, 15_000), false, now, INTERVAL);
        let known = topic.known().unwrap();
        assert!(!known.stale && known.count.current == 6, "{known:?}");
    }

    #[test]
    fn a_reading_that_changes_nothing_tells_nobody_and_is_as_of_later() {
        let now = Instant::now();
        let mut topic = Topic::default();
        topic.read(count(6, 11, 101), false, now, INTERVAL);
        let later = topic.read(count(6, 11, 5_000), false, now + INTERVAL * 2, INTERVAL);
        assert_eq!(later, Push::Nothing);
        assert_eq!(topic.known(), Some(current(count(6, 11, 5_000))));
    }

    #[test]
    fn many_changes_at_once_are_told_once_at_once_and_once_more_later() {
        let start = Instant::now();
        let mut topic = Topic::default();
        assert_eq!(topic.read(count(1, 1, 1), false, start, INTERVAL), Push::Now);
        let due = Push::At(start + INTERVAL);
        assert_eq!(topic.published(count(2, 2, 2), start, INTERVAL), due);
        assert_eq!(topic.published(count(3, 3, 3), start, INTERVAL), Push::Nothing);
        assert!(!topic.is_due(start), "not yet");
        assert!(topic.is_due(start + INTERVAL));
        assert!(!topic.is_due(start + INTERVAL), "told");
        let after = start + INTERVAL + INTERVAL;
        assert_eq!(topic.published(count(4, 4, 4), after, INTERVAL), Push::Now);
    }

    #[test]
    fn a_count_that_is_what_it_was_is_not_told() {
        let start = Instant::now();
        let mut topic = Topic::default();
        topic.read(count(1, 1, 1), false, start, INTERVAL);
        topic.published(count(2, 2, 2), start, INTERVAL);
        topic.published(count(1, 3, 3), start, INTERVAL);
        assert!(!topic.is_due(start + INTERVAL));
    }

    /// It rose and fell within a moment; somebody came in between and was given what it was then.
    #[test]
    fn a_new_subscriber_is_not_left_with_a_passing_count() {
        let start = Instant::now();
        let mut topic = Topic::default();
        topic.read(count(1, 1, 1), false, start, INTERVAL);
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
            topic.read(count(0, 0, 0), false, now, INTERVAL);
            tellings.push((now, topic.known().unwrap().count));
            for (pass, current, seq, is_read) in steps {
                now += Duration::from_millis(pass);
                millis += i64::try_from(pass).unwrap();
                if due.is_some_and(|due| due <= now) {
                    due = None;
                    if topic.is_due(now) {
                        tellings.push((now, topic.known().unwrap().count));
                    }
                }
                let offered = count(current, seq, millis);
                let telling = if is_read {
                    topic.read(offered, false, now, INTERVAL)
                } else {
                    topic.published(offered, now, INTERVAL)
                };
                match telling {
                    Push::Now => tellings.push((now, topic.known().unwrap().count)),
                    Push::At(at) => due = Some(at),
                    Push::Nothing => {}
                }
            }
            if let Some(due) = due && topic.is_due(due) {
                tellings.push((due, topic.known().unwrap().count));
            }
            for pair in tellings.windows(2) {
                prop_assert!(pair[0].1.seq < pair[1].1.seq);
                prop_assert!(pair[1].0 - pair[0].0 >= INTERVAL);
            }
            prop_assert_eq!(tellings.last().unwrap().1.current, topic.known().unwrap().count.current);
        }
    }
}
