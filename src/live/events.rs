//! Serves a live connection as Server-Sent Events.

use std::future::poll_fn;
use std::task::Poll;

use super::close::{Close, End};
use super::connection::{Connection, Socket, forget};
use super::mailbox::Letter;
use super::message::{self, Framing};
use super::slots::Slots;

/// Most bytes that a client may send, although the protocol has no use for any.
const MAX_NOISE: usize = 1_024;

enum Event {
    Letter(Letter),
    /// Bytes came; 0 if the client has closed its side.
    Noise(std::io::Result<usize>),
}

/// Serves the connection until its end.
pub(super) async fn serve(connection: &mut Connection, mut socket: impl Socket, framing: Framing) -> End {
    match talk(connection, &mut socket, framing).await {
        End::Told(close) => {
            // From now on the keeper limits the time that closing may take.
            connection.mailbox.close(close);
            if say_goodbye(connection, &mut socket, framing, close).await.is_ok() {
                connection.linger(&mut socket).await;
            }
            End::Told(close)
        }
        end => end,
    }
}

async fn talk(connection: &mut Connection, socket: &mut impl Socket, framing: Framing) -> End {
    // One write: the reconnect hint, the snapshots, and the unknown communities.
    let mut beginning = message::retry_event(connection.live.retry_after());
    let mut values = 0;
    while let Some(update) = connection.mailbox.with_slots(Slots::take) {
        values += 1;
        beginning += &message::numbered(&update);
    }
    for asked in std::mem::take(&mut connection.unknown) {
        beginning += &message::event(&message::unknown(&asked, &connection.live.keys));
    }
    let mut sent = connection.write(socket, framing.piece(&beginning)).await;
    let mut noise = 0;
    loop {
        match sent {
            Ok(()) => connection.count_sent(std::mem::take(&mut values)),
            Err(end) => return end,
        }
        let event = poll_fn(|context| {
            if let Poll::Ready(read) = forget(socket, context) {
                return Poll::Ready(Event::Noise(read));
            }
            connection.mailbox.poll(context, true).map(Event::Letter)
        });
        let bytes = match event.await {
            Event::Noise(Ok(read)) if read > 0 && noise + read <= MAX_NOISE => {
                noise += read;
                continue;
            }
            Event::Noise(_) => return End::Gone,
            Event::Letter(Letter::Count(update)) => {
                values = 1;
                update.event(framing)
            }
            Event::Letter(Letter::Ping) => framing.piece(message::HEARTBEAT),
            Event::Letter(Letter::Lost(lost)) => {
                if let Err(close) = connection.lose(&lost) {
                    return End::Told(close);
                }
                let unknown = lost
                    .iter()
                    .map(|lost| message::event(&message::unknown(lost.as_str(), &connection.live.keys)));
                framing.piece(&unknown.collect::<String>())
            }
            Event::Letter(Letter::Close(close)) => return End::Told(close),
            Event::Letter(Letter::End(end)) => return end,
        };
        sent = connection.write(socket, bytes).await;
    }
}

async fn say_goodbye(
    connection: &Connection,
    socket: &mut impl Socket,
    framing: Framing,
    close: Close,
) -> Result<(), End> {
    let last = message::last_event(close, connection.live.retry_after());
    connection.write(socket, framing.piece(&last)).await?;
    connection.write(socket, framing.end()).await
}
