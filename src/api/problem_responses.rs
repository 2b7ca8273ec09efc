//! The errors that operations may answer with, as the contract describes them. The handlers answer with `problem`.

use utoipa::IntoResponses;

use super::problem::ProblemDocument;

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
    /// What is asked for is not there, or the caller may not see it: `detail` says which, the community or the visitor; or
    /// another `format` than JSON is asked for.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(ProblemDocument),
    /// Another method is needed.
    #[response(status = 405, content_type = "application/problem+json")]
    MethodNotAllowed(ProblemDocument),
    /// Internal error.
    #[response(status = 500, content_type = "application/problem+json")]
    Internal(ProblemDocument),
    /// Temporarily unavailable; `Retry-After` says when to try again.
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
    /// Temporarily unavailable; `Retry-After` says when to try again.
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

/// What statistics may be answered with besides.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only its derived description is used")]
pub(super) enum StatisticsProblems {
    /// The site keeps no page views to make statistics of.
    #[response(status = 501, content_type = "application/problem+json")]
    NotImplemented(ProblemDocument),
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
    /// Temporarily unavailable; `Retry-After` says when to try again.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(ProblemDocument),
}
