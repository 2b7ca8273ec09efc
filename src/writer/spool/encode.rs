//! Encodes views as rows of a spool, with a checksum: SQLite notices damage to its structure, not to its content.
//! Pure.
//!
//! The format is JSON, so that a person can read what waits, and so that fields can be added. A row holds the
//! places of its tokens, not the tokens (see `tokens`).

use serde::{Deserialize, Serialize};

use super::tokens::TokenRange;
use crate::batch::RecordedView;
use crate::ids::{BrowserSessionId, SessionToken, UserId};
use crate::page_view::PageView;
use crate::writer::unresolved::{UnresolvedView, VisitorRef};

/// States of a row, as the file holds them: its views can be applied,
pub(super) const READY: i64 = 0;
/// must be resolved first,
pub(super) const UNRESOLVED: i64 = 1;
/// or cannot be read.
pub(super) const DAMAGED: i64 = 2;

/// What a row of a spool holds.
#[derive(Debug, Clone, PartialEq)]
pub enum StoredViews {
    /// Ready to be applied.
    Recorded(Vec<RecordedView>),
    /// To be resolved first.
    Unresolved(Vec<UnresolvedView>),
}

impl StoredViews {
    /// Views in it.
    pub fn len(&self) -> usize {
        match self {
            Self::Recorded(views) => views.len(),
            Self::Unresolved(views) => views.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The state of a row that holds this.
    pub(super) fn state(&self) -> i64 {
        match self {
            Self::Recorded(_) => READY,
            Self::Unresolved(_) => UNRESOLVED,
        }
    }

    /// When the oldest was made, in milliseconds since 1970.
    pub(super) fn oldest(&self) -> i64 {
        let at = |view: &PageView| view.at.timestamp_millis();
        match self {
            Self::Recorded(views) => views.iter().map(|recorded| at(&recorded.view)).min(),
            Self::Unresolved(views) => views.iter().map(|unresolved| at(&unresolved.view)).min(),
        }
        .unwrap_or_default()
    }

    /// The tokens in it, in the order of the views.
    pub(super) fn tokens(&self) -> Vec<&SessionToken> {
        let views = match self {
            Self::Recorded(_) => &[][..],
            Self::Unresolved(views) => views,
        };
        views
            .iter()
            .filter_map(|view| match &view.whose {
                VisitorRef::Token(token) => Some(token),
                VisitorRef::Session { .. } => None,
            })
            .collect()
    }

    /// Its bytes; `places` are those of its tokens.
    pub(super) fn encode(&self, places: &[TokenRange]) -> Vec<u8> {
        let bytes = match self {
            Self::Recorded(views) => serde_json::to_vec(views),
            Self::Unresolved(views) => {
                let mut places = places.iter();
                let stored: Vec<StoredView> = views
                    .iter()
                    .map(|view| StoredView::of(view, || places.next().copied()))
                    .collect();
                serde_json::to_vec(&stored)
            }
        };
        // Texts, numbers and times can all be written as JSON.
        bytes.unwrap_or_default()
    }
}

/// The content of a row, before its tokens are read.
pub(super) enum Stored {
    Recorded(Vec<RecordedView>),
    Unresolved(Vec<StoredView>),
}

impl Stored {
    /// From its bytes; `None` if they are damaged.
    pub(super) fn decode(bytes: &[u8], unresolved: bool, checksum: i64) -> Option<Self> {
        if self::checksum(bytes) != checksum {
            return None;
        }
        if unresolved {
            serde_json::from_slice(bytes).ok().map(Self::Unresolved)
        } else {
            serde_json::from_slice(bytes).ok().map(Self::Recorded)
        }
    }

    /// The places of its tokens.
    pub(super) fn places(&self) -> Vec<TokenRange> {
        match self {
            Self::Recorded(_) => Vec::new(),
            Self::Unresolved(views) => views.iter().filter_map(|view| view.token).collect(),
        }
    }

    /// The views, with the tokens that were read for them; `None` if something is missing.
    pub(super) fn body(self, tokens: Vec<SessionToken>) -> Option<StoredViews> {
        let mut tokens = tokens.into_iter();
        Some(match self {
            Self::Recorded(views) => StoredViews::Recorded(views),
            Self::Unresolved(views) => StoredViews::Unresolved(
                views
                    .into_iter()
                    .map(|view| view.unresolved(|| tokens.next()))
                    .collect::<Option<_>>()?,
            ),
        })
    }
}

/// CRC-32 (ISO-HDLC) of the bytes.
pub(super) fn checksum(bytes: &[u8]) -> i64 {
    crc32fast::hash(bytes).into()
}

/// An unresolved view as it is stored.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredView {
    view: PageView,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<TokenRange>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<(Option<BrowserSessionId>, UserId)>,
}

impl StoredView {
    fn of(unresolved: &UnresolvedView, place: impl FnOnce() -> Option<TokenRange>) -> Self {
        let (token, session) = match &unresolved.whose {
            VisitorRef::Token(_) => (place(), None),
            VisitorRef::Session { id, user_id } => (None, Some((id.clone(), user_id.clone()))),
        };
        Self {
            view: unresolved.view.clone(),
            token,
            session,
        }
    }

    fn unresolved(self, token: impl FnOnce() -> Option<SessionToken>) -> Option<UnresolvedView> {
        let whose = match (self.token, self.session) {
            (Some(_), None) => VisitorRef::Token(token()?),
            (None, Some((id, user_id))) => VisitorRef::Session { id, user_id },
            _ => return None,
        };
        Some(UnresolvedView {
            view: self.view,
            whose,
        })
    }
}
