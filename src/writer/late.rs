//! Views that were accepted while it could not be found out whose they are: looked up when the database is
//! back, against the session as it was at the view's time. Nobody is touched: by then it is long ago.

use std::collections::HashMap;
use std::sync::Arc;

use super::batch::RecordedView;
use super::unresolved::{UnresolvedView, Whose};
use crate::auth::BrowserSession;
use crate::communities::Communities;
use crate::ids::{BrowserSessionId, SessionToken, UserId};
use crate::metrics::Metrics;
use crate::page_view::NotCounted;
use crate::store::{Store, StoreError};

/// Looks up late.
pub(super) struct Late {
    store: Arc<dyn Store>,
    communities: Arc<Communities>,
    metrics: Arc<Metrics>,
}

impl Late {
    pub(super) fn new(store: Arc<dyn Store>, communities: Arc<Communities>, metrics: Arc<Metrics>) -> Self {
        Self {
            store,
            communities,
            metrics,
        }
    }

    /// Those of the views that are somebody's. The others are counted under their reason.
    ///
    /// # Errors
    /// The tables could not be asked. Nothing is counted then.
    pub(super) async fn resolve(&self, views: Vec<UnresolvedView>) -> Result<Vec<RecordedView>, StoreError> {
        let mut sessions: HashMap<SessionToken, Option<BrowserSession>> = HashMap::new();
        let mut recorded = Vec::new();
        let mut nobodys = 0;
        for UnresolvedView { view, whose } in views {
            let found: Option<(BrowserSessionId, UserId)> = match whose {
                Whose::Session { id, user_id } => Some((id, user_id)),
                Whose::Token(token) => {
                    if !sessions.contains_key(&token) {
                        let session = self.store.browser_session(&token).await?;
                        sessions.insert(token.clone(), session);
                    }
                    let session = sessions.get(&token).and_then(Option::as_ref);
                    session
                        .filter(|session| session.was_valid_at(view.at))
                        .map(|session| (session.id.clone(), session.user_id.clone()))
                }
            };
            let Some((session_id, user_id)) = found else {
                nobodys += 1;
                continue;
            };
            let community = match &view.community {
                None => None,
                Some(named) => self.communities.named(named).await.map_err(|error| {
                    StoreError::Unavailable(sqlx::Error::Io(std::io::Error::other(error)))
                })?,
            };
            recorded.push(RecordedView {
                view,
                session_id,
                user_id,
                community,
                location: crate::geoip::Location::default(),
            });
        }
        self.metrics
            .page_views_not_counted
            .with_label_values(&[NotCounted::Anonymous.label()])
            .inc_by(nobodys);
        self.metrics.page_views_counted.inc_by(recorded.len() as u64);
        Ok(recorded)
    }
}
