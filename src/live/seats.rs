//! Every open connection, as far as others than its own task have to do with it.

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
use crate::auth::BrowserSession;
use crate::ids::{BrowserSessionId, CommunityId, SessionToken, UserId};

/// How long a connection goes on whose session has expired, as far as is known, while that cannot be looked up.
const EXPIRED: TimeDelta = TimeDelta::seconds(5);

/// The connections.
pub(super) struct Seats {
    inner: Mutex<Inner>,
    next_id: AtomicU64,
    /// The current tick, from 1 on.
    tick: AtomicU32,
    times: Times,
    /// The last one went.
    empty: Notify,
}

#[derive(Default)]
struct Inner {
    seats: HashMap<u64, Seat>,
    /// The connections of each session.
    sessions: HashMap<BrowserSessionId, HashSet<u64>>,
    draining: bool,
}

/// One connection.
pub(super) struct Seat {
    pub(super) kind: Kind,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) owner: Option<Owner>,
    pub(super) door: Arc<dyn Door>,
    /// The community whose page the connection belongs to, where it is a heartbeat (P11).
    pub(super) page: Option<CommunityId>,
    pub(super) schedule: Schedule,
    pub(super) waits: Waits,
    /// When its session, and when access, was last verified.
    pub(super) verified: (u32, u32),
}

/// Which checks a connection waits for: in each queue it is at most once. A check that has begun is none of them:
/// what happens from then on needs another.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Waits {
    /// Of its session, because it is time.
    session: bool,
    /// Of its session, which has changed.
    changed_session: bool,
    /// Of access; until it has ended.
    access: bool,
}

/// Why a session is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// It is time.
    Due,
    /// It has changed.
    Changed,
}

/// Whose connection it is.
#[derive(Clone)]
pub(super) struct Owner {
    pub(super) session: Arc<BrowserSession>,
    /// Never leaves but for the authenticator.
    pub(super) token: SessionToken,
}

/// What one tick is to bring.
#[derive(Default)]
pub(super) struct Round {
    /// Sessions to check.
    pub(super) sessions: Vec<u64>,
    /// Access to check.
    pub(super) access: Vec<u64>,
    /// Who is still there.
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
    /// All is well.
    Holds(T),
    /// It cannot be found out.
    Unknown,
    /// It is over.
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

    /// A schedule that begins now.
    pub(super) fn schedule(&self, spread: f64) -> Schedule {
        Schedule::new(self.tick(), &self.times, spread)
    }

    /// A new connection; `None` while draining.
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
        // What it holds is dropped outside the lock.
        drop(seat);
        if is_empty {
            self.empty.notify_waiters();
        }
    }

    /// Time passes.
    pub(super) fn advance(&self, tick: u32, now: DateTime<Utc>) -> Round {
        self.tick.store(tick, Ordering::Relaxed);
        let mut round = Round::default();
        for (id, seat) in &mut self.lock().seats {
            seat.advance(*id, tick, now, &self.times, &mut round);
        }
        round
    }

    /// Whose connection it is, as last checked.
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

    /// These sessions have changed, or, without any named, all may have: the connections to check at once.
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

    /// A check begins: of the session of this token.
    pub(super) fn session_check_begins(&self, id: u64, why: Why) -> Option<SessionToken> {
        let mut inner = self.lock();
        let seat = inner.seats.get_mut(&id)?;
        match why {
            Why::Due => seat.waits.session = false,
            Why::Changed => seat.waits.changed_session = false,
        }
        Some(seat.owner.as_ref()?.token.clone())
    }

    /// A session was checked.
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
            // What was verified before holds for its time.
            Checked::Unknown => None,
            Checked::Over(close) => Some(close),
        };
        if let Some(close) = close {
            seat.mailbox.close(close);
        }
    }

    /// Access was checked, from tick `since` on; these communities may no longer be seen.
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

    /// A connection no longer listens to a community.
    pub(super) fn left(&self, id: u64, community: &CommunityId) {
        if let Some(seat) = self.lock().seats.get_mut(&id)
            && seat.page.as_ref() == Some(community)
        {
            seat.page = None;
        }
    }

    /// Ends all connections, and lets no more in.
    pub(super) fn drain(&self) {
        let mut inner = self.lock();
        inner.draining = true;
        for seat in inner.seats.values() {
            seat.mailbox.close(Close::GoingAway);
        }
    }

    /// Waits until there is none.
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

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.lock().seats.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it holds the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Owner {
    /// The session as it is now. A token that has become another session's is not this owner's any more.
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
            // Nobody tells of a session that ends by its time.
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
