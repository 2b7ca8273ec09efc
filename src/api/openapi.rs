//! The contract: an `OpenAPI` 3.1 document generated from the handlers and the answers' types. `site` adds what
//! depends on the site's configuration.

mod site;

use bytes::Bytes;
use http::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use serde_json::Value;
use utoipa::{IntoResponses, OpenApi};

use super::paths::Paths;
use super::problem::{Problem, ProblemDocument};
use super::query;
use super::{Body, Shared};
use crate::config;

/// The API as the handlers declare it, without the configured prefix.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Visitors",
        description = "Who is in which community right now. Every path also answers with a trailing slash, and \
                       those that are read, but for the live ones, to HEAD. Query parameters that are not described are refused, \
                       and so is each that is given twice. Requests that are no HTTP, or larger than the site's limits, \
                       are answered 400, 408, 413 or 431 whatever the path. Answers may be read by pages of the site, and of \
                       the origins that the site allows, with the visitor's cookies (CORS)."
    ),
    tags(
        (name = "visitors", description = "Who is here now, and how many."),
        (name = "statistics", description = "Numbers over days."),
        (name = "live", description = "Counts, each time they change."),
        (name = "reports", description = "Page views that no proxy can see."),
        (name = "widget", description = "A count in a page."),
        (name = "contract", description = "This document."),
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
    components(schemas(ProblemDocument, super::visitors::AskedKey))
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
    /// There is no such community, or the caller may not see it; or another `format` than JSON is asked for.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(ProblemDocument),
    /// Another method is needed.
    #[response(status = 405, content_type = "application/problem+json")]
    MethodNotAllowed(ProblemDocument),
    /// Something is wrong on the server.
    #[response(status = 500, content_type = "application/problem+json")]
    Internal(ProblemDocument),
    /// Not now; `Retry-After` says when to try again.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(ProblemDocument),
}

/// What may be answered instead of a file that is the same for everybody.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only its derived description is used")]
pub(super) enum FileProblems {
    /// Another method is needed.
    #[response(status = 405, content_type = "application/problem+json")]
    MethodNotAllowed(ProblemDocument),
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
    /// Another `format` than JSON is asked for.
    #[response(status = 404, content_type = "application/problem+json")]
    NoSuchFormat(ProblemDocument),
    /// Another method is needed.
    #[response(status = 405, content_type = "application/problem+json")]
    MethodNotAllowed(ProblemDocument),
    /// The body did not come in time.
    #[response(status = 408, content_type = "application/problem+json")]
    Timeout(ProblemDocument),
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
    tag = "contract",
    operation_id = "contract",
    responses(
        (status = 200, description = "The contract", content_type = "application/json", body = Object),
        (status = 400, description = "There are no query parameters.", content_type = "application/problem+json",
            body = ProblemDocument),
        (status = 404, description = "Another `format` than JSON is asked for.",
            content_type = "application/problem+json", body = ProblemDocument),
        FileProblems
    )
)]
pub(super) fn contract(shared: &Shared, query: Option<&str>) -> Result<Response<Body>, Problem> {
    query::none(query)?;
    let mut response = Response::new(Body::Bytes(shared.contract.clone()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    Ok(response)
}

/// The document of a site with these settings. `cookie` is the session cookie's name.
pub(super) fn render(paths: &Paths, settings: &config::Api, cookie: &str) -> Bytes {
    let mut document = Contract::openapi();
    // The API is the site's; the crate's licence says nothing about it.
    document.info.license = None;
    // The document is plain data: serialising it does not fail.
    let mut document = serde_json::to_value(document).unwrap_or(Value::Null);
    site::fit(&mut document, paths, settings, cookie);
    serde_json::to_vec(&document).unwrap_or_default().into()
}
