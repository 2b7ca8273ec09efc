//! Live connections over Server-Sent Events.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::AsyncWriteExt as _;

use super::close::{Close, End};
use super::message::{self, Framing, Request};
use super::transport::{Outgoing, Socket, Transport, linger, poll_discard};

/// Most bytes that a client may send, although the protocol has no use for any.
const MAX_RECEIVED: usize = 1_024;

/// An event stream.
pub(super) struct EventStream<S> {
    socket: S,
    framing: Framing,
    /// What is not written yet.
    unwritten: Bytes,
    is_flushed: bool,
    /// Bytes that the client has sent.
    received: usize,
}

impl<S: Socket> EventStream<S> {
    /// A stream that begins with the rest of the response's head, and with how long to wait before reconnecting.
    pub(super) fn new(socket: S, framing: Framing, head: Bytes, retry_after: Duration) -> Self {
        let mut stream = Self {
            socket,
            framing,
            unwritten: head,
            is_flushed: true,
            received: 0,
        };
        stream.push(framing.piece(&message::retry_event(retry_after)));
        stream
    }

    fn push(&mut self, piece: Bytes) {
        self.unwritten = if self.unwritten.is_empty() {
            piece
        } else {
            [&*self.unwritten, &*piece].concat().into()
        };
    }
}

impl<S: Socket> Transport for EventStream<S> {
    fn send(&mut self, message: Outgoing<'_>) -> Result<(), End> {
        self.push(match message {
            Outgoing::Value(update) => update.event(self.framing),
            Outgoing::Json(text) => self.framing.piece(&message::event(&text)),
            Outgoing::Ping => self.framing.piece(message::HEARTBEAT),
        });
        Ok(())
    }

    /// Nothing is acknowledged in an event stream; its send buffer is small.
    fn takes_values(&self) -> bool {
        true
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, End>> {
        let socket = Pin::new(&mut self.socket);
        if !self.unwritten.is_empty() {
            let written = ready!(socket.poll_write(context, &self.unwritten));
            return Poll::Ready(match written {
                Ok(0) | Err(_) => Err(End::Gone),
                Ok(written) => {
                    self.unwritten.advance(written);
                    self.is_flushed = false;
                    Ok(false)
                }
            });
        }
        if !self.is_flushed {
            ready!(socket.poll_flush(context)).map_err(|_| End::Gone)?;
            self.is_flushed = true;
            // Shared with other connections.
            self.unwritten = Bytes::new();
        }
        Poll::Ready(Ok(true))
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Request>, End>> {
        let read = ready!(poll_discard(&mut self.socket, context)).unwrap_or(0);
        self.received += read;
        Poll::Ready(if read > 0 && self.received <= MAX_RECEIVED {
            Ok(None)
        } else {
            Err(End::Gone)
        })
    }

    async fn close(&mut self, close: Close, retry_after: Duration) {
        let last = self.framing.piece(&message::last_event(close, retry_after));
        let last = [&*last, &*self.framing.end()].concat();
        if self.socket.write_all(&last).await.is_ok() && self.socket.flush().await.is_ok() {
            linger(&mut self.socket).await;
        }
    }
}
