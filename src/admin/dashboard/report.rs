//! `/dashboard.json`: the dashboard's data at one moment. Each number equals the metric of the same meaning, or
//! comes from presence.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::SHOWN;
use super::history::{Point, STEP};
use super::sampler::{PresenceSample, Sampler, Unknown};
use crate::admin::Metrics;
use crate::json::Seconds;
use crate::metrics::{Counter, Family, Gauge, IntGauge, LabelValue};
use crate::page_view::NotCounted;
use crate::recent_pages::RecentPage;
use crate::status::{Component, Status};

/// Everything that is shown.
#[derive(Debug, Serialize)]
pub(super) struct DashboardReport {
    pub(super) version: &'static str,
    pub(super) started_at: DateTime<Utc>,
    pub(super) now: DateTime<Utc>,
    /// As in `/readyz`.
    pub(super) state: &'static str,
    pub(super) degraded: Vec<String>,
    /// How long a visitor is present after the last page view.
    pub(super) window_seconds: Seconds,
    visitors: VisitorsReport,
    page_views: PageViewsReport,
    recent: Vec<Recent>,
    recording: RecordingReport,
    app: Service,
    redis: Service,
    database: Service,
    live_connections: Vec<Labelled<i64>>,
    sessions: Sessions,
    routes: RoutesReport,
}

#[derive(Debug, Serialize)]
struct VisitorsReport {
    /// "known", "unknown", "starting", or "off" where presence is not recorded.
    state: &'static str,
    as_of: Option<DateTime<Utc>>,
    /// Only visitors that this sidecar has seen itself are counted.
    stale: bool,
    /// On the whole site, each once; null where unknown.
    on_site: Option<u64>,
    /// The most of them at a time since midnight, UTC.
    peak_today: Option<u64>,
    /// Number of communities with visitors.
    occupied: usize,
    /// False if there are more communities than are read.
    all: bool,
    /// Time between two points of a line.
    step_seconds: u64,
    /// Most points that a line can have by now; a shorter one lacks the first.
    points: usize,
    communities: Vec<CommunityReport>,
}

#[derive(Debug, Serialize)]
struct CommunityReport {
    id: String,
    slug: Option<String>,
    visitors: u64,
    /// The last hour; null where unknown.
    line: Vec<Point>,
}

#[derive(Debug, Serialize)]
struct PageViewsReport {
    total: u64,
    /// Pages looked at by visitors who are not known.
    unrecognised: u64,
    /// Exchanges that are not page views, by reason.
    not_counted: Vec<Labelled<u64>>,
    per_second: f64,
    /// Per second, a point for each second.
    minute: Vec<f64>,
    /// Per second, a point for each step.
    step_seconds: u64,
    hour: Vec<f64>,
}

#[derive(Debug, Serialize)]
struct Recent {
    number: u64,
    at: DateTime<Utc>,
    path: Option<String>,
    route: Option<String>,
    page_type: Option<String>,
    community: Option<String>,
}

#[derive(Debug, Serialize)]
struct RecordingReport {
    dropped: Vec<Labelled<u64>>,
    queued: Vec<Labelled<f64>>,
    queued_bytes: f64,
    /// "up", "down", or "off" where nothing is written.
    spool: &'static str,
    spool_views: f64,
    spool_bytes: f64,
    spool_limit_bytes: f64,
    oldest_seconds: f64,
    last_apply: Option<DateTime<Utc>>,
    dead_letters: f64,
}

#[derive(Debug, Serialize)]
struct Labelled<N> {
    label: &'static str,
    value: N,
}

#[derive(Debug, Serialize)]
struct Service {
    /// "up", "down", or "off" where there is none.
    state: &'static str,
    since: DateTime<Utc>,
}

#[derive(Debug, Serialize)]
struct Sessions {
    lookups: Vec<Labelled<u64>>,
}

#[derive(Debug, Serialize)]
struct RoutesReport {
    count: i64,
    /// Whether the files were valid when they were last read.
    ok: bool,
    loaded_at: Option<DateTime<Utc>>,
}

/// The state of the process.
pub(super) struct ProcessReport {
    pub(super) started_at: DateTime<Utc>,
    pub(super) state: &'static str,
    /// Does not change any more.
    pub(super) status: Status,
    /// The problems that `status` shows.
    pub(super) degraded: Vec<String>,
    pub(super) window_seconds: Seconds,
}

impl DashboardReport {
    pub(super) fn new(process: ProcessReport, sampler: &Sampler) -> Self {
        let metrics = &sampler.metrics;
        let recent = sampler.recent.latest();
        let memory = sampler.memory();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            started_at: process.started_at,
            now: Utc::now(),
            state: process.state,
            degraded: process.degraded,
            window_seconds: process.window_seconds,
            visitors: VisitorsReport::of(sampler.presence.is_some(), &memory),
            page_views: PageViewsReport {
                total: metrics.views.counted.get(),
                unrecognised: unrecognised(metrics),
                not_counted: labelled(&metrics.views.not_counted, Counter::get),
                per_second: rounded(memory.views.now()),
                minute: memory.views.minute().into_iter().map(rounded).collect(),
                step_seconds: STEP.as_secs(),
                hour: memory.views.hour().into_iter().map(rounded).collect(),
            },
            recent: recent
                .iter()
                .map(|(number, page)| Recent::of(*number, page))
                .collect(),
            recording: RecordingReport::of(metrics, &process.status),
            app: Service::of(&process.status.app),
            redis: Service::of(&process.status.redis),
            database: Service::of(&process.status.database),
            live_connections: labelled(&metrics.live.connections, IntGauge::get),
            sessions: Sessions {
                lookups: labelled(&metrics.auth.lookups, Counter::get),
            },
            routes: RoutesReport {
                count: metrics.reload.routes.get(),
                ok: !process.status.routes.is_down(),
                loaded_at: time(metrics.reload.last_reload_success.get()),
            },
        }
    }
}

impl VisitorsReport {
    fn of(is_recorded: bool, memory: &super::sampler::Samples) -> Self {
        let nothing = |state| Self {
            state,
            as_of: None,
            stale: false,
            on_site: None,
            peak_today: None,
            occupied: 0,
            all: true,
            step_seconds: STEP.as_secs(),
            points: memory.history.points(),
            communities: Vec::new(),
        };
        let PresenceSample {
            as_of,
            stale,
            on_site,
            peak,
            all,
            counts,
        } = match &memory.reading {
            _ if !is_recorded => return nothing("off"),
            None => return nothing("starting"),
            Some(Err(Unknown)) => return nothing("unknown"),
            Some(Ok(reading)) => reading,
        };
        let community = |(id, visitors): &(crate::ids::CommunityId, u64)| CommunityReport {
            id: id.to_string(),
            slug: memory.slugs.get(id).and_then(Option::as_deref).map(str::to_owned),
            visitors: *visitors,
            line: memory.history.line(id),
        };
        Self {
            as_of: Some(*as_of),
            stale: *stale,
            on_site: Some(*on_site),
            peak_today: Some(*peak),
            occupied: counts.len(),
            all: *all,
            communities: counts.iter().take(SHOWN).map(community).collect(),
            ..nothing("known")
        }
    }
}

impl Recent {
    fn of(number: u64, page: &RecentPage) -> Self {
        let text = |text: &Option<std::sync::Arc<str>>| text.as_deref().map(str::to_owned);
        Self {
            number,
            at: page.at,
            path: page.path.clone(),
            route: text(&page.route),
            page_type: text(&page.page_type),
            community: page.community.as_ref().map(ToString::to_string),
        }
    }
}

impl RecordingReport {
    fn of(metrics: &Metrics, status: &Status) -> Self {
        let backlog = status.backlog();
        Self {
            dropped: labelled(&metrics.views.dropped, Counter::get),
            queued: labelled(&metrics.views.queued, Gauge::get),
            queued_bytes: metrics.views.queued_bytes.get(),
            spool: status.spool.condition().label(),
            spool_views: backlog.views,
            spool_bytes: backlog.bytes,
            spool_limit_bytes: backlog.limit_bytes,
            oldest_seconds: backlog.oldest_seconds,
            last_apply: time(metrics.writer.last_apply.get()),
            dead_letters: backlog.dead_letters,
        }
    }
}

impl Service {
    fn of(component: &Component) -> Self {
        let condition = component.condition();
        Self {
            state: condition.label(),
            since: condition.since,
        }
    }
}

fn unrecognised(metrics: &Metrics) -> u64 {
    let reasons = NotCounted::ALL.iter().filter(|reason| reason.is_of_the_visitor());
    reasons
        .map(|reason| metrics.views.not_counted[*reason].get())
        .sum()
}

fn labelled<M, L: LabelValue, N>(family: &Family<M, L>, value: impl Fn(&M) -> N) -> Vec<Labelled<N>> {
    let labelled = |(label, metric)| Labelled {
        label,
        value: value(metric),
    };
    family.iter().map(labelled).collect()
}

/// Converts a metric in Unix time; 0 means never.
#[expect(clippy::cast_possible_truncation, reason = "a time in milliseconds")]
fn time(unix: f64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis((unix * 1e3) as i64).filter(|_| unix > 0.0)
}

/// To thousandths: more is noise.
fn rounded(rate: f64) -> f64 {
    (rate * 1e3).round() / 1e3
}
