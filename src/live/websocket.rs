//! A connection that speaks `WebSocket`. Framing is the library's; what is here is what to say, and how to end.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message, Utf8Bytes};

use super::bucket::Bucket;
use super::close::{Close, End};
use super::connection::{Connection, Socket};
use super::credit::Credit;
use super::mailbox::Letter;
use super::message::{self, MAX_MESSAGE, Request};
use super::slots::Slots;
use crate::ids::CommunityId;

/// Messages of any kind that a client may send at once, and then one each …
const BURST: u32 = 30;
/// … time.
const EACH: Duration = Duration::from_millis(500);
/// Small: there are many connections, and clients have little to say.
const READ_BUFFER: usize = 256;

enum Event {
    Letter(Letter),
    /// Nothing where the connection has ended.
    Received(Option<Result<Message, Error>>),
}

/// Serves it until its end.
pub(super) async fn serve(connection: &mut Connection, socket: impl Socket) -> End {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let mut socket = WebSocketStream::from_raw_socket(socket, Role::Server, Some(config)).await;
    match talk(connection, &mut socket).await {
        End::Told(close) => {
            // What is left of its time is the keeper's to give.
            connection.mailbox.close(close);
            if say_goodbye(connection, &mut socket, close).await.is_ok() {
                connection.linger(socket.get_mut()).await;
            }
            End::Told(close)
        }
        end => end,
    }
}

async fn talk<S: Socket>(connection: &mut Connection, socket: &mut WebSocketStream<S>) -> End {
    let mut bucket = Bucket::new(BURST, EACH, Instant::now().into_std());
    let mut credit = Credit::default();
    // The snapshots first.
    let mut sent = Ok(());
    while let Some(update) = connection.mailbox.with_slots(Slots::take)
        && sent.is_ok()
    {
        connection.count_sent();
        sent = send(connection, socket, text(update.text())).await;
    }
    for asked in std::mem::take(&mut connection.unknown) {
        if sent.is_ok() {
            sent = send(connection, socket, Message::text(message::unknown(&asked))).await;
        }
    }
    loop {
        if let Err(end) = sent {
            return end;
        }
        let event = poll_fn(|context| {
            if let Poll::Ready(received) = socket.poll_next_unpin(context) {
                return Poll::Ready(Event::Received(received));
            }
            let letter = connection.mailbox.poll(context, credit.is_left());
            letter.map(Event::Letter)
        });
        sent = match event.await {
            Event::Letter(Letter::Count(update)) => {
                connection.count_sent();
                let sent = send(connection, socket, text(update.text())).await;
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
            Event::Letter(Letter::Close(close)) => return End::Told(close),
            Event::Letter(Letter::End(end)) => return end,
            Event::Received(None) => return End::Gone,
            Event::Received(Some(Err(error))) => return end_of(&error),
            Event::Received(Some(Ok(received))) => {
                connection.heard();
                let is_answer = received.is_pong() && credit.answered();
                if is_answer || bucket.take(Instant::now().into_std()) {
                    // Rare and large: not a part of every connection's memory.
                    Box::pin(received_message(connection, socket, received)).await
                } else {
                    Err(End::Told(Close::TooOften))
                }
            }
        };
    }
}

async fn received_message<S: Socket>(
    connection: &Connection,
    socket: &mut WebSocketStream<S>,
    received: Message,
) -> Result<(), End> {
    let said = match received {
        Message::Text(said) => said,
        Message::Binary(_) => return Err(End::Told(Close::Binary)),
        // The library answers pings; the answer to a close frame is sent by the next look for more.
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => return Ok(()),
    };
    match Request::parse(&said) {
        None => Err(End::Told(Close::Malformed)),
        Some(Request::Subscribe(asked)) => {
            let unknown = connection.subscribe(asked).await.map_err(End::Told)?;
            tell_unknown(connection, socket, unknown.iter().map(String::as_str)).await
        }
        Some(Request::Unsubscribe(asked)) => {
            for id in asked {
                connection.leave(&id.as_str().into());
            }
            Ok(())
        }
    }
}

async fn tell_unknown<S: Socket>(
    connection: &Connection,
    socket: &mut WebSocketStream<S>,
    unknown: impl Iterator<Item = &str>,
) -> Result<(), End> {
    for asked in unknown {
        send(connection, socket, Message::text(message::unknown(asked))).await?;
    }
    Ok(())
}

/// The last word, and the client's answer to it.
async fn say_goodbye<S: Socket>(
    connection: &Connection,
    socket: &mut WebSocketStream<S>,
    close: Close,
) -> Result<(), End> {
    if close.invites_back() {
        let retry = message::retry(connection.retry_after());
        send(connection, socket, Message::text(retry)).await?;
    }
    let frame = CloseFrame {
        code: CloseCode::from(close.code()),
        reason: Utf8Bytes::from_static(close.reason()),
    };
    send(connection, socket, Message::Close(Some(frame))).await?;
    // After an error the library reads no more; what is still on its way is then forgotten unread.
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

async fn ping<S: Socket>(connection: &Connection, socket: &mut WebSocketStream<S>) -> Result<(), End> {
    send(connection, socket, Message::Ping(Bytes::new())).await
}

async fn send<S: Socket>(
    connection: &Connection,
    socket: &mut WebSocketStream<S>,
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

/// Made by us, so it is UTF-8.
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
        _ => End::Gone,
    }
}
