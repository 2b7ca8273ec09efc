//! Browser sessions: a row of the app's session table, the moments at which it is valid, changes of the table, and of the
//! cookie. Pure.

use chrono::{DateTime, Utc};

use crate::ids::{BrowserSessionId, Claims, UserId};

/// A change of the session table, as the database notifies it. Only a query tells the session's new state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionChange {
    /// This session has ended, has changed, or was deleted.
    Of(BrowserSessionId),
    /// Any session may have changed: all did, or notifications were missed for a while.
    OfAny,
}

/// What a response does to the session cookie that came with its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CookieChange {
    /// Nothing: it is not set, or to what it is.
    Kept,
    /// It has another value from now on, or may have been taken back: its session may have another token, or be over.
    Replaced,
    /// It is taken back: its session is over, as far as the app is concerned.
    Deleted,
}

/// Whether a member is shown to others, and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Visibility {
    /// As everybody.
    #[default]
    Shown,
    /// The app hides the member: counted, and shown to nobody.
    Hidden,
    /// The same, and not counted either.
    Ignored,
}

/// Why a row of the session table lets nobody in, whatever its times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// It names no user: a visitor who has not signed in.
    Anonymous,
    /// It names an account that has no profile.
    NoProfile,
    /// It is of an account that the app has disabled.
    Disabled,
    /// Its data cannot be decoded, or a value in it cannot be used: `headcount check` says more.
    Unreadable,
}

/// A row of the app's session table, without its token; or what stands for one, where a JWT names none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrowserSession {
    /// Primary key; where the table has none but the token, the SHA-256 of what it holds; `None` for a JWT that names no
    /// session.
    pub id: Option<BrowserSessionId>,
    /// Its user.
    pub user_id: UserId,
    /// Last moment of validity; [`BrowserSession::NEVER`] where the app's sessions do not expire.
    pub expires_at: DateTime<Utc>,
    /// The app's flag for sessions that are in use; true where it has none.
    pub is_active: bool,
    /// The app's flag for sessions that have ended; false where it has none.
    pub is_ended: bool,
    /// When it ended, where the app has written it.
    pub ended_at: Option<DateTime<Utc>>,
    /// Whether its user is shown, as far as the profile says.
    pub visibility: Visibility,
}

impl BrowserSession {
    /// The session of a JWT that names none: valid until it expires.
    pub fn of_jwt(claims: &Claims, user_id: UserId) -> Self {
        Self {
            id: None,
            user_id,
            expires_at: claims.expires_at,
            is_active: true,
            is_ended: false,
            ended_at: None,
            visibility: Visibility::Shown,
        }
    }

    /// A session that is in use until then, for tests.
    #[cfg(test)]
    pub(crate) fn valid_until(id: &str, user: &str, expires_at: DateTime<Utc>) -> Self {
        Self {
            id: Some(id.into()),
            user_id: user.into(),
            expires_at,
            is_active: true,
            is_ended: false,
            ended_at: None,
            visibility: Visibility::Shown,
        }
    }

    /// Whether it has this primary key.
    pub fn is(&self, id: &BrowserSessionId) -> bool {
        self.id.as_ref() == Some(id)
    }
    /// When a session expires that does not: the latest moment that every database and library can hold.
    pub const NEVER: DateTime<Utc> = match DateTime::from_timestamp(253_402_214_400, 0) {
        Some(at) => at,
        None => DateTime::<Utc>::MAX_UTC,
    };

    /// All three conditions at once (I3): active, not ended, not expired.
    pub fn is_valid_at(&self, now: DateTime<Utc>) -> bool {
        self.is_active && !self.is_ended && now < self.expires_at
    }

    /// Whether the session was valid at a past moment, given the row as it is now: not expired then, and either still
    /// active or ended at a known later time. A session that has ended at an unknown time does not count: it may have
    /// been over already.
    ///
    /// For a moment before the row was read. For the present, use [`Self::is_valid_at`].
    pub fn was_valid_at(&self, at: DateTime<Utc>) -> bool {
        let goes_on = self.is_active && !self.is_ended;
        at < self.expires_at && (goes_on || self.ended_at.is_some_and(|end| at < end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: u32) -> DateTime<Utc> {
        format!("2024-03-01T10:{minute:02}:00Z").parse().unwrap()
    }

    /// Expires at 10:50.
    fn session(is_active: bool, is_ended: bool, ended_at: Option<u32>) -> BrowserSession {
        BrowserSession {
            is_active,
            is_ended,
            ended_at: ended_at.map(at),
            ..BrowserSession::valid_until("1", "7", at(50))
        }
    }

    #[test]
    fn a_session_that_never_expires_does_so_in_the_year_9999() {
        assert_eq!(BrowserSession::NEVER.to_rfc3339(), "9999-12-31T00:00:00+00:00");
    }

    const FLAGS: [(bool, bool); 4] = [(true, false), (false, false), (true, true), (false, true)];

    #[test]
    fn i3_a_session_is_valid_while_active_not_ended_and_not_expired() {
        for (is_active, is_ended) in FLAGS {
            for ended_at in [None, Some(20)] {
                let session = session(is_active, is_ended, ended_at);
                assert_eq!(session.is_valid_at(at(49)), is_active && !is_ended, "{session:?}");
                assert!(!session.is_valid_at(at(50)), "{session:?}");
            }
        }
    }

    #[test]
    fn a_session_that_goes_on_counted_until_it_expires() {
        // An end noted beside flags that say otherwise does not end it.
        for ended_at in [None, Some(20)] {
            let session = session(true, false, ended_at);
            assert!(session.was_valid_at(at(0)));
            assert!(session.was_valid_at(at(49)));
            assert!(!session.was_valid_at(at(50)), "expired");
        }
    }

    #[test]
    fn a_session_that_is_over_counted_before_its_end() {
        for (is_active, is_ended) in [(false, false), (true, true), (false, true)] {
            let session = session(is_active, is_ended, Some(20));
            assert!(session.was_valid_at(at(19)), "{session:?}");
            assert!(!session.was_valid_at(at(20)), "{session:?}");
            assert!(!session.was_valid_at(at(49)), "{session:?}");
        }
    }

    #[test]
    fn a_session_that_is_over_since_nobody_knows_when_did_not_count() {
        for (is_active, is_ended) in [(false, false), (true, true), (false, true)] {
            let session = session(is_active, is_ended, None);
            assert!(!session.was_valid_at(at(0)), "{session:?}");
        }
    }

    #[test]
    fn a_session_that_ended_after_it_expired_counted_until_it_expired() {
        let session = session(false, true, Some(55));
        assert!(session.was_valid_at(at(49)));
        assert!(!session.was_valid_at(at(50)));
        assert!(!session.was_valid_at(at(54)));
    }
}
