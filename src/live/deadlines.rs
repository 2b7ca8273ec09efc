//! Deadlines of one connection: pings, checks, heartbeats, and limits of time. Pure; the time is a parameter.

use std::time::Duration;

use tokio::time::Instant;

use super::close::{Close, End};

/// Shortest period. Also between two checks of a session that has expired.
const SECOND: Duration = Duration::from_secs(1);
/// How late a check may be, however short its period is.
const LATE: Duration = Duration::from_secs(3);
/// How long a connection is kept whose session has expired by its known expiry, while that cannot be looked up.
const EXPIRED: Duration = Duration::from_secs(5);
/// Longer than a connection lasts; moments that far away can still be added to.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Periods and limits of all connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) ping_every: Duration,
    pub(super) pong_within: Duration,
    pub(super) write_within: Duration,
    pub(super) check_every: Duration,
    pub(super) access_every: Duration,
    pub(super) beat_every: Duration,
    /// How long a verified session is valid.
    pub(super) session_within: Duration,
    /// How long verified access is valid.
    pub(super) access_within: Duration,
}

/// A period or limit as configured, within bounds.
pub(super) fn bounded(time: Duration) -> Duration {
    time.clamp(SECOND, NEVER)
}

/// How long a verification is valid that is repeated every `interval`: twice as long, and long enough for a late
/// check.
pub(super) fn validity(interval: Duration) -> Duration {
    let interval = interval.min(NEVER);
    (interval * 2).max(interval + LATE)
}

/// The deadlines; `None` where there is none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    /// Not later than any of the others.
    earliest: Instant,
    /// Whether the client must answer pings.
    must_answer: bool,
    ping: Instant,
    /// The latest time of a sign of life.
    pong: Option<Instant>,
    /// By when what is pending must be written, or a part of it where the transport tells of parts.
    write: Option<Instant>,
    session: Option<PeriodicCheck>,
    access: Option<PeriodicCheck>,
    beat: Instant,
}

/// Something that is checked periodically.
#[derive(Debug, Clone, Copy)]
struct PeriodicCheck {
    next: Instant,
    /// The check after the first, where that is another time than the period says.
    second: Option<Instant>,
    /// Until when the last verification is valid.
    valid_until: Instant,
    /// When a session expires.
    expiry: Instant,
}

/// A connection at its beginning.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beginning {
    pub(super) now: Instant,
    /// When session and access were verified.
    pub(super) verified: Instant,
    /// For how much longer its session lasts, if it has one.
    pub(super) expires_in: Option<Duration>,
    /// Whether access is checked periodically.
    pub(super) checks_access: bool,
    /// Whether the client must answer pings.
    pub(super) must_answer: bool,
    /// From 0 up to 1. Keeps connections that came together from being pinged and checked together ever after.
    pub(super) spread: f64,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    End(End),
    Ping,
    CheckSession,
    CheckAccess,
    Heartbeat,
}

impl Deadlines {
    /// A connection is a heartbeat at once. Its session is checked at once, too: it may have ended between the request
    /// and the start.
    pub(super) fn new(times: &Times, beginning: Beginning) -> Self {
        let Beginning { now, verified, .. } = beginning;
        let soon = |period: Duration| now + period.mul_f64(beginning.spread);
        let session = |expires_in: Duration| PeriodicCheck {
            next: now,
            second: Some(soon(times.check_every)),
            valid_until: verified + times.session_within,
            expiry: now + expires_in.min(NEVER),
        };
        let access = PeriodicCheck {
            next: soon(times.access_every),
            second: None,
            valid_until: verified + times.access_within,
            expiry: now + NEVER,
        };
        Self {
            earliest: now,
            must_answer: beginning.must_answer,
            ping: soon(times.ping_every),
            pong: None,
            write: None,
            session: beginning.expires_in.map(session),
            access: beginning.checks_access.then_some(access),
            beat: now,
        }
    }

    /// What is due, the most urgent first; `None` before [`Deadlines::next`].
    pub(super) fn due(&mut self, now: Instant, times: &Times) -> Option<Due> {
        if now < self.earliest {
            return None;
        }
        let is_past = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        if is_past(self.pong) {
            return Some(Due::End(End::Dead));
        }
        if is_past(self.write) {
            return Some(Due::End(End::Stuck));
        }
        if [self.session, self.access]
            .map(|check| check.map(PeriodicCheck::last))
            .into_iter()
            .any(is_past)
        {
            return Some(Due::End(End::Closed(Close::Unavailable)));
        }
        if self.ping <= now {
            self.ping = now + times.ping_every;
            if self.must_answer {
                self.pong.get_or_insert(now + times.pong_within);
            }
            return Some(Due::Ping);
        }
        if self
            .session
            .as_mut()
            .is_some_and(|session| session.is_due(now, times.check_every))
        {
            return Some(Due::CheckSession);
        }
        if self
            .access
            .as_mut()
            .is_some_and(|access| access.is_due(now, times.access_every))
        {
            return Some(Due::CheckAccess);
        }
        if self.beat <= now {
            self.beat = now + times.beat_every;
            return Some(Due::Heartbeat);
        }
        let checks = [self.session, self.access].into_iter().flatten();
        let deadlines = checks.flat_map(|check| [check.next, check.last()]);
        let deadlines = deadlines.chain(self.pong).chain(self.write);
        self.earliest = deadlines.fold(self.ping.min(self.beat), Instant::min);
        None
    }

    /// When something may be due next.
    pub(super) fn next(&self) -> Instant {
        self.earliest
    }

    /// The client gave a sign of life.
    pub(super) fn heard(&mut self) {
        self.pong = None;
    }

    /// A write is pending.
    pub(super) fn write_pending(&mut self, now: Instant, times: &Times) {
        let write = *self.write.get_or_insert(now + times.write_within);
        self.earliest = self.earliest.min(write);
    }

    /// Nothing is pending, or a part of it was written.
    pub(super) fn written(&mut self) {
        self.write = None;
    }

    /// The session was verified at a moment, and lasts for this much longer.
    pub(super) fn session_verified(
        &mut self,
        at: Instant,
        now: Instant,
        expires_in: Duration,
        times: &Times,
    ) {
        if let Some(session) = &mut self.session {
            session.valid_until = at + times.session_within;
            session.expiry = now + expires_in.min(NEVER);
            session.next = session.next.min(session.expiry);
            self.earliest = self.earliest.min(session.next);
        }
    }

    /// Access was verified by a check that began at a moment.
    pub(super) fn access_verified(&mut self, at: Instant, times: &Times) {
        if let Some(access) = &mut self.access {
            access.valid_until = at + times.access_within;
        }
    }
}

impl PeriodicCheck {
    /// When it is too late for a check.
    fn last(self) -> Instant {
        self.valid_until.min(self.expiry + EXPIRED)
    }

    /// Whether it is due; if so, it is next due after a period, but at once when the session expires, and then often.
    fn is_due(&mut self, now: Instant, period: Duration) -> bool {
        if now < self.next {
            return false;
        }
        let next = self.second.take().unwrap_or(now + period);
        self.next = if now < self.expiry {
            next.min(self.expiry)
        } else {
            now + SECOND
        };
        true
    }
}

#[cfg(test)]
mod tests;
