//! Serves a live connection as a `WebSocket`. The library does the framing; messages and closing are handled here.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message, Utf8Bytes};

use super::close::{Close, End};
use super::connection::{Connection, Socket};
use super::credit::Credit;
use super::mailbox::Letter;
use super::message::{self, MAX_MESSAGE, Request, Update};
use super::metered::{Metered, is_too_much};
use super::slots::Slots;
use crate::ids::CommunityId;
use crate::rate_limit::Bucket;

/// Most messages of any kind that a client may send at once, and then one each …
const BURST: u32 = 30;
/// … period.
const EACH: Duration = Duration::from_millis(500);
/// Small: there are many connections, and clients send little.
const READ_BUFFER: usize = 256;

enum Event {
    Letter(Letter),
    /// A subscription was looked up: the unknown ids, or the close reason.
    Subscribed(Result<Vec<String>, Close>),
    /// `None` if the connection has ended.
    Received(Option<Result<Message, Error>>),
}

/// Serves the connection until its end. `early` was read from the socket already.
pub(super) async fn serve(connection: &mut Connection, socket: impl Socket, early: Vec<u8>) -> End {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let socket = Metered::new(socket);
    let config = Some(config);
    let mut socket = WebSocketStream::from_partially_read(socket, early, Role::Server, config).await;
    match talk(connection, &mut socket).await {
        End::Told(close) => {
            // From now on the keeper limits the time that closing may take.
            connection.mailbox.close(close);
            if say_goodbye(connection, &mut socket, close).await.is_ok() {
                connection.linger(&mut socket.get_mut().socket).await;
            }
            End::Told(close)
        }
        end => end,
    }
}

async fn talk<S: Socket>(connection: &mut Connection, socket: &mut WebSocketStream<Metered<S>>) -> End {
    let mut bucket = Bucket::new(BURST, EACH, Instant::now().into_std());
    let mut credit = Credit::default();
    // The snapshots first.
    let mut sent = Ok(());
    while let Some(update) = connection.mailbox.with_slots(Slots::take)
        && sent.is_ok()
    {
        sent = send_count(connection, socket, &update).await;
    }
    for asked in std::mem::take(&mut connection.unknown) {
        if sent.is_ok() {
            sent = send(
                connection,
                socket,
                Message::text(message::unknown(&asked, &connection.live.keys)),
            )
            .await;
        }
    }
    let connection = &*connection;
    let mut requests = Requests::default();
    loop {
        if let Err(end) = sent {
            return end;
        }
        let event = poll_fn(|context| {
            if let Poll::Ready(subscribed) = requests.poll(context) {
                return Poll::Ready(Event::Subscribed(subscribed));
            }
            if requests.have_room()
                && let Poll::Ready(received) = socket.poll_next_unpin(context)
            {
                return Poll::Ready(Event::Received(received));
            }
            let letter = connection.mailbox.poll(context, credit.is_left());
            letter.map(Event::Letter)
        });
        sent = match event.await {
            Event::Letter(Letter::Count(update)) => {
                let sent = send_count(connection, socket, &update).await;
                if credit.sent() && sent.is_ok() {
                    credit.asked();
                    ping(connection, socket).await
                } else {
                    sent
                }
            }
            Event::Letter(Letter::Ping) => {
                credit.asked();
                ping(connection, socket).await
            }
            Event::Letter(Letter::Lost(lost)) => match connection.lose(&lost) {
                Ok(()) => tell_unknown(connection, socket, lost.iter().map(CommunityId::as_str)).await,
                Err(close) => Err(End::Told(close)),
            },
            Event::Letter(Letter::Close(close)) | Event::Subscribed(Err(close)) => return End::Told(close),
            Event::Letter(Letter::End(end)) => return end,
            Event::Subscribed(Ok(unknown)) => {
                // Messages that came meanwhile may still be unread.
                connection.heard();
                requests.next(connection);
                tell_unknown(connection, socket, unknown.iter().map(String::as_str)).await
            }
            Event::Received(None) => return End::Gone,
            Event::Received(Some(Err(error))) => return end_of(&error),
            Event::Received(Some(Ok(received))) => {
                connection.heard();
                let is_answer = received.is_pong() && credit.answered();
                if is_answer || bucket.take(Instant::now().into_std()) {
                    request_in(received).map(|request| {
                        requests.waiting = request;
                        requests.next(connection);
                    })
                } else {
                    Err(End::Told(Close::TooOften))
                }
            }
        };
    }
}

/// Requests that are not done yet. While one is looked up, which may take a while, the connection continues: it is
/// read until there is another request, and no further.
#[derive(Default)]
struct Requests<'a> {
    /// Rare and large, so it is boxed rather than part of every connection's memory.
    underway: Option<BoxFuture<'a, Result<Vec<String>, Close>>>,
    waiting: Option<Request>,
}

impl<'a> Requests<'a> {
    fn have_room(&self) -> bool {
        self.waiting.is_none()
    }

    /// Starts the pending request, if its turn has come.
    fn next(&mut self, connection: &'a Connection) {
        if self.underway.is_some() {
            return;
        }
        match self.waiting.take() {
            Some(Request::Subscribe(asked)) => self.underway = Some(Box::pin(connection.subscribe(asked))),
            Some(Request::Unsubscribe(asked)) => connection.unsubscribe(&asked),
            None => {}
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Vec<String>, Close>> {
        let Some(underway) = &mut self.underway else {
            return Poll::Pending;
        };
        let done = ready!(underway.poll_unpin(context));
        self.underway = None;
        Poll::Ready(done)
    }
}

/// The request in a message. The library answers pings; the answer to a close frame is sent by the next poll.
fn request_in(received: Message) -> Result<Option<Request>, End> {
    match received {
        Message::Text(said) => match Request::parse(&said) {
            Some(request) => Ok(Some(request)),
            None => Err(End::Told(Close::Malformed)),
        },
        Message::Binary(_) => Err(End::Told(Close::Binary)),
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => Ok(None),
    }
}

async fn tell_unknown<S: Socket>(
    connection: &Connection,
    socket: &mut WebSocketStream<Metered<S>>,
    unknown: impl Iterator<Item = &str>,
) -> Result<(), End> {
    for asked in unknown {
        send(
            connection,
            socket,
            Message::text(message::unknown(asked, &connection.live.keys)),
        )
        .await?;
    }
    Ok(())
}

/// Sends the close frame, and waits for the client's.
async fn say_goodbye<S: Socket>(
    connection: &Connection,
    socket: &mut WebSocketStream<Metered<S>>,
    close: Close,
) -> Result<(), End> {
    if close.invites_back() {
        let retry = message::retry(connection.live.retry_after());
        send(connection, socket, Message::text(retry)).await?;
    }
    let frame = CloseFrame {
        code: CloseCode::from(close.code()),
        reason: Utf8Bytes::from_static(close.reason()),
    };
    send(connection, socket, Message::Close(Some(frame))).await?;
    // After an error the library reads no more; what is still on its way is then discarded unread.
    while let Some(received) = connection
        .guarded(|context| socket.poll_next_unpin(context).map(Ok::<_, ()>))
        .await?
    {
        if received.is_err() {
            break;
        }
    }
    Ok(())
}

async fn send_count<S: Socket>(
    connection: &Connection,
    socket: &mut WebSocketStream<Metered<S>>,
    update: &Update,
) -> Result<(), End> {
    send(connection, socket, text(update.text())).await?;
    connection.count_sent(1);
    Ok(())
}

async fn ping<S: Socket>(
    connection: &Connection,
    socket: &mut WebSocketStream<Metered<S>>,
) -> Result<(), End> {
    send(connection, socket, Message::Ping(Bytes::new())).await
}

async fn send<S: Socket>(
    connection: &Connection,
    socket: &mut WebSocketStream<Metered<S>>,
    message: Message,
) -> Result<(), End> {
    connection
        .guarded(|context| socket.poll_ready_unpin(context))
        .await?;
    socket.start_send_unpin(message).map_err(|_| End::Gone)?;
    connection
        .guarded(|context| socket.poll_flush_unpin(context))
        .await
}

/// Serialised by us, so it is UTF-8.
fn text(bytes: Bytes) -> Message {
    Message::Text(Utf8Bytes::try_from(bytes).unwrap_or_default())
}

fn end_of(error: &Error) -> End {
    use tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;
    match error {
        Error::Protocol(ResetWithoutClosingHandshake) => End::Gone,
        Error::Protocol(_) => End::Told(Close::Protocol),
        Error::Utf8(_) => End::Told(Close::NotUtf8),
        Error::Capacity(_) => End::Told(Close::TooLong),
        Error::Io(error) if is_too_much(error) => End::Told(Close::TooOften),
        _ => End::Gone,
    }
}
