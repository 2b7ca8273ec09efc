//! From an exchange to a live connection: the socket leaves Pingora, and what the exchange leaves behind for
//! [`Front`](super::Front) takes it over. It does not depend on whether the client would have its connection kept.
//!
//! The head of an event stream goes with the socket, to be written with the first events; what a client sends behind its
//! request is of no interest. The head of a `WebSocket` is written by Pingora, which then gives out what it has read
//! behind the handshake: a client may have spoken already.

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

use super::Ctx;
use crate::live::{Connection, Kind};

/// Bytes that the system takes from an event stream in advance, of which it makes twice as many and holds its own
/// records in, too. What it took cannot be replaced by something newer any more, and the reader of an event stream
/// does not say how far it is (L1).
const SEND_BUFFER: usize = 4 * 1024;
/// Bytes that may come behind a handshake before it is answered: a few of the longest messages.
const MAX_EARLY: usize = 32 * 1024;

/// A live connection that waits for its socket.
pub(super) struct LiveStart {
    connection: Connection,
    /// Not written yet.
    head: Bytes,
    /// What the client has said already.
    early: Vec<u8>,
}

impl LiveStart {
    /// Makes the exchange end in a way that the socket comes to [`LiveStart::run`].
    ///
    /// # Errors
    /// The client is gone.
    pub(super) async fn leave(
        session: &mut Session,
        ctx: &mut Ctx,
        connection: Connection,
        head: &Parts,
    ) -> Result<()> {
        ctx.status = Some(head.status.as_u16());
        ctx.tunnel = true;
        let mut start = Self {
            connection,
            head: Bytes::new(),
            early: Vec::new(),
        };
        match start.connection.kind() {
            Kind::WebSocket => {
                upgrade(session, head).await?;
                while start.early.len() < MAX_EARLY
                    && let Some(Ok(Some(bytes))) = session.read_request_body().now_or_never()
                {
                    start.early.extend_from_slice(&bytes);
                }
            }
            Kind::Events(_) => start.head = written(head, ctx.at),
        }
        ctx.progress.leave(start);
        Ok(())
    }

    /// Serves the connection to its end. `unused` was read from `stream` beyond the request.
    pub(super) async fn run(mut self, stream: Stream, unused: &[u8]) {
        self.early.extend_from_slice(unused);
        if let Kind::Events(_) = self.connection.kind() {
            // A longer queue where this fails, and nothing else.
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
