//! Encodes views as rows of a spool, with a checksum: SQLite notices damage to its structure, not to its content.
//! Pure.
//!
//! `binary` is the form of rows that are written, `json` that of rows which earlier versions wrote; the first byte tells
//! them apart. A row holds the places of its tokens, not the tokens (see `tokens`).

mod binary;
mod json;

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
        match self {
            Self::Recorded(views) => encode_recorded(views),
            Self::Unresolved(views) => binary::unresolved(views, places),
        }
    }
}

/// The content of a row, before its tokens are read.
#[derive(Debug, PartialEq)]
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
        match (bytes.first()?, unresolved) {
            (_, false) => decode_recorded(bytes).map(Self::Recorded),
            (&json::FIRST, true) => json::read_unresolved(bytes).map(Self::Unresolved),
            (&binary::FIRST, true) => binary::read_unresolved(&bytes[1..]).map(Self::Unresolved),
            _ => None,
        }
    }

    /// The places of its tokens.
    pub(super) fn places(&self) -> Vec<TokenRange> {
        let place = |view: &StoredView| match view.whose {
            StoredVisitor::Token(place) => Some(place),
            StoredVisitor::Session { .. } => None,
        };
        match self {
            Self::Recorded(_) => Vec::new(),
            Self::Unresolved(views) => views.iter().filter_map(place).collect(),
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

/// The bytes of a row of recorded views.
pub fn encode_recorded(views: &[RecordedView]) -> Vec<u8> {
    binary::recorded(views)
}

/// The views of such a row, of this version or an earlier one; `None` if its bytes are damaged.
pub fn decode_recorded(bytes: &[u8]) -> Option<Vec<RecordedView>> {
    match *bytes.first()? {
        json::FIRST => json::read_recorded(bytes),
        binary::FIRST => binary::read_recorded(&bytes[1..]),
        _ => None,
    }
}

/// CRC-32 (ISO-HDLC) of the bytes.
pub(super) fn checksum(bytes: &[u8]) -> i64 {
    crc32fast::hash(bytes).into()
}

/// An unresolved view as it is stored.
#[derive(Debug, PartialEq)]
pub(super) struct StoredView {
    view: PageView,
    whose: StoredVisitor,
}

/// What is stored of an unresolved view's visitor.
#[derive(Debug, PartialEq)]
enum StoredVisitor {
    /// Where the token stands.
    Token(TokenRange),
    Session {
        id: Option<BrowserSessionId>,
        user_id: UserId,
    },
}

impl StoredView {
    fn unresolved(self, token: impl FnOnce() -> Option<SessionToken>) -> Option<UnresolvedView> {
        let whose = match self.whose {
            StoredVisitor::Token(_) => VisitorRef::Token(token()?),
            StoredVisitor::Session { id, user_id } => VisitorRef::Session { id, user_id },
        };
        Some(UnresolvedView {
            view: self.view,
            whose,
        })
    }
}

#[cfg(test)]
mod tests;
