//! Registry of open connections: the state shared with the hub and the keeper.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Notify;

use super::close::Close;
use super::mailbox::Mailbox;
use super::schedule::{Due, Schedule, Seen, Times};
use super::{Door, Kind};
use crate::browser_session::BrowserSession;
use crate::ids::{BrowserSessionId, CommunityId, SessionToken, UserId};

/// How long a connection is kept whose session has expired by its known expiry, while that cannot be looked up.
const EXPIRED: TimeDelta = TimeDelta::seconds(5);

/// The registry.
pub(super) struct Seats {
    inner: Mutex<Inner>,
    next_id: AtomicU64,
    /// The current tick, from 1 on.
    tick: AtomicU32,
    times: Times,
    /// Notified when the last connection has ended.
    empty: Notify,
}

#[derive(Default)]
struct Inner {
    seats: HashMap<u64, Seat>,
    /// The connections of each session.
    sessions: HashMap<BrowserSessionId, HashSet<u64>>,
    draining: bool,
}

/// One registered connection.
pub(super) struct Seat {
    pub(super) kind: Kind,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) owner: Option<Owner>,
    pub(super) door: Arc<dyn Door>,
    /// The community whose page the connection belongs to, if it is a heartbeat (P11).
    pub(super) page: Option<CommunityId>,
    pub(super) schedule: Schedule,
    pub(super) waits: Waits,
    /// The ticks when its session, and its access, were last verified.
    pub(super) verified: (u32, u32),
}

/// The queues in which a connection waits for a check: it is at most once in each. A check that has begun is in
/// none: a later change needs another check.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Waits {
    /// A periodic check of its session.
    session: bool,
    /// A check of its session after a change.
    changed_session: bool,
    /// A check of access; until it has ended.
    access: bool,
}

/// Why a session is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The period has passed.
    Due,
    /// The session has changed.
    Changed,
}

/// The visitor of a connection.
#[derive(Clone)]
pub(super) struct Owner {
    pub(super) session: Arc<BrowserSession>,
    /// Given to the authenticator only.
    pub(super) token: SessionToken,
}

/// What is due in one tick.
#[derive(Default)]
pub(super) struct Round {
    /// Sessions to check.
    pub(super) sessions: Vec<u64>,
    /// Access to check.
    pub(super) access: Vec<u64>,
    /// Heartbeats: users of connections that are still open.
    pub(super) beats: Vec<(CommunityId, UserId)>,
}

/// What a check of access needs.
pub(super) struct AccessCheck {
    pub(super) door: Arc<dyn Door>,
    pub(super) session: Option<Arc<BrowserSession>>,
    pub(super) communities: Vec<CommunityId>,
}

/// The outcome of a check.
#[derive(Debug, Clone)]
pub(super) enum Checked<T> {
    /// Still valid.
    Holds(T),
    /// Cannot be determined.
    Unknown,
    /// No longer valid.
    Over(Close),
}

impl Seats {
    pub(super) fn new(times: Times) -> Self {
        Self {
            inner: Mutex::default(),
            next_id: AtomicU64::new(1),
            tick: AtomicU32::new(1),
            times,
            empty: Notify::new(),
        }
    }

    pub(super) fn tick(&self) -> u32 {
        self.tick.load(Ordering::Relaxed)
    }

    /// A schedule that starts now.
    pub(super) fn schedule(&self, spread: f64) -> Schedule {
        Schedule::new(self.tick(), &self.times, spread)
    }

    /// Registers a new connection; `None` while draining.
    pub(super) fn add(&self, seat: Seat) -> Option<u64> {
        seat.mailbox.note_heard(self.tick());
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut inner = self.lock();
        if inner.draining {
            return None;
        }
        if let Some(owner) = &seat.owner {
            let session = owner.session.id.clone();
            inner.sessions.entry(session).or_default().insert(id);
        }
        inner.seats.insert(id, seat);
        Some(id)
    }

    /// A connection has ended.
    pub(super) fn remove(&self, id: u64) {
        let mut inner = self.lock();
        let seat = inner.seats.remove(&id);
        if let Some(owner) = seat.as_ref().and_then(|seat| seat.owner.as_ref())
            && let Some(connections) = inner.sessions.get_mut(&owner.session.id)
        {
            connections.remove(&id);
            if connections.is_empty() {
                inner.sessions.remove(&owner.session.id);
            }
        }
        let is_empty = inner.seats.is_empty();
        drop(inner);
        // Its contents are dropped outside the lock.
        drop(seat);
        if is_empty {
            self.empty.notify_waiters();
        }
    }

    /// Advances to a tick.
    pub(super) fn advance(&self, tick: u32, now: DateTime<Utc>) -> Round {
        self.tick.store(tick, Ordering::Relaxed);
        let mut round = Round::default();
        for (id, seat) in &mut self.lock().seats {
            seat.advance(*id, tick, now, &self.times, &mut round);
        }
        round
    }

    /// The connection's session, as last checked.
    pub(super) fn session(&self, id: u64) -> Option<Arc<BrowserSession>> {
        let inner = self.lock();
        let owner = inner.seats.get(&id)?.owner.as_ref()?;
        Some(Arc::clone(&owner.session))
    }

    /// What a check of access needs.
    pub(super) fn access(&self, id: u64) -> Option<AccessCheck> {
        let inner = self.lock();
        let seat = inner.seats.get(&id)?;
        Some(AccessCheck {
            door: Arc::clone(&seat.door),
            session: seat.owner.as_ref().map(|owner| Arc::clone(&owner.session)),
            communities: seat.mailbox.communities(),
        })
    }

    /// These sessions have changed, or, with `None`, all may have: returns the connections to check at once.
    pub(super) fn sessions_changed(&self, changed: Option<&HashSet<BrowserSessionId>>) -> Vec<u64> {
        let mut inner = self.lock();
        let Inner { seats, sessions, .. } = &mut *inner;
        let mut checks = Vec::new();
        let mut check = |id: u64| {
            if let Some(seat) = seats.get_mut(&id)
                && !std::mem::replace(&mut seat.waits.changed_session, true)
            {
                checks.push(id);
            }
        };
        match changed {
            Some(changed) => {
                let of = |session: &BrowserSessionId| sessions.get(session).into_iter().flatten();
                changed.iter().flat_map(of).copied().for_each(&mut check);
            }
            None => sessions.values().flatten().copied().for_each(&mut check),
        }
        checks
    }

    /// A check of the session begins; returns its token.
    pub(super) fn session_check_begins(&self, id: u64, why: Why) -> Option<SessionToken> {
        let mut inner = self.lock();
        let seat = inner.seats.get_mut(&id)?;
        match why {
            Why::Due => seat.waits.session = false,
            Why::Changed => seat.waits.changed_session = false,
        }
        Some(seat.owner.as_ref()?.token.clone())
    }

    /// Records the outcome of a session check.
    pub(super) fn session_checked(&self, id: u64, outcome: Checked<(Arc<BrowserSession>, Duration)>) {
        let tick = self.tick();
        let mut inner = self.lock();
        let Some(seat) = inner.seats.get_mut(&id) else {
            return;
        };
        let close = match outcome {
            Checked::Holds((session, age)) => {
                let age = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
                seat.verified.0 = tick.saturating_sub(age);
                seat.owner.as_mut().and_then(|owner| owner.renew(session))
            }
            // The last verification stays valid for its time.
            Checked::Unknown => None,
            Checked::Over(close) => Some(close),
        };
        if let Some(close) = close {
            seat.mailbox.close(close);
        }
    }

    /// Records the outcome of an access check that began in tick `since`; access to these communities was lost.
    pub(super) fn access_checked(&self, id: u64, since: u32, outcome: Checked<Vec<CommunityId>>) {
        let mut inner = self.lock();
        let Some(seat) = inner.seats.get_mut(&id) else {
            return;
        };
        seat.waits.access = false;
        let close = match outcome {
            Checked::Holds(lost) => {
                seat.verified.1 = since;
                if !lost.is_empty() {
                    seat.mailbox.lose(lost);
                }
                None
            }
            Checked::Unknown => None,
            Checked::Over(close) => Some(close),
        };
        if let Some(close) = close {
            seat.mailbox.close(close);
        }
    }

    /// A connection has unsubscribed from a community.
    pub(super) fn left(&self, id: u64, community: &CommunityId) {
        if let Some(seat) = self.lock().seats.get_mut(&id)
            && seat.page.as_ref() == Some(community)
        {
            seat.page = None;
        }
    }

    /// Ends all connections, and refuses new ones.
    pub(super) fn drain(&self) {
        let mut inner = self.lock();
        inner.draining = true;
        for seat in inner.seats.values() {
            seat.mailbox.close(Close::GoingAway);
        }
    }

    /// Waits until there are no connections.
    pub(super) async fn emptied(&self) {
        loop {
            let emptied = self.empty.notified();
            let mut emptied = std::pin::pin!(emptied);
            emptied.as_mut().enable();
            if self.len() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// The number of connections.
    pub(super) fn len(&self) -> usize {
        self.lock().seats.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it holds the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Owner {
    /// Updates the session. A token that now belongs to another session ends the connection.
    fn renew(&mut self, session: Arc<BrowserSession>) -> Option<Close> {
        let (before, now) = (&self.session, &session);
        if (&before.id, &before.user_id) != (&now.id, &now.user_id) {
            return Some(Close::SessionEnded);
        }
        self.session = session;
        None
    }
}

impl Seat {
    fn advance(&mut self, id: u64, tick: u32, now: DateTime<Utc>, times: &Times, round: &mut Round) {
        let seen = Seen {
            answers: self.kind == Kind::WebSocket,
            heard: self.mailbox.heard(),
            stuck_since: self.mailbox.stuck_since(),
            closing: self.mailbox.is_closing(),
            session_verified: self.owner.as_ref().map(|_| self.verified.0),
            access_verified: self.door.must_be_asked_again().then_some(self.verified.1),
        };
        let Due {
            end,
            lapsed,
            ping,
            check,
            access,
            beat,
        } = self.schedule.advance(tick, times, seen);
        if let Some(end) = end {
            self.mailbox.end(end);
            return;
        }
        let has_expired = |owner: &Owner| now >= owner.session.expires_at + EXPIRED;
        if lapsed || self.owner.as_ref().is_some_and(has_expired) {
            self.mailbox.close(Close::Unavailable);
            return;
        }
        if ping {
            self.mailbox.ping();
        }
        if let Some(owner) = &self.owner {
            // The end of a session by expiry is not notified.
            let check = check || !owner.session.is_valid_at(now);
            if check && !std::mem::replace(&mut self.waits.session, true) {
                round.sessions.push(id);
            }
            if beat
                && owner.session.is_valid_at(now)
                && let Some(page) = &self.page
            {
                round.beats.push((page.clone(), owner.session.user_id.clone()));
            }
        }
        if access && self.door.must_be_asked_again() && !std::mem::replace(&mut self.waits.access, true) {
            round.access.push(id);
        }
    }
}
