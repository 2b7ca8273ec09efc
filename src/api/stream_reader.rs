//! What a browser's `EventSource` needs of answers besides the stream itself.
//!
//! By the standard it gives up for good at any status but 200. So whoever is only refused for now gets a stream
//! that ends at once, and says when to come back.

use std::time::Duration;

use axum::body::Body;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, VARY};
use http::{Request, Response};

use super::handshake;
use crate::live::Live;

/// Somebody who asks for an event stream.
pub(super) struct StreamReader<'a> {
    live: &'a Live,
}

impl<'a> StreamReader<'a> {
    /// `None` if something else is asked for.
    pub(super) fn of(request: &Request<Body>, live: &'a Live) -> Option<Self> {
        handshake::asks_for_events(request.method(), request.headers()).then_some(Self { live })
    }

    /// The answer in a form that serves the reader.
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

    /// The connection ends, too: while a process hands over, the next one leads to its successor.
    fn sent_away(&self, wait: Duration) -> Response<Body> {
        let mut response = Response::new(Body::from(self.live.not_now(wait)));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        response
    }
}

/// How long to wait, where the same question may be answered later.
fn wait(response: &Response<Body>) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    seconds.parse().ok().map(Duration::from_secs)
}
