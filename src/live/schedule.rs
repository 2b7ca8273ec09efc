//! Schedule of one connection: pings, checks, heartbeats, and timeouts. Pure: time is a number of ticks.
//!
//! One ticker serves all connections: a timer each would cost memory and wake-ups for nothing.

use std::time::Duration;

use super::close::End;

/// Between two ticks.
pub(super) const TICK: Duration = Duration::from_secs(1);
/// Ticks that closing may take.
const FAREWELL: u32 = 3;

/// Periods and limits, in ticks, at least one each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) ping_every: u32,
    pub(super) pong_within: u32,
    pub(super) write_within: u32,
    pub(super) check_every: u32,
    pub(super) access_every: u32,
    pub(super) beat_every: u32,
    /// How long a verified session is valid.
    pub(super) session_within: u32,
    /// How long verified access is valid.
    pub(super) access_within: u32,
}

/// Ticks that a check may be late, however short its period is.
const LATE: u32 = 3;

/// How long a verification is valid that is repeated every `interval`: twice as long, and long enough for a late
/// check.
pub(super) fn patience(interval: Duration) -> u32 {
    let interval = u32::try_from(interval.as_secs()).unwrap_or(u32::MAX / 4);
    interval.saturating_mul(2).max(interval.saturating_add(LATE))
}

/// Ticks of a time limit, rounded up.
pub(super) fn ticks_within(time: Duration) -> u32 {
    ticks(time.saturating_add(TICK.saturating_sub(Duration::from_nanos(1))))
}

/// Whole ticks of a period, at least one.
pub(super) fn ticks(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX / 4).max(1)
}

/// The schedule of one connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    next_ping: u32,
    /// When it was pinged, if no sign of life has come since.
    pinged: Option<u32>,
    next_check: u32,
    /// The check after the first.
    second_check: Option<u32>,
    next_access: u32,
    next_beat: u32,
    closing_since: Option<u32>,
}

/// The observed state of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// Whether its client must answer pings.
    pub(super) answers: bool,
    /// When its client last gave a sign of life.
    pub(super) heard: u32,
    /// Since when a write has been pending.
    pub(super) stuck_since: Option<u32>,
    /// Whether it is closing.
    pub(super) closing: bool,
    /// When its session was last verified, if it has one.
    pub(super) session_verified: Option<u32>,
    /// When access was last verified, if it is checked periodically.
    pub(super) access_verified: Option<u32>,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "any of them may be due")]
pub(super) struct Due {
    pub(super) end: Option<End>,
    /// A verification is no longer valid.
    pub(super) lapsed: bool,
    pub(super) ping: bool,
    pub(super) check: bool,
    pub(super) access: bool,
    pub(super) beat: bool,
}

impl Schedule {
    /// The schedule of a connection that begins now, and is a heartbeat at once. It is checked at once, too: its
    /// session may have ended between the request and the start. `spread`, from 0 up to 1, keeps connections that
    /// came together from being pinged and checked together ever after.
    pub(super) fn new(now: u32, times: &Times, spread: f64) -> Self {
        Self {
            next_ping: now + part(times.ping_every, spread),
            pinged: None,
            next_check: now,
            second_check: Some(now + 1 + part(times.check_every, spread)),
            next_access: now + part(times.access_every, spread),
            next_beat: now,
            closing_since: None,
        }
    }

    /// What is due now.
    pub(super) fn advance(&mut self, now: u32, times: &Times, seen: Seen) -> Due {
        if seen.closing {
            let since = *self.closing_since.get_or_insert(now);
            return Due {
                end: (now - since > FAREWELL).then_some(End::Stuck),
                ..Due::default()
            };
        }
        if self.pinged.is_some_and(|pinged| seen.heard >= pinged) {
            self.pinged = None;
        }
        let is_past =
            |since: Option<u32>, within| since.is_some_and(|since| now.saturating_sub(since) > within);
        let end = if seen.answers && is_past(self.pinged, times.pong_within) {
            Some(End::Dead)
        } else if is_past(seen.stuck_since, times.write_within) {
            Some(End::Stuck)
        } else {
            None
        };
        let lapsed = is_past(seen.session_verified, times.session_within)
            || is_past(seen.access_verified, times.access_within);
        let ping = now >= self.next_ping;
        if ping {
            self.next_ping = now + times.ping_every;
            self.pinged.get_or_insert(now);
        }
        let check = now >= self.next_check;
        if check {
            self.next_check = self.second_check.take().unwrap_or(now + times.check_every);
        }
        Due {
            end,
            lapsed,
            ping,
            check,
            access: comes_round(&mut self.next_access, now, times.access_every),
            beat: comes_round(&mut self.next_beat, now, times.beat_every),
        }
    }
}

fn comes_round(next: &mut u32, now: u32, every: u32) -> bool {
    let due = now >= *next;
    if due {
        *next = now + every;
    }
    due
}

/// At least 1, at most `ticks`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a part of a positive number"
)]
fn part(ticks: u32, spread: f64) -> u32 {
    (f64::from(ticks) * spread) as u32 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times {
        ping_every: 25,
        pong_within: 10,
        write_within: 15,
        check_every: 3,
        access_every: 60,
        beat_every: 100,
        session_within: 60,
        access_within: 120,
    };
    const FINE: Seen = Seen {
        answers: true,
        heard: 0,
        stuck_since: None,
        closing: false,
        session_verified: None,
        access_verified: None,
    };

    fn run(
        schedule: &mut Schedule,
        ticks: std::ops::Range<u32>,
        seen: impl Fn(u32) -> Seen,
    ) -> Vec<(u32, Due)> {
        ticks
            .map(|now| (now, schedule.advance(now, &TIMES, seen(now))))
            .collect()
    }

    #[test]
    fn l3_who_answers_pings_stays() {
        let mut schedule = Schedule::new(1, &TIMES, 0.0);
        let dues = run(&mut schedule, 2..500, |now| Seen {
            heard: now - 1,
            ..FINE
        });
        assert!(dues.iter().all(|(_, due)| due.end.is_none()));
        assert_eq!(dues.iter().filter(|(_, due)| due.ping).count(), 20);
    }

    #[test]
    fn l3_who_does_not_answer_in_time_is_dead() {
        let mut schedule = Schedule::new(1, &TIMES, 0.0);
        let dues = run(&mut schedule, 2..20, |_| FINE);
        let end = dues.iter().find_map(|(now, due)| Some((*now, due.end?)));
        assert_eq!(end, Some((2 + TIMES.pong_within + 1, End::Dead)));
    }

    #[test]
    fn an_event_stream_need_not_answer_but_must_take_what_is_written() {
        let silent = Seen {
            answers: false,
            ..FINE
        };
        let mut schedule = Schedule::new(1, &TIMES, 0.0);
        let dues = run(&mut schedule, 2..500, |_| silent);
        assert!(dues.iter().all(|(_, due)| due.end.is_none()));
        let stuck = Seen {
            stuck_since: Some(500),
            ..silent
        };
        let dues = run(&mut schedule, 501..600, |_| stuck);
        let end = dues.iter().find_map(|(now, due)| Some((*now, due.end?)));
        assert_eq!(end, Some((500 + TIMES.write_within + 1, End::Stuck)));
    }

    #[test]
    fn good_byes_are_short_and_nothing_else_is_due_meanwhile() {
        let closing = Seen {
            closing: true,
            ..FINE
        };
        let mut schedule = Schedule::new(1, &TIMES, 0.0);
        let dues = run(&mut schedule, 10..20, |_| closing);
        assert!(dues.iter().all(|(_, due)| !due.ping && !due.check && !due.beat));
        let end = dues.iter().find_map(|(now, due)| Some((*now, due.end?)));
        assert_eq!(end, Some((10 + FAREWELL + 1, End::Stuck)));
    }

    /// Whether a check fails, is under way or waits for its turn makes no difference.
    #[test]
    fn i13_what_was_verified_too_long_ago_no_longer_holds() {
        let lapses = |seen: fn(u32) -> Seen| {
            let mut schedule = Schedule::new(1, &TIMES, 0.0);
            let dues = run(&mut schedule, 2..1_000, |now| Seen {
                heard: now,
                ..seen(now)
            });
            dues.iter().find_map(|(now, due)| due.lapsed.then_some(*now))
        };
        assert_eq!(lapses(|_| FINE), None);
        let of_session = |now: u32| Seen {
            session_verified: Some(now.min(100)),
            access_verified: Some(now),
            ..FINE
        };
        assert_eq!(lapses(of_session), Some(100 + TIMES.session_within + 1));
        let of_access = |now: u32| Seen {
            session_verified: Some(now),
            access_verified: Some(now.min(100)),
            ..FINE
        };
        assert_eq!(lapses(of_access), Some(100 + TIMES.access_within + 1));
    }

    #[test]
    fn i13_patience_is_twice_the_interval_and_more_where_that_is_short() {
        let patience = |seconds| patience(Duration::from_secs(seconds));
        assert_eq!([0, 1, 3, 30].map(patience), [3, 4, 6, 60]);
        assert!(patience(u64::MAX) > 0);
    }

    #[test]
    fn p11_the_first_heartbeat_is_at_once_and_further_ones_come_regularly() {
        let mut schedule = Schedule::new(1, &TIMES, 0.5);
        let dues = run(&mut schedule, 2..302, |now| Seen { heard: now, ..FINE });
        let beats: Vec<_> = dues
            .iter()
            .filter(|(_, due)| due.beat)
            .map(|(now, _)| *now)
            .collect();
        assert_eq!(beats, [2, 102, 202]);
    }

    #[test]
    fn i5_the_first_check_is_at_once_and_further_ones_come_regularly() {
        let checks = |spread| {
            let mut schedule = Schedule::new(1, &TIMES, spread);
            let dues = run(&mut schedule, 2..14, |now| Seen { heard: now, ..FINE });
            let checks = dues.into_iter().filter(|(_, due)| due.check);
            checks.map(|(now, _)| now).collect::<Vec<_>>()
        };
        assert_eq!(checks(0.0), [2, 3, 6, 9, 12]);
        assert_eq!(checks(0.999), [2, 5, 8, 11]);
    }

    #[test]
    fn connections_that_came_together_are_spread() {
        let first = |spread| {
            let mut schedule = Schedule::new(1, &TIMES, spread);
            let dues = run(&mut schedule, 2..100, |now| Seen { heard: now, ..FINE });
            dues.iter().find(|(_, due)| due.ping).map(|(now, _)| *now)
        };
        assert_eq!(first(0.0), Some(2));
        assert_eq!(first(0.999), Some(1 + TIMES.ping_every));
    }

    #[test]
    fn times_are_whole_ticks_and_never_none() {
        assert_eq!(ticks(Duration::from_millis(1)), 1);
        assert_eq!(ticks(Duration::from_millis(2_900)), 2);
        assert_eq!(ticks(Duration::MAX), u32::MAX / 4);
        assert_eq!(ticks_within(Duration::from_secs(2)), 2);
        assert_eq!(ticks_within(Duration::from_millis(2_001)), 3);
        assert_eq!(ticks_within(Duration::MAX), u32::MAX / 4);
    }
}
