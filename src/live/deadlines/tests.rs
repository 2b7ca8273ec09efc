//! Tests of deadlines: what is due when, for a client that answers or does not, and for checks that succeed or not.

use super::*;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const TIMES: Times = Times {
    ping_every: seconds(25),
    pong_within: seconds(10),
    write_within: seconds(15),
    check_every: seconds(3),
    access_every: seconds(60),
    beat_every: seconds(100),
    session_within: seconds(60),
    access_within: seconds(120),
};

/// A connection with a session of a year, over a `WebSocket`, whose access is checked.
struct Run {
    start: Instant,
    deadlines: Deadlines,
    dues: Vec<(u64, Due)>,
}

impl Run {
    fn new(spread: f64, change: impl FnOnce(&mut Beginning)) -> Self {
        let now = Instant::now();
        let mut beginning = Beginning {
            now,
            verified: now,
            expires_in: Some(seconds(365 * 24 * 60 * 60)),
            checks_access: true,
            must_answer: true,
            spread,
        };
        change(&mut beginning);
        Self {
            start: now,
            deadlines: Deadlines::new(&TIMES, beginning),
            dues: Vec::new(),
        }
    }

    /// Runs until an end, or until so many seconds after the start; `then` does what follows upon what is due.
    fn until(mut self, end: u64, then: impl Fn(&mut Deadlines, Instant, Due)) -> Self {
        let mut now = self.start;
        while now < self.start + seconds(end) {
            while let Some(due) = self.deadlines.due(now, &TIMES) {
                self.dues.push(((now - self.start).as_secs(), due));
                if matches!(due, Due::End(_)) {
                    return self;
                }
                then(&mut self.deadlines, now, due);
            }
            assert!(self.deadlines.next() > now, "time passes");
            now = self.deadlines.next();
        }
        self
    }

    fn at(&self, what: Due) -> Vec<u64> {
        let dues = self.dues.iter().filter(|(_, due)| *due == what);
        dues.map(|(at, _)| *at).collect()
    }

    fn end(&self) -> Option<(u64, End)> {
        self.dues.iter().find_map(|(at, due)| match due {
            Due::End(end) => Some((*at, *end)),
            _ => None,
        })
    }
}

/// The client answers, and checks succeed.
fn fine(deadlines: &mut Deadlines, now: Instant, due: Due) {
    match due {
        Due::Ping => deadlines.heard(),
        Due::CheckSession => deadlines.session_verified(now, now, NEVER, &TIMES),
        Due::CheckAccess => deadlines.access_verified(now, &TIMES),
        Due::Heartbeat | Due::End(_) => {}
    }
}

#[test]
fn l3_who_answers_pings_stays() {
    let run = Run::new(0.0, |_| {}).until(500, fine);
    assert_eq!(run.end(), None);
    assert_eq!(run.at(Due::Ping).len(), 20);
}

#[test]
fn l3_who_does_not_answer_in_time_is_dead() {
    let run = Run::new(0.0, |_| {}).until(20, |_, _, _| {});
    assert_eq!(run.end(), Some((10, End::Dead)));
}

#[test]
fn an_event_stream_need_not_answer_but_must_take_what_is_written() {
    let silent = |deadlines: &mut Deadlines, now: Instant, due: Due| {
        if due != Due::Ping {
            fine(deadlines, now, due);
        }
    };
    let start = || Run::new(0.0, |beginning| beginning.must_answer = false);
    assert_eq!(start().until(500, silent).end(), None);
    let stuck = start().until(500, |deadlines, now, due| {
        silent(deadlines, now, due);
        deadlines.write_pending(now, &TIMES);
    });
    assert_eq!(stuck.end(), Some((15, End::Stuck)));
    let slow = start().until(500, |deadlines, now, due| {
        silent(deadlines, now, due);
        deadlines.written();
        deadlines.write_pending(now, &TIMES);
    });
    assert_eq!(slow.end(), None, "something is taken now and then");
}

/// Whether a check fails, is under way or waits for its turn makes no difference.
#[test]
fn i13_what_was_verified_too_long_ago_no_longer_holds() {
    let end = |is_verified: fn(u64, Due) -> bool| {
        let run = Run::new(0.0, |_| {});
        let start = run.start;
        let run = run.until(1_000, move |deadlines, now, due| {
            if is_verified((now - start).as_secs(), due) {
                fine(deadlines, now, due);
            }
        });
        run.end()
    };
    let closed = End::Closed(Close::Unavailable);
    assert_eq!(end(|_, _| true), None);
    assert_eq!(
        end(|now, due| due != Due::CheckSession || now <= 99),
        Some((99 + 60, closed))
    );
    assert_eq!(
        end(|now, due| due != Due::CheckAccess || now <= 120),
        Some((120 + 120, closed))
    );
}

#[test]
fn i13_a_verification_is_valid_twice_the_interval_and_more_where_that_is_short() {
    let valid = |interval| validity(seconds(interval)).as_secs();
    assert_eq!([0, 1, 3, 30].map(valid), [3, 4, 6, 60]);
    assert!(Instant::now() + validity(Duration::MAX) > Instant::now());
}

#[test]
fn i5_a_session_that_expires_is_checked_then_and_again_until_it_is_given_up() {
    let run = Run::new(0.0, |beginning| beginning.expires_in = Some(seconds(7)));
    let run = run.until(100, |deadlines, now, due| {
        if due != Due::CheckSession {
            fine(deadlines, now, due);
        }
    });
    assert_eq!(run.at(Due::CheckSession), [0, 0, 3, 6, 7, 8, 9, 10, 11]);
    assert_eq!(run.end(), Some((12, End::Closed(Close::Unavailable))));
}

#[test]
fn p11_the_first_heartbeat_is_at_once_and_further_ones_come_regularly() {
    let run = Run::new(0.5, |_| {}).until(300, fine);
    assert_eq!(run.at(Due::Heartbeat), [0, 100, 200]);
}

#[test]
fn i5_the_first_check_is_at_once_and_further_ones_come_regularly() {
    let checks = |spread| Run::new(spread, |_| {}).until(12, fine).at(Due::CheckSession);
    assert_eq!(checks(0.0), [0, 0, 3, 6, 9]);
    assert_eq!(checks(0.999), [0, 2, 5, 8, 11]);
}

#[test]
fn connections_that_came_together_are_spread() {
    let first = |spread| Run::new(spread, |_| {}).until(100, fine).at(Due::Ping)[0];
    assert_eq!([0.0, 0.5, 0.999].map(first), [0, 12, 24]);
}

#[test]
fn times_are_bounded() {
    assert_eq!(bounded(Duration::ZERO), SECOND);
    assert_eq!(bounded(seconds(25)), seconds(25));
    assert!(Instant::now() + bounded(Duration::MAX) > Instant::now());
}
