//! Access control: which caller may see which community, and the whole site.
//!
//! Rule: a community that is not there and one that the caller may not see look the same (I9), in the answer and
//! in the work done: with `access = "backend"` the backend is asked about communities that do not exist, too, and with
//! `"visited"` it is looked up whether they were shown. A server's key decides alone, whatever the rule for visitors. So access comes first, also while the database does not answer: whoever
//! may not see a community is told that there is none, cached or not. When access cannot be determined, the answer is 503,
//! never the data: fail closed.

use std::error::Error;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;

use http::StatusCode;
use http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::auth::KeyFound;
use crate::communities::{self, AskedCommunity, Communities};
use crate::config::{self, ApiKey, CommunityKey};
use crate::ids::{BrowserSessionId, CommunityId, Finer, UserId};
use crate::presence::Scope;
use crate::recorder::ShownPages;
use crate::shared_results::SharedResults;

use super::Clock;
use super::backend_check::BackendCheck;
use super::caller::Caller;
use super::problem::Problem;

/// Cached decisions.
const CAPACITY: usize = 20_000;
/// Concurrent checks, over all callers: the site's own requests come first.
const MAX_CHECKS: usize = 16;
/// Everything but RFC 3986's unreserved characters.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Checks access to communities.
pub(super) struct Gate {
    rule: config::Access,
    /// Whether who may see how many are on the whole site may see who is.
    shows_site_identities: bool,
    /// Whether anybody may see who is somewhere.
    identities: bool,
    /// What callers name communities by.
    key: CommunityKey,
    communities: Arc<Communities>,
    /// Whom the app has shown what; set with `access = "visited"`.
    shown: Option<ShownPages>,
    check: Arc<dyn BackendCheck>,
    /// The backend's path with `{community}` or `{community_slug}` in it.
    check_path: String,
    /// By caller and path: a path may name a community by its id or its slug, which may be another's id.
    decisions: SharedResults<(CallerKey, Arc<str>), bool, Problem>,
    permits: Semaphore,
    fingerprints: RandomState,
    clock: Clock,
}

/// The caller that a cached decision belongs to. Callers with a session are identified by it; all others by the
/// credentials they send, because the backend may know users that the session table does not, and what one of them
/// may see must not be shown to others. Credentials are kept as a keyed hash only.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum CallerKey {
    Session(Option<BrowserSessionId>, UserId, Option<u64>),
    Anonymous(Option<u64>),
}

/// What else decides about a caller who may use the API.
enum Decides<'a> {
    /// Nothing: every community may be seen.
    Nobody,
    /// The configuration of a server's key, which may see every community, or those that are named there.
    Key(&'a ApiKey),
    /// The app, when it is asked.
    Backend(CallerKey),
    /// What the app has shown this user. All communities of a request wait until then, at most, for what other sidecars
    /// know.
    Visits(UserId, Instant),
}

/// A caller who may use the API.
pub(super) struct Admitted<'a> {
    caller: &'a Caller,
    decides: Decides<'a>,
}

impl Gate {
    pub(super) fn new(
        settings: &config::Api,
        communities: Arc<Communities>,
        check: Arc<dyn BackendCheck>,
        shown: Option<ShownPages>,
        clock: Clock,
    ) -> Self {
        Self {
            rule: settings.access,
            shows_site_identities: settings.shows_site_identities(),
            identities: settings.identities,
            key: settings.community_key,
            communities,
            shown,
            check,
            check_path: settings.backend_check.clone(),
            decisions: SharedResults::new(CAPACITY, settings.backend_check_ttl),
            permits: Semaphore::new(MAX_CHECKS),
            fingerprints: RandomState::new(),
            clock,
        }
    }

    /// Whether the caller may use the API; decides nothing about communities.
    pub(super) fn admit<'a>(&self, caller: &'a Caller) -> Result<Admitted<'a>, Problem> {
        let now = (self.clock)();
        match &caller.key {
            KeyFound::None => {}
            KeyFound::Key(key) if key.lasts(now).is_some() => {
                let decides = Decides::Key(key.settings());
                return Ok(Admitted { caller, decides });
            }
            KeyFound::Key(_) | KeyFound::Refused => return Err(Problem::UnknownKey),
        }
        let session = caller.session_at(now);
        let unavailable = session.is_none() && caller.unavailable;
        let decides = match self.rule {
            config::Access::Public => Decides::Nobody,
            _ if unavailable => return Err(Problem::Unavailable),
            config::Access::Session => {
                session.ok_or_else(|| caller.without_session())?;
                Decides::Nobody
            }
            config::Access::Visited => {
                let session = session.ok_or_else(|| caller.without_session())?;
                let patience = self.shown.as_ref().map(ShownPages::patience);
                let until = Instant::now() + patience.unwrap_or_default();
                Decides::Visits(session.user_id.clone(), until)
            }
            config::Access::Backend => Decides::Backend(match session {
                Some(session) => CallerKey::Session(
                    session.id.clone(),
                    session.user_id.clone(),
                    self.fingerprint(&caller.headers, &[AUTHORIZATION]),
                ),
                None => CallerKey::Anonymous(self.fingerprint(&caller.headers, &[COOKIE, AUTHORIZATION])),
            }),
        };
        Ok(Admitted { caller, decides })
    }

    /// Whether the caller may see who is on the whole site.
    ///
    /// # Errors
    /// The caller may not even see how many are: that takes a session, unless the API is public. With `access =
    /// "backend"` too, where the app may let others see some community: it says nothing about the site.
    pub(super) fn site(&self, caller: &Caller) -> Result<bool, Problem> {
        // What the key's scopes allow was decided before; `api.site_identities` is about visitors.
        if let Decides::Key(key) = &self.admit(caller)?.decides {
            return match key.communities {
                Some(_) => Err(Problem::LimitedKey),
                None => Ok(self.identities),
            };
        }
        let is_public = self.rule == config::Access::Public;
        if !is_public && caller.session_at((self.clock)()).is_none() {
            return Err(if caller.unavailable {
                Problem::Unavailable
            } else {
                caller.without_session()
            });
        }
        Ok(self.shows_site_identities)
    }

    /// The community, if it exists and the caller may see it, and something `finer` in it.
    pub(super) async fn community(
        &self,
        admitted: &Admitted<'_>,
        asked: &str,
        finer: Option<&Finer>,
    ) -> Result<Option<AskedCommunity>, Problem> {
        if !communities::is_well_formed(asked, self.key) {
            return Ok(None);
        }
        let found = self.communities.find(asked, self.key).await;
        let known = match &found {
            Ok(found) => found.clone(),
            Err(_) => self.communities.last_found(asked, self.key),
        };
        let subject = known.unwrap_or_else(|| AskedCommunity {
            id: CommunityId::from(asked),
            slug: Some(asked.into()),
        });
        // Before it matters whether the database answers: that a community is cached would tell that it is there.
        if !self.allows(admitted, &subject, finer).await? {
            return Ok(None);
        }
        found.map_err(|error| Problem::from_store(&error))
    }

    /// Whether the community is still there and the caller may see it, or something in it. A page of that may still be open.
    pub(super) async fn still_shows(
        &self,
        admitted: &Admitted<'_>,
        scope: &Scope,
        is_open: bool,
    ) -> Result<bool, Problem> {
        let Some(community) = scope.community() else {
            return Ok(true);
        };
        let found = self.communities.find(community.as_str(), CommunityKey::Id).await;
        let found = found.map_err(|error| Problem::from_store(&error))?;
        let is_there = found.is_some();
        let subject = found.unwrap_or_else(|| community.clone().into());
        let shows = self.allows(admitted, &subject, scope.finer()).await? && is_there;
        if let (true, true, Some(shown), Decides::Visits(user, _)) =
            (shows, is_open, &self.shown, &admitted.decides)
        {
            shown.still_open(scope, user);
        }
        Ok(shows)
    }

    /// What is finer in a community has an answer of its own only where the app's pages decide.
    async fn allows(
        &self,
        admitted: &Admitted<'_>,
        subject: &AskedCommunity,
        finer: Option<&Finer>,
    ) -> Result<bool, Problem> {
        match &admitted.decides {
            Decides::Nobody => Ok(true),
            Decides::Key(key) => Ok(self.is_for(key, &subject.id)),
            Decides::Visits(user, until) => {
                let scope = Scope::of(subject.id.clone(), finer.cloned());
                self.was_shown(&scope, user, *until, admitted.caller).await
            }
            Decides::Backend(key) => {
                let Some(path) = self.path_to_check(subject).await else {
                    return Ok(false);
                };
                let path: Arc<str> = path.into();
                self.decisions
                    .get(
                        &(key.clone(), Arc::clone(&path)),
                        self.ask_backend(&path, &admitted.caller.headers),
                    )
                    .await
            }
        }
    }

    /// Whether a key may be used for a community.
    fn is_for(&self, key: &ApiKey, community: &CommunityId) -> bool {
        let keys = self.communities.keys();
        let is_it = |named: &String| keys.community(named) == *community;
        key.communities
            .as_ref()
            .is_none_or(|communities| communities.iter().any(is_it))
    }

    /// Whether the app has shown a user the community, and what is finer in it, including pages of the same browser that
    /// were answered a moment ago.
    async fn was_shown(
        &self,
        scope: &Scope,
        user: &UserId,
        until: Instant,
        caller: &Caller,
    ) -> Result<bool, Problem> {
        let Some(shown) = &self.shown else {
            return Ok(false);
        };
        if let Some(token) = &caller.token
            && !shown.settled(token).await
        {
            return Err(Problem::Unavailable);
        }
        let may_see = shown.may_see(scope, user, until).await;
        may_see.map_err(|error| Problem::from_presence(&error))
    }

    async fn ask_backend(&self, path: &str, headers: &HeaderMap) -> Result<bool, Problem> {
        let Ok(_permit) = self.permits.acquire().await else {
            return Err(Problem::Unavailable);
        };
        match self.check.may_see(path, headers).await {
            Ok(status) => decide(status),
            Err(error) => {
                let cause: &dyn Error = &error;
                tracing::warn!(cause, "cannot ask the backend who may see a community");
                Err(Problem::Unavailable)
            }
        }
    }

    /// The backend's path for a community. One without a slug is asked about by its id; none where it cannot be told whether
    /// it has one.
    async fn path_to_check(&self, community: &AskedCommunity) -> Option<String> {
        let segment = |text: &str| utf8_percent_encode(text, SEGMENT).to_string();
        let path = self
            .check_path
            .replace("{community}", &segment(community.id.as_str()));
        if !path.contains("{community_slug}") {
            return Some(path);
        }
        let slug = match &community.slug {
            Some(slug) => Some(Arc::clone(slug)),
            None => self.communities.slug_of(&community.id).await.ok()?,
        };
        let slug = slug.as_deref().unwrap_or(community.id.as_str());
        Some(path.replace("{community_slug}", &segment(slug)))
    }

    /// A keyed hash of these headers' values; `None` where there are none.
    fn fingerprint(&self, headers: &HeaderMap, names: &[HeaderName]) -> Option<u64> {
        let mut hasher = self.fingerprints.build_hasher();
        let mut any = false;
        for name in names {
            for value in headers.get_all(name) {
                any = true;
                (name.as_str(), value.as_bytes()).hash(&mut hasher);
            }
        }
        any.then(|| hasher.finish())
    }
}

/// 200 means yes. A backend that fails or is too busy has not decided. Everything else means no, including
/// redirects, which mostly lead to a sign-in page.
fn decide(status: StatusCode) -> Result<bool, Problem> {
    let undecided = status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
        );
    if undecided {
        tracing::warn!(
            status = status.as_u16(),
            "the backend did not decide who may see a community"
        );
        return Err(Problem::Unavailable);
    }
    Ok(status == StatusCode::OK)
}
