//! One live connection: the parts that `WebSocket`s and event streams share.

use std::collections::HashSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use super::caps::Place;
use super::close::{Close, End};
use super::door::{Denied, Door};
use super::mailbox::Mailbox;
use super::{Inner, Kind, MAX_COMMUNITIES, events, websocket};
use crate::ids::CommunityId;
use crate::key_type::AppKeys;
use crate::metrics::IntGauge;

/// Longest wait for the door's decision, in case it does not keep its own limit.
const ADMISSION: Duration = Duration::from_secs(30);
/// Bytes that are read and discarded while closing, so that the client reads the close message instead of getting
/// a reset.
const LINGER: usize = 64 * 1024;

/// An admitted connection. Dropping it ends it.
pub struct Connection {
    pub(super) live: Arc<Inner>,
    pub(super) id: u64,
    pub(super) kind: Kind,
    pub(super) mailbox: Arc<Mailbox>,
    /// Sent once, at the beginning.
    pub(super) unknown: Vec<String>,
    door: Arc<dyn Door>,
    /// How it ended; `None` if it was never run.
    end: Option<End>,
    _place: Place,
}

/// A socket.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

impl Connection {
    pub(super) fn new(
        live: Arc<Inner>,
        id: u64,
        kind: Kind,
        mailbox: Arc<Mailbox>,
        unknown: Vec<String>,
        door: Arc<dyn Door>,
        place: Place,
    ) -> Self {
        Self {
            live,
            id,
            kind,
            mailbox,
            unknown,
            door,
            end: None,
            _place: place,
        }
    }

    /// Its protocol.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Writes `head`, the rest of the response's head, to the socket, and serves the connection until either side
    /// ends it. `early` was read from the socket already.
    #[expect(private_bounds, reason = "a short name for four bounds")]
    pub async fn run<S: Socket>(mut self, mut socket: S, head: Bytes, early: Vec<u8>) {
        self.gauge().inc();
        // The default until the end is known.
        self.end = Some(End::Gone);
        let end = match self.write(&mut socket, head).await {
            Err(end) => end,
            Ok(()) => match self.kind {
                Kind::WebSocket => websocket::serve(&mut self, socket, early).await,
                Kind::Events(framing) => events::serve(&mut self, socket, framing).await,
            },
        };
        self.end = Some(end);
    }

    fn gauge(&self) -> &IntGauge {
        &self.live.metrics.connections[self.kind.label()]
    }

    /// Subscribes to these communities, which must be in the mailbox already.
    pub(super) fn listen_to(&self, communities: &[CommunityId]) {
        for community in communities {
            self.live.hub.subscribe(self.id, &self.mailbox, community);
        }
    }

    /// The client unsubscribes from communities, each in any of its spellings.
    pub(super) fn unsubscribe(&self, asked: &[String]) {
        for asked in asked {
            let community = self.live.keys.community(asked);
            if self.mailbox.with_slots(|slots| slots.contains(&community)) {
                self.leave(&community);
            }
        }
    }

    /// Unsubscribes from a community.
    pub(super) fn leave(&self, community: &CommunityId) {
        self.mailbox.with_slots(|slots| slots.remove(community));
        self.live.hub.unsubscribe(self.id, community);
        self.live.seats.left(self.id, community);
    }

    /// The client subscribes to more communities; returns those that do not exist or that it may not see.
    pub(super) async fn subscribe(&self, asked: Vec<String>) -> Result<Vec<String>, Close> {
        let known = self.mailbox.communities();
        let asked = unknown_among(asked, &known, &self.live.keys);
        if known.len() + asked.len() > MAX_COMMUNITIES {
            return Err(Close::TooMany);
        }
        let session = self.live.seats.session(self.id);
        let admitted = timeout(ADMISSION, self.door.admit(session, &asked)).await;
        let admitted = match admitted {
            Ok(Ok(admitted)) => admitted,
            Ok(Err(Denied::NoSession)) => return Err(Close::SessionEnded),
            Ok(Err(Denied::Unavailable)) | Err(_) => return Err(Close::Unavailable),
        };
        let mut unknown = Vec::new();
        for (asked, community) in asked.into_iter().zip(admitted) {
            match community {
                None => unknown.push(asked),
                Some(community) => {
                    if self.mailbox.with_slots(|slots| slots.add(community.clone())) {
                        self.live.hub.subscribe(self.id, &self.mailbox, &community);
                    }
                }
            }
        }
        if !unknown.is_empty() && self.mailbox.communities().is_empty() {
            return Err(Close::Unknown);
        }
        Ok(unknown)
    }

    /// Access to communities was lost. An error if none is left.
    pub(super) fn lose(&self, lost: &[CommunityId]) -> Result<(), Close> {
        for community in lost {
            self.leave(community);
        }
        if self.mailbox.communities().is_empty() {
            return Err(Close::Unknown);
        }
        Ok(())
    }

    pub(super) fn heard(&self) {
        self.mailbox.note_heard(self.live.seats.tick());
    }

    /// Counts sent values.
    pub(super) fn count_sent(&self, values: u64) {
        self.live.metrics.messages[self.kind.label()].inc_by(values);
    }

    /// Runs I/O, unless the connection is ended meanwhile.
    pub(super) async fn guarded<T, E>(
        &self,
        mut io: impl FnMut(&mut Context<'_>) -> Poll<Result<T, E>>,
    ) -> Result<T, End> {
        poll_fn(|context| match io(context) {
            Poll::Ready(result) => {
                self.mailbox.note_flowing();
                Poll::Ready(result.map_err(|_| End::Gone))
            }
            Poll::Pending => {
                self.mailbox.note_stuck(self.live.seats.tick());
                self.mailbox.poll_ended(context).map(Err)
            }
        })
        .await
    }

    /// Writes all bytes.
    pub(super) async fn write(&self, socket: &mut impl Socket, mut bytes: Bytes) -> Result<(), End> {
        while !bytes.is_empty() {
            let write = |context: &mut Context<'_>| pin(socket).poll_write(context, &bytes);
            let written = self.guarded(write).await?;
            if written == 0 {
                return Err(End::Gone);
            }
            bytes.advance(written);
        }
        self.guarded(|context| pin(socket).poll_flush(context)).await
    }

    /// Shuts down this side of the socket, and waits until the client has closed its own.
    pub(super) async fn linger(&self, socket: &mut impl Socket) {
        if self
            .guarded(|context| pin(socket).poll_shutdown(context))
            .await
            .is_err()
        {
            return;
        }
        let mut forgotten = 0;
        while forgotten < LINGER {
            match self.guarded(|context| forget(socket, context)).await {
                Ok(read) if read > 0 => forgotten += read,
                _ => return,
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for community in self.mailbox.communities() {
            self.live.hub.unsubscribe(self.id, &community);
        }
        self.live.seats.remove(self.id);
        if let Some(end) = self.end {
            self.gauge().dec();
            self.live.metrics.closed[end.label()].inc();
        }
    }
}

/// The requested communities that are not among the known ones, each once, whatever the spelling.
fn unknown_among(asked: Vec<String>, known: &[CommunityId], keys: &AppKeys) -> Vec<String> {
    let mut meant: HashSet<CommunityId> = known.iter().cloned().collect();
    let is_new = |asked: &String| meant.insert(keys.community(asked));
    asked.into_iter().filter(is_new).collect()
}

/// Reads and discards bytes; 0 at the end.
pub(super) fn forget(socket: &mut impl Socket, context: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
    let mut bytes = [0; 512];
    let mut buffer = ReadBuf::new(&mut bytes);
    pin(socket)
        .poll_read(context, &mut buffer)
        .map_ok(|()| buffer.filled().len())
}

fn pin<S: Unpin>(socket: &mut S) -> std::pin::Pin<&mut S> {
    std::pin::Pin::new(socket)
}
