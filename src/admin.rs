//! The admin listener: metrics and health, for operators and machines. Loopback by default; it needs no
//! sign-in and shows no visitor.

mod listener;

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::get;
use axum::serve::IncomingStream;
use axum::{Extension, Router};
use serde::Deserialize;
use tokio::net::TcpListener;
use tower::service_fn;

use crate::config;
use crate::explain;
use crate::metrics::Metrics;
use crate::page_view::Policy;
use crate::reload::SharedRoutes;
use crate::shutdown::{InFlight, Shutdown};

use listener::Leaving;

/// What the admin listener shows.
#[derive(Clone)]
pub struct Admin {
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// How long a page view may wait on disk before somebody should look.
    pub patience: Duration,
    /// For `/routes/test`.
    pub routes: SharedRoutes,
    /// For `/routes/test`.
    pub policy: Policy,
    /// For `/routes/test`.
    pub api: config::Api,
    /// For `/readyz`: whether the site's listeners accept connections.
    pub serving: Arc<AtomicBool>,
    /// For `/readyz`.
    pub shutdown: Shutdown,
    /// Another process has the listening socket: nothing more is accepted, and connections end with their next
    /// answer.
    pub handed_over: Shutdown,
    /// Where connections are counted, so that the end can wait for them.
    pub in_flight: InFlight,
}

impl Admin {
    /// Serves until the process ends, or, but for connections that are open, until the hand-over.
    pub async fn serve(self, listener: TcpListener) {
        let in_flight = self.in_flight.clone();
        let listener = Leaving::new(listener, self.handed_over.clone());
        let router = Router::new()
            .route("/", get(async || Html(INDEX)))
            .route("/metrics", get(metrics))
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .route("/routes/test", get(test_route))
            .layer(middleware::from_fn_with_state(self.clone(), end_connection))
            .with_state(self);
        // Lives as long as the connection.
        let per_connection = service_fn(move |_: IncomingStream<'_, Leaving>| {
            let counted = Arc::new(in_flight.connect());
            ready(Ok::<_, Infallible>(router.clone().layer(Extension(counted))))
        });
        if let Err(error) = axum::serve(listener, per_connection).await {
            tracing::error!(error = %error, "the admin listener ended");
        }
    }
}

/// What there is.
const INDEX: &str = r#"<!doctype html>
<html lang="en"><title>Headcount</title>
<meta name="viewport" content="width=device-width"><style>body { font: 1rem/1.6 sans-serif; margin: 2rem }</style>
<h1>Headcount</h1>
<ul>
<li><a href="/metrics">/metrics</a> for Prometheus
<li><a href="/livez">/livez</a>, <a href="/readyz">/readyz</a>
</ul>
<form action="/routes/test"><label>What becomes of <input name="url" placeholder="/communities/42/"></label>
<button>?</button></form>
"#;

/// Tells a client of a process that has handed over to come back to the other one.
async fn end_connection(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if admin.handed_over.has_started() {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let format = (header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
    ([format], admin.metrics.render()).into_response()
}

/// Ready while the site is served: the site comes first, so a database or Redis that is away shows in the
/// text and does not take the sidecar out of rotation.
async fn readyz(State(admin): State<Admin>) -> Response {
    if admin.shutdown.has_started() {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response();
    }
    if admin.handed_over.has_started() {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "handed over to another process\n",
        )
            .into_response();
    }
    if !admin.serving.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response();
    }
    let mut text = String::from("ok\n");
    for line in degraded(&admin.metrics, admin.patience.as_secs_f64()) {
        text.push_str("degraded: ");
        text.push_str(&line);
        text.push('\n');
    }
    if admin.metrics.session_listener_up.get() == 0 {
        text.push_str(
            "degraded: changes of sessions are not heard of; sign-outs are noticed within session.cache_ttl\n",
        );
    }
    text.into_response()
}

/// What an operator must act on, one line each.
fn degraded(metrics: &Metrics, patience: f64) -> Vec<String> {
    let writes = metrics.spool_up.get() >= 0;
    let (age, letters) = (metrics.spool_oldest_age.get(), metrics.dead_letters.get());
    let partitions = metrics.redis_partitions_down.get();
    [
        (
            metrics.database_up.get() == 0,
            "the database does not answer; page views wait in the spool".to_owned(),
        ),
        (
            metrics.spool_up.get() == 0,
            "the spool cannot be written; page views wait in memory, then are dropped".to_owned(),
        ),
        (
            writes && metrics.spool_bytes.get() >= metrics.spool_limit_bytes.get(),
            "the spool is full; page views are dropped until the database takes them".to_owned(),
        ),
        (
            metrics.ledger_ok.get() == 0,
            "the ledger is not in order and page views wait; see `headcount check`".to_owned(),
        ),
        (
            age > patience,
            format!("page views have waited for the database for {age:.0} s"),
        ),
        (
            letters > 0.0,
            format!("the database refused {letters:.0} page views; see `headcount dead-letters list`"),
        ),
        (
            metrics.redis_up.get() == 0,
            "redis does not answer; only visitors that this sidecar saw itself are known".to_owned(),
        ),
        (
            partitions > 0 && metrics.redis_up.get() == 1,
            format!(
                "the redis servers of {partitions} partitions do not answer; of their communities only visitors that \
                 this sidecar saw itself are known"
            ),
        ),
    ]
    .into_iter()
    .filter_map(|(holds, line)| holds.then_some(line))
    .collect()
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
        &admin.api,
        &query.url,
        method,
    ) {
        Ok(text) => text.into_response(),
        Err(problem) => (StatusCode::BAD_REQUEST, format!("{problem}\n")).into_response(),
    }
}
