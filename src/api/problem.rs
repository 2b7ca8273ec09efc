//! Error answers of the API: problem documents (RFC 9457) with fixed texts.
//!
//! A client is never told the cause. The cause is logged once, where it becomes a [`Problem`].

use std::borrow::Cow;
use std::error::Error;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_VERSION, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::config::KeyScope;
use crate::presence::PresenceError;
use crate::store::StoreError;

/// Seconds that a client is asked to wait after a 503, after a 429, and after a 401 of a session that may appear.
const RETRY_AFTER_SECONDS: (&str, &str, &str) = ("2", "10", "1");

/// Why a request is not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    /// The request cannot be understood; the sentence says what is allowed.
    BadRequest(Cow<'static, str>),
    /// A session is needed and there is none.
    Unauthorized,
    /// The same, of a session that is so new that its row may still come: the same question may be answered soon.
    NotYetAuthorized,
    /// The request has a key that is not accepted, whatever the reason.
    UnknownKey,
    /// The server's key has not this scope.
    OutOfScope(KeyScope),
    /// It is of the whole site, and the server's key is limited to some communities.
    LimitedKey,
    /// It is for visitors, and not for servers with a key.
    NotForServers,
    /// The server's key asks too often; it may again after so many seconds.
    TooOften(u64),
    /// The request comes from a page that is not the site's (I6).
    ForeignOrigin,
    /// Not there, or not for this caller: the two look the same (I9).
    NotFound,
    /// A user who was not there, does not exist, or is shown to nobody: these look the same.
    NoSuchVisitor,
    /// Who is on the site, where that is shown to nobody who asks like this.
    NobodyShown,
    /// Another format than JSON is asked for.
    NoSuchFormat,
    /// Another method is needed. `Allow` is set by [`super::Api::call`].
    MethodNotAllowed,
    /// Neither an event stream nor a `WebSocket` was asked for.
    NotAcceptable,
    /// The body is too large.
    TooLarge,
    /// The body is of another type.
    UnsupportedMediaType,
    /// A `WebSocket` of another version was asked for.
    UpgradeRequired,
    /// Too many connections or requests of one user or address.
    TooMany,
    /// Something the answer needs is away, too slow, or busy.
    Unavailable,
    /// The app's tables have nothing to answer it from.
    NotImplemented,
    /// An inconsistency: a mistake in the configuration or the code.
    Internal,
    /// The request was refused before it reached the API.
    Refused(StatusCode),
}

/// A problem document.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemDocument {
    /// Kind of problem; `about:blank` means that the status says it all.
    #[serde(rename = "type")]
    #[schema(example = "about:blank")]
    kind: &'static str,
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// One sentence for people. Its wording may change.
    detail: Cow<'static, str>,
}

impl Problem {
    /// The problem for a failed read of the app's tables, which it logs.
    pub(super) fn from_store(error: &StoreError) -> Self {
        let cause: &dyn Error = error;
        if matches!(error, StoreError::NoEvents) {
            // The configuration says so: nothing is wrong.
            Self::NotImplemented
        } else if matches!(error, StoreError::Unavailable(_)) {
            tracing::warn!(cause, "the visitors API cannot reach the app's database");
            Self::Unavailable
        } else {
            tracing::error!(cause, "the visitors API cannot read the app's tables");
            Self::Internal
        }
    }

    /// The problem for a failed read of presence, which it logs unless it was a grant that is being written again.
    pub(super) fn from_presence(error: &PresenceError) -> Self {
        let cause: &dyn Error = error;
        match error {
            PresenceError::Unavailable(_) => {
                tracing::warn!(cause, "the visitors API cannot reach presence");
                Self::Unavailable
            }
            // For a few seconds after each loss, which is logged where it is made good.
            PresenceError::GrantLost => Self::Unavailable,
            PresenceError::Unexpected(_) | PresenceError::Community => {
                tracing::error!(cause, "the visitors API cannot read presence");
                Self::Internal
            }
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized | Self::NotYetAuthorized | Self::UnknownKey => StatusCode::UNAUTHORIZED,
            Self::ForeignOrigin | Self::OutOfScope(_) | Self::LimitedKey | Self::NotForServers => {
                StatusCode::FORBIDDEN
            }
            Self::NotFound | Self::NoSuchVisitor | Self::NobodyShown | Self::NoSuchFormat => {
                StatusCode::NOT_FOUND
            }
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::UpgradeRequired => StatusCode::UPGRADE_REQUIRED,
            Self::TooMany | Self::TooOften(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Refused(status) => *status,
        }
    }

    fn detail(self) -> Cow<'static, str> {
        match self {
            Self::BadRequest(detail) => detail,
            Self::Unauthorized | Self::NotYetAuthorized => "Sign in to see this.".into(),
            Self::UnknownKey => "The key is not known, or no longer valid.".into(),
            Self::OutOfScope(scope) => format!("The key needs the scope \"{}\".", scope.name()).into(),
            Self::LimitedKey => "The key is for some communities only.".into(),
            Self::NotForServers => "Only visitors may do this, with a session.".into(),
            Self::TooOften(_) => "The key asks too often. Try again later.".into(),
            Self::ForeignOrigin => "Only the site's own pages may ask this.".into(),
            Self::NotFound => "There is no such community, or you may not see it.".into(),
            Self::NoSuchVisitor => {
                "There was no such visitor in the community in these days, or you may not see who it was."
                    .into()
            }
            Self::NobodyShown => "Who is on the site is not shown.".into(),
            Self::NoSuchFormat => "There is no other format than JSON.".into(),
            Self::MethodNotAllowed => "Method not allowed.".into(),
            Self::NotAcceptable => "Ask with Accept: text/event-stream, or upgrade to a WebSocket.".into(),
            Self::TooLarge => "The body is too large.".into(),
            Self::UnsupportedMediaType => "Send JSON, as application/json or text/plain.".into(),
            Self::UpgradeRequired => "Only version 13 of the WebSocket protocol is spoken.".into(),
            Self::TooMany => "Too many at a time. Try again later.".into(),
            Self::Unavailable => "This cannot be answered right now. Try again soon.".into(),
            Self::NotImplemented => "There are no statistics: this site keeps no page views.".into(),
            Self::Internal => "Internal error.".into(),
            Self::Refused(_) => "The request is not one that can be answered.".into(),
        }
    }

    /// The answer.
    pub(super) fn document(self) -> Response<Bytes> {
        let status = self.status();
        let is_not_yet = self == Self::NotYetAuthorized;
        let (challenge, wait) = (self.challenge(), self.wait());
        let document = ProblemDocument {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: self.detail(),
        };
        // Numbers and text always serialise; otherwise the body would be empty.
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match status {
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS.0));
            }
            StatusCode::TOO_MANY_REQUESTS => {
                let wait = wait.unwrap_or(HeaderValue::from_static(RETRY_AFTER_SECONDS.1));
                headers.insert(RETRY_AFTER, wait);
            }
            StatusCode::UNAUTHORIZED if is_not_yet => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS.2));
            }
            StatusCode::UPGRADE_REQUIRED => {
                headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            _ => {}
        }
        if let Some(challenge) = challenge {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }

    /// What a server is told of its key (RFC 6750, 3).
    fn challenge(&self) -> Option<HeaderValue> {
        Some(HeaderValue::from_static(match self {
            Self::UnknownKey => "Bearer error=\"invalid_token\"",
            Self::OutOfScope(KeyScope::Counts) => "Bearer error=\"insufficient_scope\", scope=\"counts\"",
            Self::OutOfScope(KeyScope::Identities) => {
                "Bearer error=\"insufficient_scope\", scope=\"identities\""
            }
            _ => return None,
        }))
    }

    /// Seconds after which the same request may be answered, where they are known.
    fn wait(&self) -> Option<HeaderValue> {
        match self {
            Self::TooOften(seconds) => Some((*seconds).into()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a9_what_is_to_be_written_once_more_is_no_error_of_the_servers() {
        let problem = Problem::from_presence(&PresenceError::GrantLost);
        assert_eq!(problem.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
