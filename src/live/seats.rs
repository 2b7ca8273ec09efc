//! Every open connection, as far as others than its own task have to do with it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::close::Close;
use super::mailbox::Mailbox;
use super::schedule::{Due, Schedule, Seen, Times};
use super::{Door, Kind};
use crate::auth::BrowserSession;
use crate::ids::{BrowserSessionId, CommunityId, SessionToken, UserId};

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
    pub(super) session_check: SessionCheck,
    /// Whether access is being checked.
    pub(super) checking_access: bool,
    /// Since when they could not be checked.
    pub(super) unchecked_since: (Option<u32>, Option<u32>),
}

/// How far the check of a connection's session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum SessionCheck {
    #[default]
    Idle,
    /// Waiting for its turn, or for an answer.
    Underway,
    /// The session has changed meanwhile: the answer may be of before.
    Outdated,
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
    pub(super) sessions: Vec<(u64, SessionToken)>,
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
        inner.seats.insert(id, seat);
        Some(id)
    }

    /// A connection has ended.
    pub(super) fn remove(&self, id: u64) {
        let mut inner = self.lock();
        let seat = inner.seats.remove(&id);
        let is_empty = inner.seats.is_empty();
        drop(inner);
        // What it holds is dropped outside the lock.
        drop(seat);
        if is_empty {
            self.empty.notify_waiters();
        }
    }

    /// Time passes.
    pub(super) fn advance(&self, tick: u32) -> Round {
        self.tick.store(tick, Ordering::Relaxed);
        let mut round = Round::default();
        for (id, seat) in &mut self.lock().seats {
            seat.advance(*id, tick, &self.times, &mut round);
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

    /// Sessions have changed, this one or, without one, any: what to check at once.
    pub(super) fn sessions_changed(&self, session: Option<&BrowserSessionId>) -> Vec<(u64, SessionToken)> {
        let mut checks = Vec::new();
        for (id, seat) in &mut self.lock().seats {
            let Some(owner) = &seat.owner else {
                continue;
            };
            if session.is_some_and(|session| owner.session.id != *session) {
                continue;
            }
            if seat.session_check == SessionCheck::Idle {
                seat.session_check = SessionCheck::Underway;
                checks.push((*id, owner.token.clone()));
            } else {
                seat.session_check = SessionCheck::Outdated;
            }
        }
        checks
    }

    /// A session was checked. Whether it must be checked again at once.
    pub(super) fn session_checked(
        &self,
        id: u64,
        outcome: Checked<Arc<BrowserSession>>,
        patience: u32,
    ) -> bool {
        let tick = self.tick();
        let mut inner = self.lock();
        let Some(seat) = inner.seats.get_mut(&id) else {
            return false;
        };
        let is_outdated = seat.session_check == SessionCheck::Outdated;
        seat.session_check = if is_outdated {
            SessionCheck::Underway
        } else {
            SessionCheck::Idle
        };
        let close = match outcome {
            Checked::Holds(session) => {
                seat.unchecked_since.0 = None;
                if let Some(owner) = &mut seat.owner {
                    owner.session = session;
                }
                None
            }
            Checked::Unknown => is_lasting(&mut seat.unchecked_since.0, tick, patience),
            Checked::Over(close) => Some(close),
        };
        if let Some(close) = close {
            seat.mailbox.close(close);
        }
        is_outdated
    }

    /// Access was checked; these communities may no longer be seen.
    pub(super) fn access_checked(&self, id: u64, outcome: Checked<Vec<CommunityId>>, patience: u32) {
        let tick = self.tick();
        let mut inner = self.lock();
        let Some(seat) = inner.seats.get_mut(&id) else {
            return;
        };
        seat.checking_access = false;
        let close = match outcome {
            Checked::Holds(lost) => {
                seat.unchecked_since.1 = None;
                if !lost.is_empty() {
                    seat.mailbox.lose(lost);
                }
                None
            }
            Checked::Unknown => is_lasting(&mut seat.unchecked_since.1, tick, patience),
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

impl Seat {
    fn advance(&mut self, id: u64, tick: u32, times: &Times, round: &mut Round) {
        let seen = Seen {
            answers: self.kind == Kind::WebSocket,
            heard: self.mailbox.heard(),
            stuck_since: self.mailbox.stuck_since(),
            closing: self.mailbox.is_closing(),
        };
        let Due {
            end,
            ping,
            check,
            access,
            beat,
        } = self.schedule.advance(tick, times, seen);
        if let Some(end) = end {
            self.mailbox.end(end);
            return;
        }
        if ping {
            self.mailbox.ping();
        }
        if let Some(owner) = &self.owner {
            if check && self.session_check == SessionCheck::Idle {
                self.session_check = SessionCheck::Underway;
                round.sessions.push((id, owner.token.clone()));
            }
            if beat && let Some(page) = &self.page {
                round.beats.push((page.clone(), owner.session.user_id.clone()));
            }
        }
        if access && self.door.must_be_asked_again() && !self.checking_access {
            self.checking_access = true;
            round.access.push(id);
        }
    }
}

/// Whether a check has failed for longer than `patience`: then nobody may rely on the one before.
fn is_lasting(since: &mut Option<u32>, tick: u32, patience: u32) -> Option<Close> {
    let since = *since.get_or_insert(tick);
    (tick.saturating_sub(since) > patience).then_some(Close::Unavailable)
}
