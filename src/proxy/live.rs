//! From an exchange to a live connection: the socket leaves Pingora, together with the head of the response.
//!
//! The exchange ends without having written anything, and as one whose connection is kept. Pingora then gives
//! the socket back to [`Front`](super::Front), with what was left for the next request: this. Bytes that the
//! client sent behind its handshake without waiting for the answer end the connection, in Pingora.

use std::fmt::Write as _;
use std::sync::PoisonError;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::response::Parts;
use pingora_core::protocols::Stream;
use pingora_core::protocols::l4::ext::set_snd_buf;
use pingora_proxy::Session;

use super::Ctx;
use crate::live::{Connection, Kind};

/// Bytes that the system takes from an event stream in advance, of which it makes twice as many and holds its own
/// records in, too. What it took cannot be replaced by something newer any more, and the reader of an event stream
/// does not say how far it is (L1).
const SEND_BUFFER: usize = 4 * 1024;

/// A live connection that waits for its socket.
pub(super) struct LiveStart {
    connection: Connection,
    head: Bytes,
}

impl LiveStart {
    /// Makes the exchange end in a way that the socket comes to [`LiveStart::run`].
    pub(super) fn leave(session: &mut Session, ctx: &mut Ctx, connection: Connection, head: &Parts) {
        // Any time will do: nobody waits for a next request.
        session.set_keepalive(Some(1));
        ctx.status = Some(head.status.as_u16());
        let start = Self {
            connection,
            head: written(head, ctx.at),
        };
        *ctx.live.get_mut().unwrap_or_else(PoisonError::into_inner) = Some(start);
    }

    /// What [`LiveStart::leave`] left.
    pub(super) fn take(ctx: &Ctx) -> Option<Self> {
        ctx.live.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Serves the connection to its end.
    pub(super) async fn run(self, stream: Stream) {
        if let Kind::Events(_) = self.connection.kind() {
            // A longer queue where this fails, and nothing else.
            let _ = set_snd_buf(stream.id(), SEND_BUFFER);
        }
        self.connection.run(stream, self.head).await;
    }
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
