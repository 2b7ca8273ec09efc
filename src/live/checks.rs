//! Checks of a connection's session (I5) and of its access, and the lookup of communities that its client asks for.
//! They run within the connection's own task, at most one of each kind, and never keep the connection waiting.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};

use super::access_policy::{AccessPolicy, Denied};
use super::close::Close;
use super::state::LiveState;
use crate::browser_session::BrowserSession;
use crate::communities::AskedCommunity;
use crate::ids::SessionToken;
use crate::presence::Scope;

/// Longest wait for the decision about a request, in case the policy does not keep its own limit.
const ADMISSION: Duration = Duration::from_secs(30);

/// Communities that a client asked for, each if the client may see it.
pub(super) type FoundCommunities = Vec<(String, Option<AskedCommunity>)>;
/// The session, and when it was read.
pub(super) type SessionChecked = CheckOutcome<(Arc<BrowserSession>, Instant)>;
/// When the check began, and the scopes to which access was lost.
pub(super) type AccessChecked = CheckOutcome<(Instant, Vec<Scope>)>;

/// A step of a check of access.
pub(super) enum AccessStep {
    /// Its turn has come. Only now is it known what to check: session and communities may have changed meanwhile.
    MayCheck(CheckPermit),
    Outcome(AccessChecked),
}

/// The right to check access now.
pub(super) struct CheckPermit(Option<OwnedSemaphorePermit>);

/// Something that is looked up. Rare and large, so it is boxed rather than part of every connection's memory.
pub(super) struct PendingLookup<T>(Option<BoxFuture<'static, T>>);

impl<T> Default for PendingLookup<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> PendingLookup<T> {
    pub(super) fn is_running(&self) -> bool {
        self.0.is_some()
    }

    /// Starts it, in place of the one that is running.
    pub(super) fn start(&mut self, lookup: impl Future<Output = T> + Send + 'static) {
        self.0 = Some(lookup.boxed());
    }

    /// Ready with its outcome.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<T> {
        let Some(lookup) = &mut self.0 else {
            return Poll::Pending;
        };
        let outcome = ready!(lookup.poll_unpin(context));
        self.0 = None;
        Poll::Ready(outcome)
    }
}

/// Why a session is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CheckReason {
    /// The period has passed.
    Periodic,
    /// The session has changed, or may have.
    Changed,
}

/// The outcome of a check.
#[derive(Debug)]
pub(super) enum CheckOutcome<T> {
    /// Still valid.
    Holds(T),
    /// Cannot be determined: the last verification stays valid for its time.
    Unknown,
    /// No longer valid.
    Over(Close),
}

/// Checks a session.
pub(super) async fn session(state: Arc<LiveState>, token: SessionToken, why: CheckReason) -> SessionChecked {
    let queue = match why {
        CheckReason::Periodic => &state.checks.periodic,
        CheckReason::Changed => &state.checks.changed,
    };
    let since = Instant::now();
    // Nobody closes it.
    let _permit = queue.acquire().await;
    let waited = since.elapsed().as_secs_f64();
    state.metrics.check_delay.set(waited);
    match state.authenticator.verified(&token, (state.clock)()).await {
        Ok(Some(verified)) => CheckOutcome::Holds(verified),
        Ok(None) => CheckOutcome::Over(Close::SessionEnded),
        Err(_) => CheckOutcome::Unknown,
    }
}

/// Waits for the turn of a check of access.
pub(super) async fn access_turn(state: Arc<LiveState>) -> AccessStep {
    // Nobody closes it.
    AccessStep::MayCheck(CheckPermit(
        Arc::clone(&state.checks.access).acquire_owned().await.ok(),
    ))
}

/// Checks access to communities, and to what is finer in them.
pub(super) async fn access(
    turn: CheckPermit,
    access_policy: Arc<dyn AccessPolicy>,
    session: Option<Arc<BrowserSession>>,
    scopes: Vec<Scope>,
    open_page: Option<Scope>,
) -> AccessStep {
    let _permit = turn.0;
    let since = Instant::now();
    let checked = access_policy.still_admits(session, &scopes, open_page.as_ref());
    AccessStep::Outcome(match checked.await {
        Ok(admitted) => {
            let admitted = scopes.into_iter().zip(admitted);
            let lost = admitted.filter(|(_, is_admitted)| !is_admitted);
            CheckOutcome::Holds((since, lost.map(|(scope, _)| scope).collect()))
        }
        Err(Denied::Unavailable) => CheckOutcome::Unknown,
        Err(Denied::NoSession) => CheckOutcome::Over(Close::SessionEnded),
    })
}

/// Looks up communities that a client asks for.
pub(super) async fn request(
    access_policy: Arc<dyn AccessPolicy>,
    session: Option<Arc<BrowserSession>>,
    asked: Vec<String>,
) -> Result<FoundCommunities, Close> {
    match timeout(ADMISSION, access_policy.admit(session, &asked)).await {
        Ok(Ok(admitted)) => Ok(asked.into_iter().zip(admitted).collect()),
        Ok(Err(Denied::NoSession)) => Err(Close::SessionEnded),
        Ok(Err(Denied::Unavailable)) | Err(_) => Err(Close::Unavailable),
    }
}
