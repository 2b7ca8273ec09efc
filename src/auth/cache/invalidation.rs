//! Changes of sessions: cached answers that were read before a change are no longer used, and subscribers are told.

use tokio::sync::broadcast;

use super::Authenticator;
use crate::auth::metrics::Evicted;
use crate::browser_session::{BrowserSession, SessionChange};
use crate::ids::{SessionToken, TokenFingerprint};

impl Authenticator {
    /// Takes a notified change: answers that were read before it are no longer used.
    pub fn changed(&self, change: SessionChange) {
        let reason = match &change {
            SessionChange::Of(id) if self.changes.changed(id) => Evicted::Changed,
            // The caches treat all as changed; subscribers still get this session's id.
            SessionChange::Of(_) => Evicted::Overflow,
            SessionChange::OfAny => {
                self.changes.all_changed();
                Evicted::AllChanged
            }
        };
        self.metrics.evictions[reason].inc();
        self.publish(change);
    }

    /// The app has said with an answer that the session of a token is over, or has another token now. The table is asked anew, as
    /// after a notification, also where none arrive.
    pub(crate) fn taken_back(&self, token: &SessionToken, session: &BrowserSession) {
        self.fallback.forget(token);
        match &session.id {
            Some(id) => {
                self.changes.changed(id);
                self.publish(SessionChange::Of(id.clone()));
            }
            None => self.cache.forget_if(token, |_| true),
        }
    }

    /// A session of a token with this fingerprint may exist now: its row was inserted, or the app has set the token as
    /// a cookie. A negative answer for it is no longer used.
    pub fn appeared(&self, fingerprint: TokenFingerprint) {
        self.changes.appeared(fingerprint);
        self.metrics.evictions[Evicted::Appeared].inc();
    }

    /// Drops a cached negative answer for a token, so that the table is queried again.
    pub(crate) fn forget_absence(&self, token: &SessionToken) {
        self.cache.forget_if(token, |entry| entry.absence.is_some());
    }

    /// Notifications arrive from now on; earlier ones may have been missed, so sessions that were read until now are no
    /// longer used.
    /// Negative answers stay: a change makes no new tokens, and a flood of random ones must not be looked up again
    /// (I1).
    pub fn listening(&self) {
        self.changes.listening();
        self.metrics.evictions[Evicted::Gap].inc();
        self.publish(SessionChange::OfAny);
    }

    /// Changes of sessions from now on, for connections that must not outlive theirs. A change is in the cache before
    /// it is sent: [`Authenticator::resolve`] returns the new state. A receiver that lags (`Lagged`) has to take it for
    /// [`SessionChange::OfAny`].
    pub fn subscribe(&self) -> broadcast::Receiver<SessionChange> {
        self.subscribers.subscribe()
    }

    fn publish(&self, change: SessionChange) {
        // An error means that there are no subscribers.
        let _ = self.subscribers.send(change);
    }
}
