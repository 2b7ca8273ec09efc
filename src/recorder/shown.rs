//! Notes whom the app shows which community, and which finer thing in it, for `api.access = "visited"`: the verdict of each
//! exchange, with its session and its community, goes to [`Grants`] before the answer is passed on.
//!
//! Nothing waits here but callers of the API. A session or a community that is not cached is looked up meanwhile;
//! [`ShownPages::settled`] lets a caller with the same token wait for it, so that the first page of a new session and what
//! that page asks of the API belong together.

mod pending;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

use self::pending::{Entered, PendingVerdicts};
use super::RequestFacts;
use crate::auth::{Authenticator, CachedSession, EarlyLookup, Identified};
use crate::browser_session::BrowserSession;
use crate::communities::{Communities, PageCommunity};
use crate::ids::{CommunityId, Finer, SessionToken, UserId};
use crate::page_view::{AccessNews, Exchange};
use crate::presence::grants::{Grants, News};
use crate::presence::moment::Moment;
use crate::presence::{PresenceError, Scope};
use crate::routes::CommunityRef;

/// Verdicts that wait for a lookup at a time; further ones are not noted.
const LOOKUPS: usize = 4_096;

/// Notes whom the app shows which community, and tells it. Cheap to clone.
#[derive(Clone)]
pub struct ShownPages {
    grants: Grants,
    authenticator: Arc<Authenticator>,
    communities: Arc<Communities>,
    runtime: Handle,
    lookups: Arc<Semaphore>,
    pending: Arc<PendingVerdicts>,
}

/// What an exchange says, and of whom and what.
struct Unsettled {
    news: AccessNews,
    finer: Arc<[Finer]>,
    at: Moment,
    token: SessionToken,
    lookup: EarlyLookup,
    started_at: DateTime<Utc>,
    client_ip: Option<IpAddr>,
    named: CommunityRef,
}

impl ShownPages {
    /// Lookups run on `runtime`.
    pub fn new(
        grants: Grants,
        authenticator: Arc<Authenticator>,
        communities: Arc<Communities>,
        runtime: Handle,
    ) -> Self {
        Self {
            grants,
            authenticator,
            communities,
            runtime,
            lookups: Arc::new(Semaphore::new(LOOKUPS)),
            pending: Arc::default(),
        }
    }

    /// Notes what an exchange says about access. Reads caches only.
    pub(super) fn note(&self, facts: &RequestFacts, exchange: &Exchange<'_>, news: Option<AccessNews>) {
        let (Some(news), Some(matched), Some(token)) = (news, exchange.route, &facts.token) else {
            return;
        };
        let Some(named) = &matched.community else {
            return;
        };
        let at = Moment::now();
        let session = match facts.lookup.session() {
            Some(session) => CachedSession::Session(Arc::clone(session)),
            None => self.authenticator.cached(token, facts.at),
        };
        match (session, self.communities.cached(Some(named))) {
            (CachedSession::NoSession(_), _) | (_, Ok(PageCommunity::Nothing | PageCommunity::NoKey)) => {}
            (CachedSession::Session(session), Ok(PageCommunity::Community(community)))
                if news.unless.is_none() =>
            {
                self.take(&community, &matched.finer, &session.user_id, &news, at);
            }
            _ => self.look_up(Unsettled {
                news,
                finer: Arc::clone(&matched.finer),
                at,
                token: token.clone(),
                lookup: facts.lookup.clone(),
                started_at: facts.at,
                client_ip: facts.client_ip,
                named: named.clone(),
            }),
        }
    }

    /// Notes a verdict.
    fn take(&self, community: &CommunityId, finer: &[Finer], user: &UserId, news: &AccessNews, at: Moment) {
        if let Some(news) = news.community {
            self.grants.note(&community.into(), user, news, at);
        }
        if let Some(news) = news.finer {
            for finer in finer {
                let scope = Scope::Finer(community.clone(), finer.clone());
                self.grants.note(&scope, user, news, at);
            }
        }
    }

    /// Looks up what is not known yet, and notes the verdict then.
    fn look_up(&self, unsettled: Unsettled) {
        let Ok(place) = Arc::clone(&self.lookups).try_acquire_owned() else {
            self.grants.count_dropped();
            return;
        };
        let mut pending = Some(PendingVerdicts::enter(&self.pending, &unsettled.token));
        let shown = self.clone();
        self.runtime.spawn(async move {
            let _place = place;
            if let Some((session, community)) = shown.found(&unsettled, &mut pending).await {
                let Unsettled { news, finer, at, .. } = unsettled;
                shown.take(&community, &finer, &session.user_id, &news, at);
            }
            drop(pending);
        });
    }

    /// The session and the community. Nobody waits any more where the session's row may only appear later.
    async fn found(
        &self,
        unsettled: &Unsettled,
        pending: &mut Option<Entered>,
    ) -> Option<(Arc<BrowserSession>, CommunityId)> {
        let Unsettled {
            token,
            lookup,
            started_at,
            client_ip,
            named,
            ..
        } = unsettled;
        let authenticator = &self.authenticator;
        let resolve = || authenticator.resolve_past(token, *started_at, *client_ip);
        let mut found = resolve().await;
        if let (Ok(Identified::NotYet(until)), None) = (&found, lookup.session()) {
            drop(pending.take());
            sleep_until(*until).await;
            authenticator.forget_absence(token);
            found = resolve().await;
        }
        let session = match (lookup.session(), found) {
            (Some(session), _) => Arc::clone(session),
            (None, Ok(Identified::Session(session))) => session,
            (None, Ok(Identified::NoSession(_) | Identified::NotYet(_))) => return None,
            (None, Err(_)) => authenticator.last_known_session(token, *started_at)?,
        };
        let community = match self.communities.named(named).await {
            Ok(PageCommunity::Community(community)) => community,
            Ok(PageCommunity::Nothing | PageCommunity::NoKey) => return None,
            // The name may be another community's by now: one that the app has not shown.
            Err(_) if !unsettled.news.is_refusal() => {
                self.grants.count_dropped();
                return None;
            }
            Err(_) => self.communities.last_known(named)?,
        };
        if let Some(unless) = &unsettled.news.unless {
            match self.communities.named(unless).await {
                Ok(PageCommunity::Community(same)) if same == community => return None,
                Ok(_) => {}
                // It may be the same one.
                Err(_) => {
                    self.grants.count_dropped();
                    return None;
                }
            }
        }
        Some((session, community))
    }

    /// Waits until the verdicts of earlier exchanges with a token are noted; false if they are not in time.
    pub async fn settled(&self, token: &SessionToken) -> bool {
        self.pending.settle(token, self.grants.patience()).await
    }

    /// How long a request may wait for what others know, in all.
    pub fn patience(&self) -> Duration {
        self.grants.patience()
    }

    /// As [`Grants::may_see`]; of something finer, where the user may see its community, too.
    ///
    /// # Errors
    /// It cannot be told.
    pub async fn may_see(&self, scope: &Scope, user: &UserId, until: Instant) -> Result<bool, PresenceError> {
        let may_see = self.grants.may_see(&scope.group(), user, until).await?;
        if !may_see || scope.finer().is_none() {
            return Ok(may_see);
        }
        self.grants.may_see(scope, user, until).await
    }

    /// A page of a community, or of something in it, is still open.
    pub fn still_open(&self, scope: &Scope, user: &UserId) {
        let now = Moment::now();
        self.grants.note(&scope.group(), user, News::StillShown, now);
        if scope.finer().is_some() {
            self.grants.note(scope, user, News::StillShown, now);
        }
    }
}
