//! Step 3, identify: which browser session a request's token belongs to.
//!
//! `cookie` finds the token in the request, [`Authenticator`] says whose it is: from a bounded cache, else
//! from the app's session table. The recording path asks the table only after the response (promise 1).

mod cache;
pub mod cookie;

use chrono::{DateTime, Utc};

use crate::ids::{BrowserSessionId, UserId};

pub use cache::{Authenticator, Known};

/// A row of the app's session table, without its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrowserSession {
    /// Primary key.
    pub id: BrowserSessionId,
    /// Whose it is.
    pub user_id: UserId,
    /// Last moment of validity.
    pub expires_at: DateTime<Utc>,
    /// The app's flag.
    pub is_active: bool,
    /// The app's other flag.
    pub is_ended: bool,
}

impl BrowserSession {
    /// All three conditions at once (I3): active, not ended, not expired.
    pub fn is_valid_at(&self, now: DateTime<Utc>) -> bool {
        self.is_active && !self.is_ended && now < self.expires_at
    }
}
