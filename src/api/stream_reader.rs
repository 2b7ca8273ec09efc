//! Adapts answers to a browser's `EventSource`.
//!
//! By the standard it gives up for good at any status but 200. So a request that is refused only for now gets a
//! stream that ends at once and says when to reconnect.

use std::time::Duration;

use http::Response;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, VARY};
use http::request::Parts;

use super::{Body, handshake};
use crate::live::Live;

/// A client that asks for an event stream.
pub(super) struct StreamReader<'a> {
    live: &'a Live,
}

impl<'a> StreamReader<'a> {
    /// `None` if the request asks for something else.
    pub(super) fn of(request: &Parts, live: &'a Live) -> Option<Self> {
        handshake::asks_for_events(&request.method, &request.headers).then_some(Self { live })
    }

    /// The answer in the form that the client can handle.
    pub(super) fn understands(self, response: Response<Body>) -> Response<Body> {
        let mut response = match wait(&response) {
            Some(wait) => self.sent_away(wait),
            None => response,
        };
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(VARY, HeaderValue::from_static("Cookie, Accept, Origin"));
        response
    }

    /// The connection ends, too: during a hand-over, the next one leads to the new process.
    fn sent_away(&self, wait: Duration) -> Response<Body> {
        let mut response = Response::new(Body::Bytes(self.live.not_now(wait).into()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        response
    }
}

/// How long to wait, if the same request may succeed later.
fn wait(response: &Response<Body>) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    seconds.parse().ok().map(Duration::from_secs)
}
