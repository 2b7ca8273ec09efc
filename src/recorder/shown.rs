//! Whom the app shows which community, for `api.access = "visited"`: the verdict of each exchange, with its session and
//! its community, goes to [`Grants`] before the answer is passed on.
//!
//! Nothing waits here but callers of the API. A session or a community that is not cached is looked up meanwhile;
//! [`ShownPages::settled`] lets a caller with the same token wait for it, so that the first page of a new session and what
//! that page asks of the API belong together.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::RequestFacts;
use crate::auth::{Authenticator, CachedSession, EarlyLookup, Identified};
use crate::browser_session::BrowserSession;
use crate::communities::{Communities, PageCommunity};
use crate::ids::{CommunityId, SessionToken, UserId};
use crate::page_view::{Exchange, verdict};
use crate::presence::PresenceError;
use crate::presence::grants::{Grants, Verdict};
use crate::presence::moment::Moment;
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
    pending: Arc<Pending>,
}

/// An exchange's verdict, and whose and of what it is.
struct Unsettled {
    verdict: Verdict,
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

    /// Notes what an exchange says. Reads caches only.
    pub(super) async fn note(&self, facts: &RequestFacts, exchange: &Exchange<'_>) {
        let Some(verdict) = verdict(exchange) else {
            return;
        };
        let named = exchange.route.and_then(|matched| matched.community.as_ref());
        let (Some(token), Some(named)) = (&facts.token, named) else {
            return;
        };
        let at = Moment::now();
        let session = match facts.lookup.session() {
            Some(session) => CachedSession::Session(Arc::clone(session)),
            None => self.authenticator.cached(token, facts.at).await,
        };
        match (session, self.communities.cached(Some(named)).await) {
            (CachedSession::NoSession(_), _) | (_, Ok(PageCommunity::Nothing | PageCommunity::NoKey)) => {}
            (CachedSession::Session(session), Ok(PageCommunity::Community(community))) => {
                self.grants.note(&community, &session.user_id, verdict, at);
            }
            _ => self.look_up(Unsettled {
                verdict,
                at,
                token: token.clone(),
                lookup: facts.lookup.clone(),
                started_at: facts.at,
                client_ip: facts.client_ip,
                named: named.clone(),
            }),
        }
    }

    /// Looks up what is not known yet, and notes the verdict then.
    fn look_up(&self, unsettled: Unsettled) {
        let Ok(place) = Arc::clone(&self.lookups).try_acquire_owned() else {
            self.grants.count_dropped();
            return;
        };
        let mut pending = Some(Pending::enter(&self.pending, &unsettled.token));
        let shown = self.clone();
        self.runtime.spawn(async move {
            let _place = place;
            if let Some((session, community)) = shown.found(&unsettled, &mut pending).await {
                let Unsettled { verdict, at, .. } = unsettled;
                shown.grants.note(&community, &session.user_id, verdict, at);
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
            authenticator.forget_absence(token).await;
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
            Err(_) if unsettled.verdict == Verdict::Shown => {
                self.grants.count_dropped();
                return None;
            }
            Err(_) => self.communities.last_known(named).await?,
        };
        Some((session, community))
    }

    /// Waits until the verdicts of earlier exchanges with a token are noted; false if they are not in time.
    pub async fn settled(&self, token: &SessionToken) -> bool {
        let all = async {
            for mut waited in self.pending.of(token) {
                // It ends with an error, when the lookup has ended.
                let _ = waited.changed().await;
            }
        };
        timeout(self.grants.patience(), all).await.is_ok()
    }

    /// How long a request may wait for what others know, in all.
    pub fn patience(&self) -> Duration {
        self.grants.patience()
    }

    /// As [`Grants::may_see`].
    ///
    /// # Errors
    /// It cannot be told.
    pub async fn may_see(
        &self,
        community: &CommunityId,
        user: &UserId,
        until: Instant,
    ) -> Result<bool, PresenceError> {
        self.grants.may_see(community, user, until).await
    }

    /// As [`Grants::still_open`].
    pub fn still_open(&self, community: &CommunityId, user: &UserId) {
        self.grants.still_open(community, user);
    }
}

/// Tokens with verdicts that wait for a lookup. Bounded by the lookups.
#[derive(Default)]
struct Pending(Mutex<HashMap<SessionToken, Vec<watch::Receiver<()>>>>);

impl Pending {
    fn enter(pending: &Arc<Self>, token: &SessionToken) -> Entered {
        let (ends, waited) = watch::channel(());
        pending.all().entry(token.clone()).or_default().push(waited);
        Entered {
            pending: Arc::clone(pending),
            token: token.clone(),
            ends: Some(ends),
        }
    }

    fn of(&self, token: &SessionToken) -> Vec<watch::Receiver<()>> {
        self.all().get(token).cloned().unwrap_or_default()
    }

    fn all(&self) -> MutexGuard<'_, HashMap<SessionToken, Vec<watch::Receiver<()>>>> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A verdict that waits for a lookup, until this is dropped.
struct Entered {
    pending: Arc<Pending>,
    token: SessionToken,
    ends: Option<watch::Sender<()>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        drop(self.ends.take());
        let mut all = self.pending.all();
        if let Some(waited) = all.get_mut(&self.token) {
            waited.retain(|waited| waited.has_changed().is_ok());
            if waited.is_empty() {
                all.remove(&self.token);
            }
        }
    }
}
