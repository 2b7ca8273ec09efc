//! Reads rows that versions with spool files of version 1 wrote: JSON with the names of fields.

use serde::Deserialize;

use super::{StoredView, StoredVisitor};
use crate::batch::RecordedView;
use crate::ids::{BrowserSessionId, UserId};
use crate::page_view::PageView;
use crate::writer::spool::tokens::TokenRange;

/// First byte of such a row: a list.
pub(super) const FIRST: u8 = b'[';

#[derive(Deserialize)]
struct JsonView {
    view: PageView,
    token: Option<TokenRange>,
    session: Option<(Option<BrowserSessionId>, UserId)>,
}

impl JsonView {
    fn stored(self) -> Option<StoredView> {
        let whose = match (self.token, self.session) {
            (Some(token), None) => StoredVisitor::Token(token),
            (None, Some((id, user_id))) => StoredVisitor::Session { id, user_id },
            _ => return None,
        };
        Some(StoredView {
            view: self.view,
            whose,
        })
    }
}

pub(super) fn read_recorded(bytes: &[u8]) -> Option<Vec<RecordedView>> {
    serde_json::from_slice(bytes).ok()
}

pub(super) fn read_unresolved(bytes: &[u8]) -> Option<Vec<StoredView>> {
    let views: Vec<JsonView> = serde_json::from_slice(bytes).ok()?;
    views.into_iter().map(JsonView::stored).collect()
}
