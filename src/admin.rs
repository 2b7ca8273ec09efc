//! The admin listener: dashboard, metrics and health, for operators and monitoring. Bound to loopback by default;
//! it needs no sign-in and shows no visitor.

mod dashboard;
mod health;
mod host;
mod listener;
mod metrics;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde::Deserialize;

use crate::config;
use crate::explain;
use crate::page_view::Policy;
use crate::reload::SharedRoutes;
use crate::shutdown::{InFlight, Shutdown};
use crate::status::Status;
use crate::tasks::Tasks;

pub use dashboard::Dashboard;
use health::Readiness;
pub use listener::SharedListener;
pub use metrics::Metrics;

/// What is configured for the admin listener.
#[derive(Clone)]
pub struct AdminSettings {
    /// Names, besides IP addresses and local ones, under which pages may be requested.
    pub hosts: Vec<String>,
    /// How long a page view may wait on disk before that counts as a problem.
    pub patience: Duration,
    /// For `/readyz`: whether it is 503 while no server of the app answers.
    pub waits_for_the_app: bool,
    /// For `/routes/test`.
    pub api: config::Api,
}

/// Dependencies of the admin listener.
#[derive(Clone)]
pub struct Admin {
    /// What is configured.
    pub settings: AdminSettings,
    /// For `/` and its resources.
    pub dashboard: Dashboard,
    /// For `/metrics`.
    pub metrics: Metrics,
    /// For problems of everything else.
    pub status: Status,
    /// For problems of tasks.
    pub tasks: Tasks,
    /// For `/routes/test`.
    pub routes: SharedRoutes,
    /// For `/routes/test`.
    pub policy: Arc<Policy>,
    /// For `/readyz`: whether the site's listeners accept connections.
    pub serving: Arc<AtomicBool>,
    /// For `/readyz`.
    pub shutdown: Shutdown,
    /// Set when another process has taken over the listening socket: no connections are accepted, and open ones
    /// end with their next answer.
    pub handed_over: Shutdown,
    /// Counts connections, so that shutdown can wait for them.
    pub in_flight: InFlight,
}

impl Admin {
    /// The readiness, as text.
    fn state(&self) -> &'static str {
        Readiness::of(self).text()
    }

    /// Problems that an operator must act on, one sentence each.
    fn degraded(&self, status: &Status) -> Vec<String> {
        let mut lines = health::degraded(status, self.settings.patience.as_secs_f64());
        lines.extend(self.tasks.degraded());
        lines
    }

    /// Serves until the process ends or, after a hand-over, until the open connections end.
    pub async fn serve(self, socket: SharedListener) {
        let (in_flight, leave) = (self.in_flight.clone(), self.handed_over.clone());
        let pages = dashboard::router()
            .route("/routes/test", get(test_route))
            .layer(middleware::from_fn_with_state(self.clone(), check_host));
        // Monitoring asks for these under any name.
        let machines = Router::new()
            .route("/metrics", get(render))
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .layer(middleware::from_fn_with_state(
                self.clone(),
                check_host_of_browsers,
            ));
        let router = Router::new()
            .merge(pages)
            .merge(machines)
            .layer(middleware::map_response(protect))
            .layer(middleware::from_fn_with_state(self.clone(), end_connection))
            .with_state(self);
        listener::serve(socket, router, in_flight, leave).await;
    }
}

/// Refuses requests for pages under another site's name.
async fn check_host(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST);
    // A header that is not text matches no name.
    let host = host.map(|host| host.to_str().unwrap_or("?.?"));
    if host::is_ours(host, &admin.settings.hosts) {
        return next.run(request).await;
    }
    let text = "this dashboard answers under an address, localhost, and the names in listen.admin_hosts\n";
    (StatusCode::MISDIRECTED_REQUEST, text).into_response()
}

/// The same for browsers only, recognised by their Fetch Metadata headers; scrapers and probes send none.
async fn check_host_of_browsers(state: State<Admin>, request: Request, next: Next) -> Response {
    if host::is_a_browsers(request.headers()) {
        check_host(state, request, next).await
    } else {
        next.run(request).await
    }
}

/// Restrictions for browsers: the page may load only the dashboard's own script and styles, nothing inline, and an
/// answer must not be cached, framed or read by another site.
const PROTECTION: [(HeaderName, HeaderValue); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
             form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ),
    ),
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

async fn protect(mut response: Response) -> Response {
    response.headers_mut().extend(PROTECTION);
    response
}

/// After a hand-over, closes the connection so that the client reconnects to the new process.
async fn end_connection(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if admin.handed_over.has_started() {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

async fn render(State(admin): State<Admin>) -> Response {
    let format = (header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
    ([format], admin.metrics.registry.render()).into_response()
}

/// Ready while the site is served: a database or Redis that is away is named in the text and does not take the
/// sidecar out of rotation, nor does the app, unless that is configured.
async fn readyz(State(admin): State<Admin>) -> Response {
    let readiness = Readiness::of(&admin);
    let mut text = format!("{}\n", readiness.text());
    if !matches!(readiness, Readiness::Ready | Readiness::NoApp) {
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    }
    for line in admin.degraded(&admin.status.frozen()) {
        text.push_str("degraded: ");
        text.push_str(&line);
        text.push('\n');
    }
    if readiness == Readiness::NoApp {
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    }
    text.into_response()
}

#[derive(Deserialize)]
struct TestRoute {
    url: String,
    #[serde(default)]
    method: Option<String>,
}

async fn test_route(State(admin): State<Admin>, Query(query): Query<TestRoute>) -> Response {
    let method = query.method.as_deref().unwrap_or("GET");
    match explain::explain(
        &admin.routes.load(),
        &admin.policy,
        &admin.settings.api,
        &query.url,
        method,
    ) {
        Ok(text) => text.into_response(),
        Err(problem) => (StatusCode::BAD_REQUEST, format!("{problem}\n")).into_response(),
    }
}
