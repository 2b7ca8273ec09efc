//! Touches: who was seen, how long ago, and in what; and the groups in which they are sent. Pure.

use std::time::Duration;

use super::scope::Scope;
use crate::ids::{Finer, UserId};

/// A touch: a user who was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touch {
    /// The user.
    pub user: UserId,
    /// How long ago, at the time of the call. An age rather than a time: no clock but the store's matters
    /// (P3).
    pub age: Duration,
    /// What is finer in the community that the user was seen in.
    pub finer: Option<Finer>,
}

impl Touch {
    /// Seen just now.
    pub fn now(user: impl Into<UserId>) -> Self {
        Self {
            user: user.into(),
            age: Duration::ZERO,
            finer: None,
        }
    }

    /// The same in something finer.
    #[must_use]
    pub fn in_finer(self, finer: Finer) -> Self {
        let finer = Some(finer);
        Self { finer, ..self }
    }
}

/// Touches of the whole site, or of one community and of what is finer in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TouchedGroup {
    /// The site or the community; something finer stands for its community, as in [`Presence::touch`](super::Presence::touch).
    pub scope: Scope,
    /// The users.
    pub touches: Vec<Touch>,
}
