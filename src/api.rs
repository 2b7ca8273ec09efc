//! The visitors API on the site's own origin (step 6, serve).
//!
//! [`Api`] is called by the proxy in-process: no network hop, no listener of its own. A request's path is parsed once
//! ([`Api::parse`]) into an [`ApiPath`], or is the app's; everything else goes by that. The proxy passes what it knows of
//! the [`Caller`], whose session is looked up here ([`Api::identify`]).
//!
//! One file per subject: `paths` (the API's paths), `query` and `cursor` (parameters; `parameters` describes them),
//! `caller` and `servers` (who asks: a session, or a server with a key), `access`, `backend_check` and `visible` (who may
//! see which community), `visitors`, `finer`, `site`, `stats` and `history` (the answers), `list` (pages of visitors),
//! `answers` (their JSON), `response` (bodies and headers), `problem` (error answers), `live`, `handshake`, `origin` and
//! `stream_reader` (live connections), `cors` (pages of other origins), `reports` (reported page views), `widget` (the
//! script), `openapi` (the contract).
//!
//! Invariant: this module reads; it never writes to the app's tables or to presence (P2). Reported page views go to
//! [`Intake`].

mod access;
mod answers;
mod backend_check;
mod caller;
mod cors;
mod cursor;
mod finer;
mod handshake;
mod history;
mod joined_reads;
mod list;
pub(crate) mod live;
mod metrics;
mod openapi;
mod origin;
mod parameters;
mod paths;
mod problem;
mod problem_responses;
mod query;
pub(crate) mod reports;
mod response;
mod servers;
mod site;
mod stats;
mod stream_reader;
#[cfg(test)]
mod tests;
mod visible;
mod visitors;
mod widget;

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderMap;
use http::request::Parts;
use http::{Method, Response, StatusCode};
use tokio::sync::Semaphore;

use crate::auth::{ApiKeys, Authenticator};
use crate::communities::Communities;
use crate::config;
use crate::live::Live;
use crate::metrics::StatusClass;
use crate::presence::Presence;
use crate::recorder::Intake;
use crate::store::Store;

pub use backend_check::{BackendCheck, CheckError, UpstreamCheck};
pub use caller::Caller;
pub use metrics::Metrics;
pub use paths::{ApiPath, is_own_path, widget_paths};
pub use reports::MAX_REPORT;
pub use response::Body;

use crate::json::Seconds;
use crate::presence::moment::Clock;
use access::Gate;
use cors::Cors;
use history::PastVisits;
use openapi::Contract;
use paths::{Operation, Paths};
use problem::Problem;
use response::finish;
use stats::Statistics;
use stream_reader::StreamReader;
use widget::Scripts;

/// Requests answered at the same time; further ones get 503 at once, so that a slow database cannot pile up
/// requests.
const MAX_IN_FLIGHT: usize = 256;

/// Live connections opened at the same time. Each may wait, for its snapshot or for the app's decision, so they
/// have a limit of their own; further ones wait.
const MAX_OPENING: usize = 256;

/// Callers whose tokens are looked up at the same time.
const MAX_IDENTIFYING: usize = 64;

/// The same for live connections. After a restart all clients reconnect at once: further ones wait.
const MAX_LISTENERS_IDENTIFYING: usize = 16;

/// The visitors API.
pub struct Api {
    shared: Arc<ApiState>,
    in_flight: Semaphore,
    opening: Semaphore,
    identifying: Semaphore,
    listeners_identifying: Semaphore,
}

/// Dependencies of the handlers.
struct ApiState {
    settings: config::Api,
    paths: Paths,
    /// The presence window, over which `current_visitors` is counted.
    window: Seconds,
    session_facts: config::SessionFacts,
    store: Arc<dyn Store>,
    presence: Arc<dyn Presence>,
    authenticator: Arc<Authenticator>,
    api_keys: Option<Arc<ApiKeys>>,
    gate: Gate,
    statistics: Statistics,
    past: PastVisits,
    first_pages: visitors::FirstPages,
    live: Option<Live>,
    cors: Cors,
    reports: reports::Rate,
    intake: Arc<Intake>,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// The `OpenAPI` document.
    contract: Contract,
    scripts: Scripts,
    /// When a request from a page of another origin was last logged, in seconds.
    warned_of_foreign_at: AtomicI64,
}

/// What the API needs to know from other sections of the configuration.
#[derive(Debug, Clone)]
pub struct SiteSettings {
    /// How long a user counts as present.
    pub window: Duration,
    /// Name of the session cookie.
    pub session_cookie: String,
    /// JWTs.
    pub jwt: config::Jwt,
    /// What the app keeps of sessions.
    pub session_facts: config::SessionFacts,
    /// Origins besides the site's own whose pages may call the API.
    pub allowed_origins: Vec<String>,
}

/// Data sources of the API.
pub struct Sources {
    /// Profiles and statistics.
    pub store: Arc<dyn Store>,
    /// Finds the callers' sessions.
    pub authenticator: Arc<Authenticator>,
    /// The keys of servers, where they have some.
    pub api_keys: Option<Arc<ApiKeys>>,
    /// Lookup of communities.
    pub communities: Arc<Communities>,
    /// Who is here now.
    pub presence: Arc<dyn Presence>,
    /// Decides who may see a community; only used with `access = "backend"`.
    pub backend_check: Arc<dyn BackendCheck>,
    /// Live connections; `None` if they are off.
    pub live: Option<Live>,
    /// Records the page views that pages report.
    pub intake: Arc<Intake>,
}

impl Api {
    /// Builds the API.
    pub fn new(
        settings: config::Api,
        site_settings: SiteSettings,
        sources: Sources,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Self {
        let Sources {
            store,
            authenticator,
            api_keys,
            communities,
            presence,
            backend_check,
            live,
            intake,
        } = sources;
        let paths = Paths::new(&settings);
        if let Some(api_keys) = &api_keys {
            let metrics = Arc::clone(&metrics);
            api_keys.observe(move |keys| {
                let names = keys.iter().map(|key| key.name.clone());
                metrics.key_requests.keep(names.collect());
            });
        }
        let shared = ApiState {
            window: Seconds(site_settings.window),
            gate: Gate::new(
                &settings,
                communities,
                backend_check,
                intake.shown.clone(),
                Arc::clone(&clock),
            ),
            session_facts: site_settings.session_facts,
            statistics: Statistics::new(Arc::clone(&store), site_settings.session_facts),
            past: PastVisits::new(Arc::clone(&store), Arc::clone(&intake.routes)),
            first_pages: visitors::FirstPages::new(settings.timeout / 4),
            cors: Cors::new(site_settings.allowed_origins.clone()),
            contract: Contract::new(site_settings),
            live,
            authenticator,
            api_keys,
            scripts: Scripts::default(),
            reports: reports::Rate::new(settings.beacon_rate),
            intake,
            paths,
            warned_of_foreign_at: AtomicI64::new(0),
            store,
            presence,
            clock,
            settings,
            metrics,
        };
        Self {
            shared: Arc::new(shared),
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
            opening: Semaphore::new(MAX_OPENING),
            identifying: Semaphore::new(MAX_IDENTIFYING),
            listeners_identifying: Semaphore::new(MAX_LISTENERS_IDENTIFYING),
        }
    }

    /// Reads a request's raw path; `None` if it is not the API's, but the app's.
    pub fn parse(&self, path: &str) -> Option<ApiPath> {
        self.shared.parse(path)
    }

    /// Longest time for one answer, and for identifying the caller before it.
    pub fn timeout(&self) -> Duration {
        self.shared.settings.timeout
    }

    /// Answers a request. Never fails: any error becomes a problem document. The answer has a `Content-Length`, also
    /// to HEAD, where its body is empty; only live connections have none.
    pub async fn call(&self, path: &ApiPath, request: &Parts, body: &[u8], caller: Caller) -> Response<Body> {
        let operation = path.operation;
        let (cors, headers) = (&self.shared.cors, &request.headers);
        let reader = cors.reader(operation, headers);
        let asked = self.shared.asked(operation, request, &caller);
        let refused = asked.as_ref().and_then(|asked| asked.refused.clone());
        let preflight = cors.preflight(operation, &request.method, headers);
        let response = match (preflight, refused) {
            (Some(response), _) => response,
            (None, Some(problem)) => problem.document().map(Body::Bytes),
            (None, None) => self.answer(path, request, body, caller).await,
        };
        let (mut head, mut body) = response.into_parts();
        let class = StatusClass::of(head.status.as_u16()).unwrap_or(StatusClass::ServerError);
        self.shared.metrics.requests[operation][class].inc();
        match &mut body {
            Body::Bytes(body) => {
                finish(operation, &mut head, Some(body.len()));
                if request.method == Method::HEAD {
                    body.clear();
                }
            }
            Body::Live(_) => finish(operation, &mut head, None),
        }
        if let Some(asked) = asked {
            let requests = &self.shared.metrics.key_requests;
            asked.answered(head.status, requests, &mut head.headers);
        }
        cors.let_read(operation, reader, &mut head.headers);
        Response::from_parts(head, body)
    }

    /// The answer to a request that is refused before it gets to [`Api::call`].
    pub fn refuse(&self, path: &ApiPath, headers: &HeaderMap, status: StatusCode) -> Response<Bytes> {
        let operation = path.operation;
        let problem = match status {
            StatusCode::METHOD_NOT_ALLOWED => Problem::MethodNotAllowed,
            StatusCode::PAYLOAD_TOO_LARGE => Problem::TooLarge,
            StatusCode::INTERNAL_SERVER_ERROR => Problem::Internal,
            StatusCode::SERVICE_UNAVAILABLE => Problem::Unavailable,
            status => Problem::Refused(status),
        };
        let (mut head, body) = problem.document().into_parts();
        finish(operation, &mut head, Some(body.len()));
        let cors = &self.shared.cors;
        cors.let_read(operation, cors.reader(operation, headers), &mut head.headers);
        Response::from_parts(head, body)
    }

    async fn answer(&self, path: &ApiPath, request: &Parts, body: &[u8], caller: Caller) -> Response<Body> {
        let is_live = path.operation.is_live();
        // A server reads statuses, whatever it asks for.
        let is_servers = caller.key.is_some();
        let answered = async {
            let place = if is_live {
                self.opening.acquire().await.ok()
            } else {
                self.in_flight.try_acquire().ok()
            };
            let _place = place.ok_or(Problem::Unavailable)?;
            self.shared.answer(path, request, body, caller).await
        };
        let answered = tokio::time::timeout(self.timeout(), answered).await;
        let answered = answered.unwrap_or_else(|_elapsed| {
            tracing::warn!(api.timeout = ?self.timeout(), "a visitors API answer took too long");
            Err(Problem::Unavailable)
        });
        let response = answered.unwrap_or_else(|problem| problem.document().map(Body::Bytes));
        let live = self.shared.live.as_ref().filter(|_| is_live && !is_servers);
        match live.and_then(|live| StreamReader::of(request, live)) {
            Some(reader) => reader.understands(response),
            None => response,
        }
    }
}

impl ApiState {
    fn parse(&self, path: &str) -> Option<ApiPath> {
        self.paths
            .parse(path, || self.intake.routes.load().finer_kinds().to_vec())
    }

    async fn answer(
        self: &Arc<Self>,
        path: &ApiPath,
        request: &Parts,
        body: &[u8],
        caller: Caller,
    ) -> Result<Response<Body>, Problem> {
        if !path.operation.takes(&request.method) {
            return Err(Problem::MethodNotAllowed);
        }
        let (query, community) = (request.uri.query(), path.community.as_deref());
        match path.operation {
            Operation::List => visitors::list(self, &caller, community, query).await,
            Operation::Count => visitors::count(self, &caller, community, query).await,
            Operation::Stats => stats::stats(self, &caller, community, query).await,
            Operation::History => history::history(self, &caller, community, query).await,
            Operation::HistoryOfOne => {
                history::history_of_one(self, &caller, community, path.user.as_deref(), query).await
            }
            Operation::FinerList => finer::list(self, &caller, path, query).await,
            Operation::FinerCount => finer::count(self, &caller, path, query).await,
            Operation::SiteCount => site::count(self, &caller, query).await,
            Operation::Online => site::online(self, &caller, query).await,
            Operation::UsersOnline => site::users(self, &caller, query).await,
            Operation::Counts => visitors::counts(self, &caller, query).await,
            Operation::Live | Operation::FinerLive | Operation::LiveOfMany => {
                live::answer(self, path, request, caller).await
            }
            Operation::Visits => reports::report(self, request, &caller, body),
            Operation::Widget => Ok(widget::script(self, &request.headers)),
            Operation::Contract => openapi::contract(self, query),
        }
    }
}
