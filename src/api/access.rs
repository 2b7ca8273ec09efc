//! Access control: which caller may see which community.
//!
//! Rule: a community that is not there and one that the caller may not see look the same (I9), in the answer and
//! in the work done: with `access = "backend"` the backend is asked about communities that do not exist, too. When
//! access cannot be determined, the answer is 503, never the data: fail closed.

use std::error::Error;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;

use http::StatusCode;
use http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName};
use moka::future::Cache;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::Semaphore;

use crate::communities::{self, Communities};
use crate::config;
use crate::ids::{BrowserSessionId, CommunityId, UserId};

use super::Clock;
use super::backend_check::BackendCheck;
use super::caller::Caller;
use super::problem::Problem;

/// Cached decisions.
const CAPACITY: u64 = 20_000;
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
    communities: Arc<Communities>,
    check: Arc<dyn BackendCheck>,
    /// The backend's path with `{community}` in it.
    check_path: String,
    decisions: Cache<(CallerKey, CommunityId), bool>,
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

/// A caller who may use the API.
pub(super) struct Admitted<'a> {
    caller: &'a Caller,
    /// Set if the backend decides.
    key: Option<CallerKey>,
}

impl Gate {
    pub(super) fn new(
        settings: &config::Api,
        communities: Arc<Communities>,
        check: Arc<dyn BackendCheck>,
        clock: Clock,
    ) -> Self {
        Self {
            rule: settings.access,
            communities,
            check,
            check_path: settings.backend_check.clone(),
            decisions: Cache::builder()
                .max_capacity(CAPACITY)
                .time_to_live(settings.backend_check_ttl)
                .build(),
            permits: Semaphore::new(MAX_CHECKS),
            fingerprints: RandomState::new(),
            clock,
        }
    }

    /// Whether the caller may use the API; decides nothing about communities.
    pub(super) fn admit<'a>(&self, caller: &'a Caller) -> Result<Admitted<'a>, Problem> {
        let session = caller.session_at((self.clock)());
        let unavailable = session.is_none() && caller.unavailable;
        let key = match self.rule {
            config::Access::Public => None,
            config::Access::Session | config::Access::Backend if unavailable => {
                return Err(Problem::Unavailable);
            }
            config::Access::Session => {
                session.ok_or_else(|| caller.without_session())?;
                None
            }
            config::Access::Backend => Some(match session {
                Some(session) => CallerKey::Session(
                    session.id.clone(),
                    session.user_id.clone(),
                    self.fingerprint(&caller.headers, &[AUTHORIZATION]),
                ),
                None => CallerKey::Anonymous(self.fingerprint(&caller.headers, &[COOKIE, AUTHORIZATION])),
            }),
        };
        Ok(Admitted { caller, key })
    }

    /// The community, if it exists and the caller may see it.
    pub(super) async fn community(
        &self,
        admitted: &Admitted<'_>,
        asked: &str,
    ) -> Result<Option<CommunityId>, Problem> {
        if !communities::is_well_formed(asked) {
            return Ok(None);
        }
        let found = self
            .communities
            .find(asked)
            .await
            .map_err(|error| Problem::from_store(&error))?;
        let Some(key) = &admitted.key else {
            return Ok(found);
        };
        let subject = found.clone().unwrap_or_else(|| CommunityId::from(asked));
        let allowed = self
            .decisions
            .try_get_with(
                (key.clone(), subject.clone()),
                self.ask_backend(&subject, &admitted.caller.headers),
            )
            .await
            .map_err(Arc::unwrap_or_clone)?;
        Ok(found.filter(|_| allowed))
    }

    async fn ask_backend(&self, community: &CommunityId, headers: &HeaderMap) -> Result<bool, Problem> {
        let Ok(_permit) = self.permits.acquire().await else {
            return Err(Problem::Unavailable);
        };
        let segment = utf8_percent_encode(community.as_str(), SEGMENT).to_string();
        let path = self.check_path.replace("{community}", &segment);
        match self.check.may_see(&path, headers).await {
            Ok(status) => decide(status),
            Err(error) => {
                let cause: &dyn Error = &error;
                tracing::warn!(cause, "cannot ask the backend who may see a community");
                Err(Problem::Unavailable)
            }
        }
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
