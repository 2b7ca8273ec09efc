//! The dashboard: one page for operators, without sign-in, that shows no visitor. It polls `/dashboard.json` each
//! second while it is visible: no connection stays open that a shutdown or a hand-over would have to wait for, and
//! after a hand-over the next poll reaches the new process.
//!
//! Page, script and styles are files of this source tree, hand-written, with no build step; they are part of the
//! binary, load nothing from elsewhere, and work under a policy that forbids inline scripts and styles.

mod history;
mod rates;
mod report;
mod sampler;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chrono::{DateTime, Utc};

use super::{Admin, Metrics};
use crate::communities::Communities;
use crate::json::Seconds;
use crate::presence::Presence;
use crate::recent_pages::RecentPages;
use crate::status::Status;
use crate::tasks::{Task, Tasks};
use report::{DashboardReport, ProcessReport};
use sampler::Sampler;

/// Communities shown.
const SHOWN: usize = 50;

/// The dashboard's data. A handle.
#[derive(Clone)]
pub struct Dashboard {
    sampler: Arc<Sampler>,
    started_at: DateTime<Utc>,
    window: Duration,
}

impl Dashboard {
    /// Starts the tasks that collect the data. `window` is the configured one; `presence` is `None` if it is not
    /// recorded.
    pub fn start(
        metrics: Metrics,
        presence: Option<Arc<dyn Presence>>,
        (recent, communities): (RecentPages, Arc<Communities>),
        window: Duration,
        tasks: &Tasks,
    ) -> Self {
        let watches_presence = presence.is_some();
        let sampler = Arc::new(Sampler::new(metrics, presence, recent, communities));
        tasks.keep(Task::DashboardCounters, {
            let sampler = Arc::clone(&sampler);
            move || Arc::clone(&sampler).read_counters()
        });
        if watches_presence {
            let sampler = Arc::clone(&sampler);
            tasks.keep(Task::DashboardPresence, move || {
                Arc::clone(&sampler).read_presence()
            });
        }
        Self {
            sampler,
            started_at: Utc::now(),
            window,
        }
    }

    fn report(&self, state: &'static str, status: Status, degraded: Vec<String>) -> DashboardReport {
        self.sampler.looked_at();
        let presence = self.sampler.presence.as_ref();
        let window = presence.map_or(self.window, |presence| presence.window_in_force(self.window));
        let process = ProcessReport {
            started_at: self.started_at,
            state,
            status,
            degraded,
            window_seconds: Seconds(window),
        };
        DashboardReport::new(process, &self.sampler)
    }
}

/// The page, its resources, and its data.
pub(super) fn router() -> Router<Admin> {
    Router::new()
        .route("/", get(async || html(include_str!("dashboard/page.html"))))
        .route(
            "/dashboard.js",
            get(async || file("text/javascript", include_str!("dashboard/page.js"))),
        )
        .route(
            "/dashboard.css",
            get(async || file("text/css", include_str!("dashboard/page.css"))),
        )
        .route(
            "/dashboard.svg",
            get(async || file("image/svg+xml", include_str!("dashboard/icon.svg"))),
        )
        .route("/dashboard.json", get(json))
}

async fn json(axum::extract::State(admin): axum::extract::State<Admin>) -> axum::Json<DashboardReport> {
    let status = admin.status.frozen();
    let degraded = admin.degraded(&status);
    axum::Json(admin.dashboard.report(admin.state(), status, degraded))
}

fn html(text: &'static str) -> Response {
    file("text/html", text)
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let kind = format!("{kind}; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}
