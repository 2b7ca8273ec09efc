//! Change numbers of sessions: whether a session may have changed since it was read. A reader notes the latest number
//! before it reads a session, and checks later whether the answer may still be used.
//!
//! So a table's answer and a notification may arrive in either order: an answer to a query from before the notification
//! counts as older, however late it is cached.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard};

use crate::browser_session::BrowserSession;
use crate::ids::{BrowserSessionId, SessionToken, TokenFingerprint};

/// A position between two changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ChangeNumber(u64);

/// Every change that was notified, or may have been missed.
///
/// Concurrency: readers take the lock only if something has changed since they read; writers hold it for one insertion.
pub(super) struct SessionChanges {
    latest: AtomicU64,
    known: RwLock<ChangeLog>,
    /// How many sessions' changes are remembered one by one.
    capacity: usize,
    /// For each fingerprint, when a session of such a token may last have appeared; made with the first.
    appearances: OnceLock<Box<[AtomicU64]>>,
}

#[derive(Default)]
struct ChangeLog {
    /// When each session last changed.
    sessions: HashMap<BrowserSessionId, ChangeNumber>,
    /// When all last changed.
    all: ChangeNumber,
    /// When listening last began: changes before it may have been missed.
    listening: ChangeNumber,
}

impl SessionChanges {
    /// Remembers up to `capacity` sessions. When more have changed, all count as changed.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            latest: AtomicU64::new(0),
            known: RwLock::default(),
            capacity,
            appearances: OnceLock::new(),
        }
    }

    /// To be called before a session is read.
    pub(super) fn now(&self) -> ChangeNumber {
        ChangeNumber(self.latest.load(Ordering::Acquire))
    }

    /// Records a change. False where there was no room for it, so that all sessions count as changed.
    pub(super) fn changed(&self, id: &BrowserSessionId) -> bool {
        self.add(|known, moment| {
            let fits = known.sessions.len() < self.capacity || known.sessions.contains_key(id);
            if fits {
                known.sessions.insert(id.clone(), moment);
            } else {
                known.all_changed(moment);
            }
            fits
        })
    }

    /// Every session may have changed.
    pub(super) fn all_changed(&self) {
        self.add(ChangeLog::all_changed);
    }

    /// Changes before now may have been missed.
    pub(super) fn listening(&self) {
        self.add(|known, moment| known.listening = moment);
    }

    /// A session of a token with this fingerprint may exist now.
    pub(super) fn appeared(&self, fingerprint: TokenFingerprint) {
        let never = || (0..TokenFingerprint::COUNT).map(|_| AtomicU64::new(0)).collect();
        let appearance = &self.appearances.get_or_init(never)[fingerprint.index()];
        self.add(|_, moment| appearance.store(moment.0, Ordering::Release));
    }

    /// Whether a session may have appeared for a token that had none at `moment`.
    pub(super) fn may_have_appeared(&self, token: &SessionToken, moment: ChangeNumber) -> bool {
        let index = token.fingerprint().index();
        let appeared = |appearance: &AtomicU64| appearance.load(Ordering::Acquire) > moment.0;
        moment != self.now() && self.appearances.get().is_some_and(|all| appeared(&all[index]))
    }

    /// Whether no change of the session was notified since `moment`.
    pub(super) fn none_heard(&self, session: &BrowserSession, moment: ChangeNumber) -> bool {
        moment == self.now() || self.known().none_heard(session, moment)
    }

    /// The same, and no notification can have been missed since then.
    pub(super) fn none_since(&self, session: &BrowserSession, moment: ChangeNumber) -> bool {
        if moment == self.now() {
            return true;
        }
        let known = self.known();
        known.listening <= moment && known.none_heard(session, moment)
    }

    fn add<T>(&self, change: impl FnOnce(&mut ChangeLog, ChangeNumber) -> T) -> T {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let moment = self.latest.load(Ordering::Relaxed) + 1;
        let outcome = change(&mut known, ChangeNumber(moment));
        // Within the lock, so that a reader of the number also sees the change.
        self.latest.store(moment, Ordering::Release);
        outcome
    }

    fn known(&self) -> RwLockReadGuard<'_, ChangeLog> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ChangeLog {
    fn all_changed(&mut self, moment: ChangeNumber) {
        self.all = moment;
        self.sessions.clear();
    }

    fn none_heard(&self, session: &BrowserSession, moment: ChangeNumber) -> bool {
        let changed = session.id.as_ref().and_then(|id| self.sessions.get(id));
        let changed = changed.copied().unwrap_or_default();
        self.all.max(changed) <= moment
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn session(id: &str) -> BrowserSession {
        BrowserSession::valid_until(id, "7", DateTime::UNIX_EPOCH)
    }

    #[test]
    fn i4_a_change_is_of_what_was_read_before_it_only() {
        let changes = SessionChanges::new(10);
        let (one, other) = (session("1"), session("2"));
        let before = changes.now();
        assert!(changes.none_since(&one, before));
        assert!(changes.changed(one.id.as_ref().unwrap()));
        assert!(!changes.none_since(&one, before));
        assert!(changes.none_since(&other, before));
        let after = changes.now();
        assert!(changes.changed(other.id.as_ref().unwrap()));
        assert!(changes.none_since(&one, after));
        assert!(changes.changed(one.id.as_ref().unwrap()));
        assert!(!changes.none_since(&one, after));
    }

    #[test]
    fn i4_when_all_change_so_does_each() {
        let changes = SessionChanges::new(10);
        let one = session("1");
        assert!(changes.changed(one.id.as_ref().unwrap()));
        let before = changes.now();
        changes.all_changed();
        assert!(!changes.none_since(&one, before));
        assert!(!changes.none_heard(&one, before));
        assert!(changes.none_since(&one, changes.now()));
    }

    #[test]
    fn i4_what_may_have_changed_unheard_is_told_from_what_did() {
        let changes = SessionChanges::new(10);
        let one = session("1");
        let before = changes.now();
        changes.listening();
        assert!(!changes.none_since(&one, before));
        assert!(changes.none_heard(&one, before));
    }

    #[test]
    fn i10_a_session_that_appears_is_of_what_was_read_before_only() {
        let changes = SessionChanges::new(2);
        let (one, other) = (SessionToken::new("one"), SessionToken::new("other"));
        let before = changes.now();
        changes.appeared(one.fingerprint());
        assert!(changes.may_have_appeared(&one, before));
        assert!(!changes.may_have_appeared(&other, before));
        assert!(!changes.may_have_appeared(&one, changes.now()));
        changes.listening();
        changes.all_changed();
        assert!(
            !changes.may_have_appeared(&other, before),
            "made-up tokens stay what they are"
        );
    }

    #[test]
    fn more_changes_than_can_be_remembered_are_changes_of_all() {
        let changes = SessionChanges::new(2);
        let before = changes.now();
        assert!(changes.changed(&"1".into()) && changes.changed(&"2".into()) && changes.changed(&"1".into()));
        assert!(changes.none_since(&session("3"), before));
        assert!(!changes.changed(&"4".into()));
        for id in ["1", "2", "3", "4"] {
            assert!(!changes.none_since(&session(id), before), "{id}");
            assert!(changes.none_since(&session(id), changes.now()), "{id}");
        }
        assert!(changes.changed(&"1".into()), "there is room again");
    }
}
