//! The visitors API on the site's own origin (step 6, serve).
//!
//! [`Api`] is a service that the proxy calls in-process: no network hop, no listener of its own. It decides which
//! paths are its own ([`Api::owns`]) and answers them ([`Api::call`]). It does not identify callers: the proxy
//! looks the token up and passes a [`Caller`].
//!
//! One file per subject: `paths` (the API's paths), `query` and `cursor` (parameters), `access` (who may see which
//! community), `visitors` and `stats` (the answers), `answers` (their JSON), `live`, `handshake`, `origin` and
//! `stream_reader` (live connections), `cors` (pages of other origins), `visits` (reported page views), `widget`
//! (the script), `problem` (error answers), `openapi` (the contract).
//!
//! Invariant: this module reads; it never writes to the app's tables or to presence (P2). Reported page views go to
//! [`Intake`]. A live connection that the proxy must serve, an [`Opening`], is passed in the answer's extensions.

mod access;
pub(crate) mod answers;
mod backend_check;
mod caller;
mod cors;
mod cursor;
mod handshake;
pub(crate) mod live;
mod openapi;
mod origin;
mod paths;
mod problem;
mod query;
mod stats;
mod stream_reader;
#[cfg(test)]
mod tests;
mod visitors;
pub(crate) mod visits;
mod widget;

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use chrono::{DateTime, Utc};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, HeaderValue, VARY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use tokio::sync::{Semaphore, SemaphorePermit};
use tower::ServiceExt;

use crate::communities::Communities;
use crate::config;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::presence::Presence;
use crate::recorder::Intake;
use crate::store::Store;
use crate::widget::Script;

pub use backend_check::{BackendCheck, CheckError, UpstreamCheck};
pub use caller::Caller;
pub use live::Opening;
pub use paths::{is_own_path, widget_paths};
pub use visits::MAX_REPORT;

use access::Gate;
use answers::Seconds;
use cors::Cors;
use paths::{Operation, Paths};
use problem::Problem;
use stats::Statistics;
use stream_reader::StreamReader;

/// Returns the time: the system's clock in the program, a fixed one in tests.
pub type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

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

/// Label values of `api_requests_total`'s `status`. The API never redirects: a 3xx is a script that the browser
/// has cached.
const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The visitors API.
pub struct Api {
    paths: Arc<Paths>,
    router: Router,
    timeout: Duration,
    in_flight: Semaphore,
    opening: Semaphore,
    identifying: Semaphore,
    listeners_identifying: Semaphore,
    live: Option<Live>,
    cors: Arc<Cors>,
    metrics: Arc<Metrics>,
}

/// Dependencies of the handlers.
struct Shared {
    settings: config::Api,
    paths: Arc<Paths>,
    /// The presence window, over which `current_visitors` is counted.
    window: Seconds,
    store: Arc<dyn Store>,
    presence: Arc<dyn Presence>,
    gate: Gate,
    statistics: Statistics,
    live: Option<Live>,
    cors: Arc<Cors>,
    reports: visits::Rate,
    intake: Arc<Intake>,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// The `OpenAPI` document, rendered once.
    contract: Bytes,
    script: Script,
    /// The same for communities with text keys.
    script_of_text_keys: Script,
    /// When a request from a page of another origin was last logged, in seconds.
    told_of_foreign: AtomicI64,
}

/// What the API needs to know from other sections of the configuration.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// How long a user counts as present.
    pub window: Duration,
    /// Name of the session cookie.
    pub session_cookie: String,
    /// Origins besides the site's own whose pages may call the API.
    pub allowed_origins: Vec<String>,
}

/// Data sources of the API.
pub struct Sources {
    /// Profiles and statistics.
    pub store: Arc<dyn Store>,
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
        surroundings: Surroundings,
        sources: Sources,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Self {
        let Sources {
            store,
            communities,
            presence,
            backend_check,
            live,
            intake,
        } = sources;
        for operation in Operation::ALL {
            for class in STATUS_CLASSES {
                metrics
                    .api_requests
                    .with_label_values(&[operation.label(), class]);
            }
        }
        let paths = Arc::new(Paths::new(&settings));
        let cors = Arc::new(Cors::new(surroundings.allowed_origins));
        let shared = Shared {
            window: Seconds(surroundings.window),
            gate: Gate::new(&settings, communities, backend_check, Arc::clone(&clock)),
            statistics: Statistics::new(Arc::clone(&store)),
            contract: openapi::render(&paths, &settings, &surroundings.session_cookie),
            live: live.clone(),
            cors: Arc::clone(&cors),
            script: Script::new(paths.prefix(), settings.max_limit, false),
            script_of_text_keys: Script::new(paths.prefix(), settings.max_limit, true),
            reports: visits::Rate::new(settings.beacon_rate),
            intake,
            paths: Arc::clone(&paths),
            told_of_foreign: AtomicI64::new(0),
            store,
            presence,
            clock,
            settings,
            metrics: Arc::clone(&metrics),
        };
        Self {
            timeout: shared.settings.timeout,
            router: router(&paths, shared),
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
            opening: Semaphore::new(MAX_OPENING),
            identifying: Semaphore::new(MAX_IDENTIFYING),
            listeners_identifying: Semaphore::new(MAX_LISTENERS_IDENTIFYING),
            live,
            cors,
            paths,
            metrics,
        }
    }

    /// Whether the sidecar answers this raw path itself. Everything else is the app's.
    pub fn owns(&self, path: &str) -> bool {
        self.paths.operation(path).is_some()
    }

    /// Whether requests for this raw path have a body, of at most [`MAX_REPORT`] bytes.
    pub fn takes_a_report(&self, path: &str) -> bool {
        self.paths.operation(path) == Some(Operation::Visits)
    }

    /// Longest time for one answer, and for identifying the caller before it.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Whether requests for this raw path ask for live connections.
    pub fn pushes(&self, path: &str) -> bool {
        self.paths.operation(path).is_some_and(Operation::is_live)
    }

    /// A permit to identify a caller; `None` when there are too many, so that callers with made-up tokens cannot
    /// use up the recorder's lookups. `patient` is for live connections: they wait for a permit, and the caller
    /// must give up after [`Api::timeout`].
    pub async fn identifying(&self, patient: bool) -> Option<SemaphorePermit<'_>> {
        if patient {
            self.listeners_identifying.acquire().await.ok()
        } else {
            self.identifying.try_acquire().ok()
        }
    }

    /// Answers a request for a path that [`Api::owns`]. The request's extensions carry the [`Caller`]; without one
    /// it is anonymous. Never fails: any error becomes a problem document. The answer has a `Content-Length`, also
    /// to HEAD, where its body is empty; only streams have none.
    pub async fn call(&self, request: Request<Body>) -> Response<Body> {
        let Some(operation) = self.paths.operation(request.uri().path()) else {
            return finish(
                Problem::NotFound.into_response(),
                request.method() == Method::HEAD,
            );
        };
        let is_head = request.method() == Method::HEAD;
        let reader = self.cors.reader(operation, request.headers());
        let preflight = self
            .cors
            .preflight(operation, request.method(), request.headers());
        let response = match preflight {
            Some(response) => response,
            None => self.answer(operation, request).await,
        };
        let labels = [operation.label(), status_class(response.status())];
        self.metrics.api_requests.with_label_values(&labels).inc();
        let mut response = finish(with_methods(operation, response), is_head);
        self.cors.let_read(operation, reader, response.headers_mut());
        response
    }

    /// The answer to a request for a path that [`Api::owns`] and that is refused before it gets to [`Api::call`];
    /// `None` if the path is the app's.
    pub fn refuse(&self, path: &str, headers: &HeaderMap, status: StatusCode) -> Option<Response<Body>> {
        let operation = self.paths.operation(path)?;
        let problem = match status {
            StatusCode::METHOD_NOT_ALLOWED => Problem::MethodNotAllowed,
            StatusCode::PAYLOAD_TOO_LARGE => Problem::TooLarge,
            StatusCode::INTERNAL_SERVER_ERROR => Problem::Internal,
            StatusCode::SERVICE_UNAVAILABLE => Problem::Unavailable,
            status => Problem::Refused(status),
        };
        let mut response = finish(with_methods(operation, problem.into_response()), false);
        let reader = self.cors.reader(operation, headers);
        self.cors.let_read(operation, reader, response.headers_mut());
        Some(response)
    }

    async fn answer(&self, operation: Operation, request: Request<Body>) -> Response<Body> {
        let live = self.live.as_ref().filter(|_| operation.is_live());
        let reader = live.and_then(|live| StreamReader::of(&request, live));
        let response = self.dispatch(operation, request).await;
        match reader {
            Some(reader) => reader.understands(response),
            None => response,
        }
    }

    async fn dispatch(&self, operation: Operation, request: Request<Body>) -> Response<Body> {
        let answered = async {
            let place = if operation.is_live() {
                self.opening.acquire().await.ok()
            } else {
                self.in_flight.try_acquire().ok()
            };
            if place.is_none() {
                return Problem::Unavailable.into_response();
            }
            match self.router.clone().oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        };
        match tokio::time::timeout(self.timeout, answered).await {
            Ok(response) => response,
            Err(_elapsed) => {
                tracing::warn!(api.timeout = ?self.timeout, "a visitors API answer took too long");
                Problem::Unavailable.into_response()
            }
        }
    }
}

/// One route per operation and form of its path.
fn router(paths: &Paths, shared: Shared) -> Router {
    let mut router = Router::new();
    for operation in paths.operations() {
        let methods = match operation {
            Operation::List => get(visitors::list),
            Operation::Count => get(visitors::count),
            Operation::Stats => get(stats::stats),
            Operation::Live => get(live::live),
            Operation::Counts => get(visitors::counts),
            Operation::LiveOfMany => get(live::live_of_many),
            Operation::Visits => post(visits::report),
            Operation::Widget => get(widget::script),
            Operation::Contract => get(openapi::contract),
        }
        .fallback(async || Problem::MethodNotAllowed);
        for pattern in paths.patterns(operation) {
            router = router.route(&pattern, methods.clone());
        }
    }
    router
        .fallback(async || Problem::NotFound)
        .with_state(Arc::new(shared))
}

/// Sets `Allow` on a refused method.
fn with_methods(operation: Operation, mut response: Response<Body>) -> Response<Body> {
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        let methods = HeaderValue::from_static(operation.methods());
        response.headers_mut().insert(ALLOW, methods);
    }
    response
}

/// Sets headers that every answer has.
fn finish(mut response: Response<Body>, is_head: bool) -> Response<Body> {
    let length = response.body().size_hint().exact();
    let is_open = response.extensions().get::<Opening>().is_some();
    let no_content = matches!(
        response.status(),
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
    );
    let headers = response.headers_mut();
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if !headers.contains_key(VARY) {
            headers.insert(VARY, HeaderValue::from_static("Cookie"));
        }
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if is_open || no_content {
        // The router sets one for an empty body.
        headers.remove(CONTENT_LENGTH);
        return response;
    }
    if let (Some(length), false) = (length, headers.contains_key(CONTENT_LENGTH)) {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    if is_head {
        *response.body_mut() = Body::empty();
    }
    response
}

fn status_class(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}
