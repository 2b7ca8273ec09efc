//! Operations on users: a page of visitors, and those whose profiles are marked.

use chrono::{DateTime, Utc};

use super::StoreOperation;
use crate::ids::UserId;
use crate::store::VisitorRow;
use crate::store::schema::{Column, Mark};

/// One page of visitors, in one query. A session is valid at `now` as `BrowserSession::is_valid_at` has it:
/// active, not ended and not expired (I3).
pub(in crate::store) struct Visitors<'a> {
    pub users: &'a [UserId],
    pub now: DateTime<Utc>,
}

impl StoreOperation for Visitors<'_> {
    type Output = Vec<VisitorRow>;
    const WHAT: &'static str = "a list of visitors";
}

/// Those of the users whose profiles are marked so.
pub(in crate::store) struct MarkedOf<'a> {
    pub mark: Mark,
    pub users: &'a [UserId],
}

impl StoreOperation for MarkedOf<'_> {
    type Output = Vec<UserId>;
}

impl MarkedOf<'_> {
    /// As [`Visitors::keys`].
    pub(in crate::store) fn keys(&self, key: &Column) -> impl Iterator<Item = &str> {
        keys(self.users, key)
    }
}

fn keys<'u>(users: &'u [UserId], key: &Column) -> impl Iterator<Item = &'u str> {
    let ids = users.iter().map(UserId::as_str);
    ids.filter(|user| key.is_key(user))
}

impl Visitors<'_> {
    /// The users whose ids can be values of the key column at all.
    pub(in crate::store) fn keys(&self, key: &Column) -> impl Iterator<Item = &str> {
        keys(self.users, key)
    }
}
