//! The two protocols of live connections, as their task sees them: [`Transport`]. Each does its own framing and knows
//! nothing about counts, sessions or time.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::close::{Close, End};
use super::message::{Framing, Request, Update};
use super::metrics::KindLabel;

/// Bytes that are read and discarded while closing, so that the client reads the close message instead of getting
/// a reset.
const LINGER: usize = 64 * 1024;

/// The protocol of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `WebSocket`.
    WebSocket,
    /// Server-Sent Events.
    Events(Framing),
}

impl Protocol {
    /// The metric label.
    pub(super) fn label(self) -> KindLabel {
        match self {
            Self::WebSocket => KindLabel::WebSocket,
            Self::Events(_) => KindLabel::Events,
        }
    }
}

/// A socket.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

/// A message to the client.
pub(super) enum Outgoing<'a> {
    /// A count.
    Value(&'a Update),
    /// Another message, as JSON.
    Json(String),
    /// Asks for a sign of life, or gives one.
    Ping,
}

/// A protocol on a socket.
pub(super) trait Transport: Send {
    /// Queues a message, which [`Transport::poll_write`] writes. Callers write before they queue many.
    fn send(&mut self, message: Outgoing<'_>) -> Result<(), End>;

    /// Whether the client has acknowledged enough of the values that it was sent to be sent another.
    fn takes_values(&self) -> bool;

    /// Writes what is queued: true once nothing is left. Event streams tell of each part, with false; a `WebSocket` is
    /// pending until all is written.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, End>>;

    /// Reads what the client says, which may be a request. The error is how the connection ends.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Request>, End>>;

    /// Sends the close message, and waits until the client has closed its side. Callers limit the time.
    fn close(&mut self, close: Close, retry_after: Duration) -> impl Future<Output = ()> + Send;
}

/// Shuts down this side of the socket, and waits until the client has closed its own.
pub(super) async fn linger(socket: &mut impl Socket) {
    if socket.shutdown().await.is_err() {
        return;
    }
    let mut discarded = 0;
    while discarded < LINGER {
        match poll_fn(|context| poll_discard(socket, context)).await {
            Ok(read) if read > 0 => discarded += read,
            _ => return,
        }
    }
}

/// Reads and discards bytes; 0 at the end.
pub(super) fn poll_discard(socket: &mut impl Socket, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
    let mut bytes = [0; 512];
    let mut buffer = ReadBuf::new(&mut bytes);
    Pin::new(socket)
        .poll_read(context, &mut buffer)
        .map_ok(|()| buffer.filled().len())
}
