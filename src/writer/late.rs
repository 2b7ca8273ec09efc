//! Late lookups: identifies the visitors of views that were accepted while the database was away.
//! A view is matched with the session as it was at the view's time. Presence is not touched: the view may be long past, and
//! the recorder looks its visitor up again for as long as that counts.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::unresolved::{UnresolvedView, VisitorRef};
use crate::batch::RecordedView;
use crate::browser_session::{BrowserSession, Visibility};
use crate::communities::{Communities, PageCommunity};
use crate::geoip::Location;
use crate::ids::{BrowserSessionId, SessionToken, UserId};
use crate::page_view::PageView;
use crate::store::{Store, StoreError};

/// Tokens of one statement.
const AT_A_TIME: usize = 500;

/// Looks up sessions and communities late.
pub(super) struct Late {
    store: Arc<dyn Store>,
    communities: Arc<Communities>,
}

/// Result of a late lookup.
#[derive(Default)]
pub(super) struct ResolvedViews {
    /// Views with a visitor.
    pub(super) views: Vec<RecordedView>,
    /// The users among them whom the app hides.
    pub(super) hidden: HashMap<UserId, Visibility>,
    /// How many are of members who are hidden and not counted.
    pub(super) ignored: u64,
    /// How many have no visitor: the table has no session of their token.
    pub(super) nobodys: u64,
    /// How many have a session that was not valid at their time.
    pub(super) ended: u64,
    /// How many name a community by text that is not a key.
    pub(super) no_keys: u64,
    /// How many can never be resolved: a value in the session's or the community's row cannot be read.
    pub(super) unreadable: u64,
}

/// Tokens that were looked up in this step, whatever the outcome.
pub(super) type TokenResults = HashMap<SessionToken, Result<Option<BrowserSession>, Unreadable>>;

/// A row that cannot be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unreadable;

impl Late {
    pub(super) fn new(store: Arc<dyn Store>, communities: Arc<Communities>) -> Self {
        Self { store, communities }
    }

    /// Resolves the visitor and the community of the views.
    ///
    /// # Errors
    /// The tables could not be read.
    pub(super) async fn resolve(
        &self,
        views: Vec<UnresolvedView>,
        known: &mut TokenResults,
    ) -> Result<ResolvedViews, StoreError> {
        self.look_up(&views, known).await?;
        let mut resolved = ResolvedViews::default();
        for UnresolvedView { view, whose } in views {
            let mut has_ended = false;
            let found = match whose {
                VisitorRef::Session { id, user_id } => Ok(Some((id, user_id))),
                VisitorRef::Token(token) => {
                    let session = known.get(&token);
                    has_ended = matches!(session, Some(Ok(Some(_))));
                    session_at(session, &view)
                }
            };
            match (found, self.community(&view).await?) {
                (Ok(None), _) if has_ended => resolved.ended += 1,
                (Ok(None), _) => resolved.nobodys += 1,
                (Ok(Some(_)), Ok(PageCommunity::NoKey)) => resolved.no_keys += 1,
                (Ok(Some((session_id, user_id))), Ok(named)) => resolved.views.push(RecordedView {
                    view,
                    session_id,
                    user_id,
                    community: match named {
                        PageCommunity::Community(community) => Some(community),
                        PageCommunity::Nothing | PageCommunity::NoKey => None,
                    },
                    location: Location::default(),
                }),
                (Err(Unreadable), _) | (_, Err(Unreadable)) => resolved.unreadable += 1,
            }
        }
        let users: HashSet<&UserId> = resolved.views.iter().map(|view| &view.user_id).collect();
        let users: Vec<UserId> = users.into_iter().cloned().collect();
        resolved.hidden = self.store.hidden(&users).await?;
        let (hidden, all) = (&resolved.hidden, resolved.views.len());
        let is_ignored = |view: &RecordedView| hidden.get(&view.user_id) == Some(&Visibility::Ignored);
        resolved.views.retain(|view| !is_ignored(view));
        resolved.ignored = (all - resolved.views.len()) as u64;
        Ok(resolved)
    }

    /// Looks up the tokens that are not known yet.
    async fn look_up(&self, views: &[UnresolvedView], known: &mut TokenResults) -> Result<(), StoreError> {
        let mut seen = HashSet::new();
        let mut wanted: Vec<&SessionToken> = Vec::new();
        for view in views {
            if let VisitorRef::Token(token) = &view.whose
                && !known.contains_key(token)
                && seen.insert(token)
            {
                wanted.push(token);
            }
        }
        for some in wanted.chunks(AT_A_TIME) {
            let some: Vec<SessionToken> = some.iter().map(|token| (*token).clone()).collect();
            let mut found = self.store.browser_sessions_apart(&some).await?;
            for token in some {
                let session = readable(found.remove(&token).transpose())?;
                known.insert(token, session.map(|found| found.and_then(Result::ok)));
            }
        }
        Ok(())
    }

    async fn community(&self, view: &PageView) -> Result<Result<PageCommunity, Unreadable>, StoreError> {
        let Some(named) = &view.community else {
            return Ok(Ok(PageCommunity::Nothing));
        };
        match self.communities.named(named).await {
            Ok(community) => Ok(Ok(community)),
            Err(error) if matches!(*error, StoreError::Unavailable(_)) => Err(error.again()),
            Err(error) => {
                tell(&error);
                Ok(Err(Unreadable))
            }
        }
    }
}

/// The session that a token's view was in, if it counted then.
fn session_at(
    found: Option<&Result<Option<BrowserSession>, Unreadable>>,
    view: &PageView,
) -> Result<Option<(Option<BrowserSessionId>, UserId)>, Unreadable> {
    match found {
        Some(Ok(Some(session))) if session.was_valid_at(view.at) => {
            Ok(Some((session.id.clone(), session.user_id.clone())))
        }
        Some(Err(unreadable)) => Err(*unreadable),
        _ => Ok(None),
    }
}

/// Separates a row that cannot be read, where waiting is no use, from a database that cannot be asked.
fn readable<T>(found: Result<T, StoreError>) -> Result<Result<T, Unreadable>, StoreError> {
    match found {
        Ok(found) => Ok(Ok(found)),
        Err(error @ StoreError::Unavailable(_)) => Err(error),
        Err(error) => {
            tell(&error);
            Ok(Err(Unreadable))
        }
    }
}

fn tell(error: &StoreError) {
    tracing::warn!(
        error = error.chain(),
        "the visitor of a page view cannot be identified; the view is dropped"
    );
}
