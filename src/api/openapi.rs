//! The contract: an `OpenAPI` 3.1 document made from the handlers and the answers' types.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::IntoResponse;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use utoipa::{IntoResponses, OpenApi};

use super::Shared;
use super::paths::Paths;
use super::problem::{Problem, ProblemDocument};
use super::query;

/// The API as the handlers declare it, without the configured prefix.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Visitors",
        description = "Who is in which community right now. Every path also answers with a trailing slash, and \
                       those that are read, but for the live ones, to HEAD."
    ),
    paths(
        super::visitors::list,
        super::visitors::count,
        super::stats::stats,
        super::live::live,
        super::visitors::counts,
        super::live::live_of_many,
        super::visits::report,
        super::widget::script,
        contract
    ),
    components(schemas(ProblemDocument))
)]
struct Contract;

/// What every operation may answer instead.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only its derived description is used")]
pub(super) enum Problems {
    /// A query parameter is unknown, repeated, or out of range.
    #[response(status = 400, content_type = "application/problem+json")]
    BadRequest(ProblemDocument),
    /// A session is needed.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(ProblemDocument),
    /// There is no such community, or the caller may not see it.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(ProblemDocument),
    /// Only GET and HEAD are possible.
    #[response(status = 405, content_type = "application/problem+json")]
    MethodNotAllowed(ProblemDocument),
    /// Something is wrong on the server.
    #[response(status = 500, content_type = "application/problem+json")]
    Internal(ProblemDocument),
    /// Not now; `Retry-After` says when to try again.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(ProblemDocument),
}

/// What a live connection may be refused for besides.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only its derived description is used")]
pub(super) enum LiveProblems {
    /// The handshake comes from a page of another site.
    #[response(status = 403, content_type = "application/problem+json")]
    ForeignOrigin(ProblemDocument),
    /// Neither an event stream nor a `WebSocket` was asked for.
    #[response(status = 406, content_type = "application/problem+json")]
    NotAcceptable(ProblemDocument),
    /// A `WebSocket` of another version than 13 was asked for.
    #[response(status = 426, content_type = "application/problem+json")]
    UpgradeRequired(ProblemDocument),
    /// The user, or the address, has too many connections. Never for an event stream.
    #[response(status = 429, content_type = "application/problem+json")]
    TooMany(ProblemDocument),
}

/// What a report may be refused for.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only its derived description is used")]
pub(super) enum ReportProblems {
    /// Not JSON of this form, or the URL is of another site.
    #[response(status = 400, content_type = "application/problem+json")]
    BadRequest(ProblemDocument),
    /// There is no session cookie.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(ProblemDocument),
    /// The report does not come from a page of the site.
    #[response(status = 403, content_type = "application/problem+json")]
    ForeignOrigin(ProblemDocument),
    /// Only POST is possible.
    #[response(status = 405, content_type = "application/problem+json")]
    MethodNotAllowed(ProblemDocument),
    /// The body is too large.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(ProblemDocument),
    /// The body is neither `application/json` nor `text/plain`.
    #[response(status = 415, content_type = "application/problem+json")]
    UnsupportedMediaType(ProblemDocument),
    /// The session has reported too much.
    #[response(status = 429, content_type = "application/problem+json")]
    TooMany(ProblemDocument),
    /// Not now; `Retry-After` says when to try again.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(ProblemDocument),
}

/// This document
#[utoipa::path(
    get,
    path = "/visitors/openapi.json",
    responses((status = 200, description = "The contract", content_type = "application/json", body = Object))
)]
pub(super) async fn contract(
    State(shared): State<Arc<Shared>>,
    RawQuery(query): RawQuery,
) -> Result<impl IntoResponse, Problem> {
    query::none(query.as_deref())?;
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "public, max-age=300"),
    ];
    Ok((headers, shared.contract.clone()))
}

/// The document with the configured prefix.
pub(super) fn render(paths: &Paths) -> Bytes {
    let mut document = Contract::openapi();
    // The API is the site's; the crate's licence says nothing about it.
    document.info.license = None;
    // Only what is this sidecar's; the rest is the app's.
    document.paths.paths = std::mem::take(&mut document.paths.paths)
        .into_iter()
        .filter(|(template, _)| {
            paths
                .operations()
                .any(|operation| operation.template() == template)
        })
        .map(|(template, item)| (paths.documented(&template), item))
        .collect();
    // The document is plain data: serialising it does not fail.
    serde_json::to_vec(&document).unwrap_or_default().into()
}
