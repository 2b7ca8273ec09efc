//! Live connections over `WebSocket`. The library does the framing and answers pings.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message, Utf8Bytes};

use super::close::{Close, End};
use super::credit::Credit;
use super::message::{self, MAX_MESSAGE, Request};
use super::metered::{Metered, is_too_much};
use super::transport::{Outgoing, Socket, Transport, linger};
use crate::rate_limit::Bucket;

/// Most messages of any kind that a client may send at once, and then one each …
const BURST: u32 = 30;
/// … period.
const EACH: Duration = Duration::from_millis(500);
/// Small: there are many connections, and clients send little.
const READ_BUFFER: usize = 256;

/// A `WebSocket`.
pub(super) struct WebSocket<S> {
    socket: WebSocketStream<Metered<S>>,
    is_flushed: bool,
    /// Limits the messages that the client sends.
    messages: Bucket,
    /// Limits the values that the client is sent.
    credit: Credit,
}

impl<S: Socket> WebSocket<S> {
    /// After the handshake. `early` was read from the socket already.
    pub(super) async fn new(socket: S, early: Vec<u8>) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let socket = Metered::new(socket);
        Self {
            socket: WebSocketStream::from_partially_read(socket, early, Role::Server, Some(config)).await,
            is_flushed: true,
            messages: Bucket::new(BURST, EACH, Instant::now().into_std()),
            credit: Credit::default(),
        }
    }

    fn queue(&mut self, message: Message) -> Result<(), End> {
        self.is_flushed = false;
        self.socket.start_send_unpin(message).map_err(|_| End::Gone)
    }

    fn ping(&mut self) -> Result<(), End> {
        self.credit.asked();
        self.queue(Message::Ping(Bytes::new()))
    }

    async fn send_close(&mut self, close: Close, retry_after: Duration) -> Result<(), Error> {
        if close.invites_back() {
            self.socket
                .feed(Message::text(message::retry(retry_after)))
                .await?;
        }
        let frame = CloseFrame {
            code: CloseCode::from(close.code()),
            reason: Utf8Bytes::from_static(close.reason()),
        };
        self.socket.send(Message::Close(Some(frame))).await
    }
}

impl<S: Socket> Transport for WebSocket<S> {
    fn send(&mut self, message: Outgoing<'_>) -> Result<(), End> {
        match message {
            Outgoing::Value(update) => {
                self.queue(text(update.text()))?;
                if self.credit.sent() {
                    self.ping()?;
                }
                Ok(())
            }
            Outgoing::Json(text) => self.queue(Message::text(text)),
            Outgoing::Ping => self.ping(),
        }
    }

    fn takes_values(&self) -> bool {
        self.credit.is_left()
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, End>> {
        if !self.is_flushed {
            ready!(self.socket.poll_flush_unpin(context)).map_err(|_| End::Gone)?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(true))
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Request>, End>> {
        let received = match ready!(self.socket.poll_next_unpin(context)) {
            None => return Poll::Ready(Err(End::Gone)),
            Some(Err(error)) => return Poll::Ready(Err(end_of(&error))),
            Some(Ok(received)) => received,
        };
        let is_answer = received.is_pong() && self.credit.answered();
        Poll::Ready(if is_answer || self.messages.take(Instant::now().into_std()) {
            request_in(received)
        } else {
            Err(End::Closed(Close::TooOften))
        })
    }

    async fn close(&mut self, close: Close, retry_after: Duration) {
        if self.send_close(close, retry_after).await.is_ok() {
            // After an error the library reads no more; what is still on its way is then discarded unread.
            while let Some(Ok(_)) = self.socket.next().await {}
            linger(&mut self.socket.get_mut().socket).await;
        }
    }
}

/// The request in a message. The answer to a close frame is sent by the next read.
fn request_in(received: Message) -> Result<Option<Request>, End> {
    match received {
        Message::Text(said) => match Request::parse(&said) {
            Some(request) => Ok(Some(request)),
            None => Err(End::Closed(Close::Malformed)),
        },
        Message::Binary(_) => Err(End::Closed(Close::Binary)),
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => Ok(None),
    }
}

/// Serialised by us, so it is UTF-8.
fn text(bytes: Bytes) -> Message {
    Message::Text(Utf8Bytes::try_from(bytes).unwrap_or_default())
}

fn end_of(error: &Error) -> End {
    use tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;
    match error {
        Error::Protocol(ResetWithoutClosingHandshake) => End::Gone,
        Error::Protocol(_) => End::Closed(Close::Protocol),
        Error::Utf8(_) => End::Closed(Close::NotUtf8),
        Error::Capacity(_) => End::Closed(Close::TooLong),
        Error::Io(error) if is_too_much(error) => End::Closed(Close::TooOften),
        _ => End::Gone,
    }
}
