//! One lookup: the session of a token and the community of a name.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::{AcceptedView, RequestVisitor};
use crate::auth::{Absent, Authenticator, Identified};
use crate::browser_session::BrowserSession;
use crate::communities::{Communities, PageCommunity};
use crate::ids::{CommunityId, Finer};
use crate::live::{AccessPolicy, Denied};
use crate::presence::Scope;
use crate::presence::moment::Moment;
use crate::routes::CommunityRef;
use crate::store::StoreError;

/// Finds the session of a token and the community of a slug.
#[derive(Clone)]
pub struct Resolver {
    /// Token to session.
    pub authenticator: Arc<Authenticator>,
    /// Slug to id.
    pub communities: Arc<Communities>,
    /// How long a view waits for the answers, which are cached even if they come later.
    pub patience: Duration,
    /// How long a reported view waits for the decision whether it counts.
    pub admission: Duration,
    /// For how long after a view its visitor is present.
    pub window: Duration,
}

/// Whose session is looked up, and where they were.
#[derive(Clone)]
pub(crate) struct Sought {
    pub(crate) who: RequestVisitor,
    pub(crate) from: Option<IpAddr>,
    /// When the view was requested.
    pub(crate) at: DateTime<Utc>,
    /// When it was accepted.
    pub(crate) seen: Moment,
    pub(crate) community: Option<CommunityRef>,
    pub(crate) finer: Arc<[Finer]>,
    /// Decides whether they may see the community, without which they are not there.
    pub(crate) access_policy: Option<Arc<dyn AccessPolicy>>,
}

impl Sought {
    pub(super) fn of(accepted: &AcceptedView) -> Self {
        Self {
            who: accepted.who.clone(),
            from: accepted.from,
            at: accepted.view.at,
            seen: accepted.seen,
            community: accepted.view.community.clone(),
            finer: Arc::clone(&accepted.view.finer),
            access_policy: accepted.admission().cloned(),
        }
    }

    /// Bytes that it takes up.
    pub(crate) fn weight(&self) -> usize {
        let who = match &self.who {
            RequestVisitor::Session(session) => {
                size_of::<BrowserSession>()
                    + session.user_id.as_str().len()
                    + session.id.as_ref().map_or(0, |id| id.as_str().len())
            }
            RequestVisitor::Token(token, _) => token.expose_secret().len(),
        };
        let community = match &self.community {
            None => 0,
            Some(CommunityRef::Id(text) | CommunityRef::Slug(text)) => text.len(),
            Some(CommunityRef::Lookup(name, key)) => name.len() + key.len(),
        };
        let finer = self.finer.iter();
        let finer = finer.map(|finer| size_of::<Finer>() + finer.kind().len() + finer.key().len());
        size_of::<Self>() + who + community + finer.sum::<usize>()
    }
}

pub(crate) type ViewLookup = Result<LookupAnswer, LookupFailure>;

/// The session and the community of a view.
pub(crate) enum LookupAnswer {
    Found(Arc<BrowserSession>, Option<CommunityId>),
    NoSession(Absent),
    /// See [`Identified::NotYet`].
    Doubtful(Instant),
    /// See [`PageCommunity::NoKey`].
    NoKey,
    /// They may not see the community, or there is none.
    Forbidden,
}

/// Why a lookup has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LookupFailure {
    /// The database cannot be queried for now.
    Unavailable,
    /// It refuses the query, or what it holds cannot be read: so it will next time.
    Refused,
}

impl From<Arc<StoreError>> for LookupFailure {
    fn from(error: Arc<StoreError>) -> Self {
        match *error {
            StoreError::Unavailable(_) => Self::Unavailable,
            _ => Self::Refused,
        }
    }
}

impl Resolver {
    pub(crate) async fn look_up(&self, sought: &Sought) -> ViewLookup {
        let session = match &sought.who {
            RequestVisitor::Session(session) => Arc::clone(session),
            RequestVisitor::Token(token, lookup) => {
                let asked = self.authenticator.resolve_past(token, sought.at, sought.from);
                let found = asked.await;
                match (lookup.session(), found) {
                    (Some(session), _) => Arc::clone(session),
                    (None, Ok(Identified::Session(session))) => session,
                    (None, Ok(Identified::NoSession(absent))) => return Ok(LookupAnswer::NoSession(absent)),
                    (None, Ok(Identified::NotYet(until))) => return Ok(LookupAnswer::Doubtful(until)),
                    (None, Err(error)) => return Err(error.into()),
                }
            }
        };
        let named = match &sought.community {
            None => PageCommunity::Nothing,
            Some(named) => self.communities.named(named).await?,
        };
        let community = match named {
            PageCommunity::Community(community) => community,
            PageCommunity::Nothing => return Ok(LookupAnswer::Found(session, None)),
            PageCommunity::NoKey => return Ok(LookupAnswer::NoKey),
        };
        Ok(match &sought.access_policy {
            Some(policy) => match may_see(&**policy, &session, &community).await {
                Ok(true) => LookupAnswer::Found(session, Some(community)),
                Ok(false) => LookupAnswer::Forbidden,
                Err(Denied::NoSession) => LookupAnswer::NoSession(Absent::Ended),
                Err(Denied::Unavailable) => return Err(LookupFailure::Unavailable),
            },
            None => LookupAnswer::Found(session, Some(community)),
        })
    }
}

/// Whether the visitor of a reported view may see its community.
pub(super) async fn may_see(
    policy: &dyn AccessPolicy,
    session: &Arc<BrowserSession>,
    community: &CommunityId,
) -> Result<bool, Denied> {
    let asked = [Scope::from(community)];
    let admitted = policy.still_admits(Some(Arc::clone(session)), &asked, None);
    Ok(admitted.await? == [true])
}
