//! Start of a live connection: takes the socket of an exchange away from Pingora. The exchange leaves a [`LiveStart`],
//! which [`Front`](super::Front) runs once it has the socket. It does not depend on whether the client asks for
//! keep-alive.
//!
//! The head of an event stream goes with the socket, to be written with the first events; bytes that a client sends
//! behind its request are ignored. The head of a `WebSocket` is written by Pingora, which then hands out what it has
//! read behind the handshake: a client may have sent messages already.

use std::fmt::Write as _;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::FutureExt as _;
use http::response::Parts;
use pingora_core::Result;
use pingora_core::protocols::Stream;
use pingora_core::protocols::l4::ext::set_snd_buf;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use crate::live::{Connection, Protocol};

/// Send buffer of an event stream: bytes that the kernel accepts in advance, of which it makes twice as many, for its
/// own records too. Accepted events can no longer be replaced by newer ones, and the reader of an event stream does not
/// report its position (L1).
const SEND_BUFFER: usize = 4 * 1024;
/// Upper bound of bytes that may come behind a handshake before it is answered: a few of the longest messages.
const MAX_EARLY: usize = 32 * 1024;

/// A live connection that waits for its socket.
pub(super) struct LiveStart {
    connection: Box<Connection>,
    /// Head that is not written yet.
    head: Bytes,
    /// Bytes that the client has sent already.
    early: Vec<u8>,
}

impl LiveStart {
    /// Answers a request, that came `at` that time, with a live connection. Once the exchange has ended,
    /// [`LiveStart::run`] gets its socket.
    ///
    /// # Errors
    /// The client has left.
    pub(super) async fn answer(
        session: &mut Session,
        at: DateTime<Utc>,
        connection: Box<Connection>,
        head: &Parts,
    ) -> Result<Self> {
        let mut start = Self {
            connection,
            head: Bytes::new(),
            early: Vec::new(),
        };
        match start.connection.kind() {
            Protocol::WebSocket => {
                upgrade(session, head).await?;
                while start.early.len() < MAX_EARLY
                    && let Some(Ok(Some(bytes))) = session.read_request_body().now_or_never()
                {
                    start.early.extend_from_slice(&bytes);
                }
            }
            Protocol::Events(_) => start.head = written(head, at),
        }
        Ok(start)
    }

    /// Serves the connection to its end. `unused` was read from `stream` beyond the request.
    pub(super) async fn run(mut self, stream: Stream, unused: &[u8]) {
        self.early.extend_from_slice(unused);
        if let Protocol::Events(_) = self.connection.kind() {
            // If this fails, the queue is longer; nothing else changes.
            let _ = set_snd_buf(stream.id(), SEND_BUFFER);
        }
        self.connection.run(stream, self.head, self.early).await;
    }
}

async fn upgrade(session: &mut Session, head: &Parts) -> Result<()> {
    let mut header = ResponseHeader::build(head.status, Some(head.headers.len()))?;
    for (name, value) in &head.headers {
        header.append_header(name, value)?;
    }
    session.write_response_header(Box::new(header), false).await
}

fn written(head: &Parts, now: DateTime<Utc>) -> Bytes {
    let mut text = format!(
        "HTTP/1.1 {} {}\r\nDate: {}\r\n",
        head.status.as_u16(),
        head.status.canonical_reason().unwrap_or_default(),
        now.format("%a, %d %b %Y %H:%M:%S GMT")
    );
    for (name, value) in &head.headers {
        // All of them are our own, and text.
        if let Ok(value) = value.to_str() {
            let _ = write!(text, "{name}: {value}\r\n");
        }
    }
    text.push_str("\r\n");
    text.into()
}
