//! Reported page views, which no proxy can see (V5): navigation within a single-page app.
//!
//! Checks that a page of the site sent the report, and its form. [`Intake`](crate::recorder::Intake) then decides
//! whether it counts, and records it, as for any other page view.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Response, StatusCode, Uri};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::ids::SessionToken;
use crate::rate_limit::Buckets;
use crate::recorder::Report;

use super::caller::Caller;
use super::metrics::ReportOutcome;
use super::origin::{self, RequestOrigin};
use super::problem::Problem;
use super::problem_responses::ReportProblems;
use super::{ApiState, Body, query};

/// Largest body.
pub const MAX_REPORT: usize = 8 * 1024;
/// Reports of one session at once; the configuration limits the rate after that.
const BURST: u32 = 10;
/// Sessions whose reports are rate-limited individually.
const CAPACITY: usize = 100_000;

/// What the page's script sends; at most 8 KiB of JSON.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Visit {
    /// The page: `location.href`, or its path. One of another site is refused.
    #[schema(pattern = "^(/(?!/)|[Hh][Tt][Tt][Pp][Ss]?://)", example = "/communities/42/")]
    url: String,
    /// The page before it.
    #[serde(default)]
    #[schema(example = "/")]
    referrer: Option<String>,
}

/// The rate limit of reports per session.
pub(super) struct Rate(Buckets<SessionToken>);

impl Rate {
    pub(super) fn new(per_minute: u32) -> Self {
        let each = Duration::from_secs(60) / per_minute.max(1);
        Self(Buckets::new(CAPACITY, BURST, each))
    }

    fn allows(&self, token: &SessionToken) -> bool {
        self.0.take(token, Instant::now())
    }
}

/// Report a page view that a proxy cannot see
///
/// For navigation within a single-page app, from a page of the site itself. Made for `navigator.sendBeacon`:
/// the JSON may come as `text/plain`. The view counts as if the page had been navigated to,
/// where its community is one that the caller may ask about; the answer does not tell.
#[utoipa::path(
    post,
    path = "/visits",
    tag = "reports",
    operation_id = "report_page_view",
    request_body(content((Visit = "application/json"), (Visit = "text/plain"))),
    responses((status = 204, description = "Accepted"), ReportProblems)
)]
pub(super) fn report(
    shared: &Arc<ApiState>,
    request: &Parts,
    caller: &Caller,
    body: &[u8],
) -> Result<Response<Body>, Problem> {
    let taken = match query::none(request.uri.query()) {
        Ok(()) => shared.report(&request.headers, caller, body),
        Err(problem) => Err(problem),
    };
    let outcome = match &taken {
        Ok(true) => ReportOutcome::Accepted,
        Ok(false) => ReportOutcome::NotCounted,
        Err(Problem::ForeignOrigin) => ReportOutcome::Origin,
        Err(Problem::Unauthorized) => ReportOutcome::Anonymous,
        Err(Problem::TooMany) => ReportOutcome::TooMany,
        Err(Problem::TooLarge) => ReportOutcome::TooLarge,
        Err(_) => ReportOutcome::Malformed,
    };
    shared.metrics.beacons[outcome].inc();
    taken?;
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

impl ApiState {
    /// Records a report. Returns whether it counts as far as is known now.
    fn report(self: &Arc<Self>, headers: &HeaderMap, caller: &Caller, body: &[u8]) -> Result<bool, Problem> {
        // Every browser sends the origin of a POST: a client without one is no browser.
        if origin::from(headers, caller, &[]) != RequestOrigin::Own {
            self.warn_of_foreign(headers, caller);
            return Err(Problem::ForeignOrigin);
        }
        let token = caller.token.as_ref().ok_or(Problem::Unauthorized)?;
        if body.len() > MAX_REPORT {
            return Err(Problem::TooLarge);
        }
        if !is_json(headers) {
            return Err(Problem::UnsupportedMediaType);
        }
        let visit: Visit = serde_json::from_slice(body).map_err(|_| {
            Problem::BadRequest("The body must be JSON: {\"url\": …, \"referrer\": …}.".into())
        })?;
        let target = target(&visit.url, headers, caller);
        let target = target.ok_or(Problem::BadRequest(
            "url must be a path, or an address of this site.".into(),
        ))?;
        if !self.reports.allows(token) {
            return Err(Problem::TooMany);
        }
        // Paths of the sidecar's own API are no pages (V4).
        let path = target.split_once('?').map_or(&*target, |(path, _)| path);
        if self.parse(path).is_some() {
            return Ok(false);
        }
        let report = Report {
            target: &target,
            referrer: visit.referrer.as_deref(),
            headers,
            token,
            client_ip: caller.address,
            at: caller.at,
            access_policy: self.access_policy(caller),
        };
        Ok(self.intake.record_report(report))
    }
}

/// `sendBeacon` sends a string as `text/plain`.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(CONTENT_TYPE) else {
        return true;
    };
    let media_type = content_type
        .to_str()
        .ok()
        .and_then(|value| value.split(';').next());
    media_type.is_some_and(|media_type| {
        ["application/json", "text/plain"]
            .iter()
            .any(|known| known.eq_ignore_ascii_case(media_type.trim()))
    })
}

/// Path and query of a page of the site; `None` for a URL of another origin.
fn target(url: &str, sent: &HeaderMap, caller: &Caller) -> Option<String> {
    if url.starts_with('/') {
        // With two slashes it would be a URL without a scheme.
        let path: PathAndQuery = url.parse().ok()?;
        return (!url.starts_with("//")).then(|| path.as_str().to_owned());
    }
    let url: Uri = url.parse().ok()?;
    if !origin::is_own(&url, sent, caller) {
        return None;
    }
    Some(url.path_and_query().map_or("/", PathAndQuery::as_str).to_owned())
}
