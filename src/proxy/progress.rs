//! Progress of an exchange: state shared by the phases, the [`Front`](super::Front) and the client's socket.
//!
//! Pingora stands between them and passes none of it on: whether the head is complete, whether the request has been
//! read, how long the app has been silent, and what becomes of the socket.
//!
//! Concurrency: one task serves a connection, and it alone changes and reads the connection's progress, some thirty times in
//! an exchange. So what is simple are atomics without an order among them, which cost no more than plain memory, and only
//! what is seldom needed is behind a lock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use pingora_core::protocols::Stream;
use tokio::time::Instant;

use super::app_clock::AppClock;
use super::chunks::Chunks;
use super::live::LiveStart;

/// The exchange under way on one connection, and the socket once Pingora has released it.
#[derive(Default)]
pub(super) struct Progress {
    /// The head is complete, and the phases run.
    has_begun: Flag,
    /// Bytes followed the head in the same read.
    has_more: Flag,
    /// Bytes were received after the head.
    has_read_body: Flag,
    /// The whole request has been read: further bytes belong to the next one.
    is_read: Flag,
    /// The client asks for a tunnel: further bytes may belong to that, and are no request.
    asks_for_a_tunnel: Flag,
    /// The connection must end with the answer.
    is_last: Flag,
    /// Something was written to the client.
    is_answered: Flag,
    /// The answer was cut off before its end.
    is_broken_off: Flag,
    /// How long the app may be silent, while that is limited here.
    app: AppClock,
    /// The client waits for the app's answer before it sends its body.
    app_goes_first: Flag,
    /// The app has been silent for too long.
    app_was_late: Flag,
    /// The client has left before its head was complete.
    is_left_by_client: Flag,
    /// Whether [`Rest`] has chunks.
    has_chunks: Flag,
    /// Whether [`Rest`] has the start of a live connection.
    has_live: Flag,
    rest: Mutex<Rest>,
}

/// What few exchanges have, and few moments need.
#[derive(Default)]
struct Rest {
    /// Finds the end of a chunked body.
    chunks: Option<Chunks>,
    live: Option<LiveStart>,
    returned: Option<(Stream, BytesMut)>,
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Flag {
    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn put(&self, value: bool) {
        self.0.store(value, Ordering::Relaxed);
    }

    fn set(&self) {
        self.put(true);
    }
}

impl Progress {
    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts another exchange on the same connection.
    pub(super) fn renew(&self) {
        let flags = [
            &self.has_begun,
            &self.has_more,
            &self.has_read_body,
            &self.is_read,
            &self.asks_for_a_tunnel,
            &self.is_last,
            &self.is_answered,
            &self.is_broken_off,
            &self.app_goes_first,
            &self.app_was_late,
            &self.is_left_by_client,
            &self.has_chunks,
            &self.has_live,
        ];
        for flag in flags {
            flag.put(false);
        }
        self.app.renew();
        *self.rest() = Rest::default();
    }

    // Called by the phases.

    /// The head is complete. No bytes behind the end of a chunked body are handed out.
    pub(super) fn begin(&self, is_chunked: bool) {
        self.has_begun.set();
        self.has_chunks.put(is_chunked);
        if is_chunked {
            self.rest().chunks = Some(Chunks::default());
        }
    }

    /// The client asks for a tunnel. Bytes that it sends before it has one are not served as another request.
    pub(super) fn a_tunnel_is_asked_for(&self) {
        self.asks_for_a_tunnel.set();
        if self.has_more.is_set() {
            self.is_last.set();
        }
    }

    /// The whole request has been read.
    pub(super) fn is_read(&self) {
        self.is_read.set();
    }

    /// The request was sent to the app, which may be silent for `patience` at a time. `goes_first`: the client waits
    /// for the app (`Expect: 100-continue`). Returns whether it still does: not where it has begun to send its body.
    pub(super) fn app_was_asked(&self, patience: Duration, goes_first: bool) -> bool {
        let goes_first = goes_first && !self.has_read_body.is_set();
        self.app_goes_first.put(goes_first);
        self.app.may_take(Some(patience));
        goes_first
    }

    /// The app sent something.
    pub(super) fn app_spoke(&self) {
        self.app.restart();
    }

    /// The app asks for the body: the client no longer waits.
    pub(super) fn app_wants_the_body(&self) {
        self.app_goes_first.put(false);
    }

    /// The app may be silent for longer from now on.
    pub(super) fn app_may_take(&self, patience: Duration) {
        self.app.may_take(Some(patience));
    }

    /// The app's silence is no longer limited here.
    pub(super) fn stop_clock(&self) {
        self.app.may_take(None);
    }

    /// The connection is a tunnel from now on, to which all further bytes belong.
    pub(super) fn becomes_a_tunnel(&self) {
        self.stop_clock();
        self.is_read.put(false);
        self.is_last.put(false);
        self.has_chunks.put(false);
    }

    /// The answer is cut off.
    pub(super) fn break_off(&self) {
        self.is_broken_off.set();
    }

    /// The connection becomes a live one when Pingora gives the socket back.
    pub(super) fn leave(&self, start: LiveStart) {
        self.rest().live = Some(start);
        self.has_live.set();
    }

    /// Whether the app was silent for too long.
    pub(super) fn app_was_late(&self) -> bool {
        self.app_was_late.is_set()
    }

    // Called by the socket.

    /// The client's side has ended, or the connection broke. False before the head is complete: then the connection
    /// just ends, and no error is reported.
    pub(super) fn client_left(&self) -> bool {
        if !self.has_begun() {
            self.is_left_by_client.set();
        }
        self.has_begun()
    }

    /// Bytes were received from the client.
    pub(super) fn client_sent(&self) {
        if self.has_begun() {
            self.has_read_body.set();
        }
        self.app_goes_first.put(false);
        self.app.restart();
    }

    /// Bytes were written to the client.
    pub(super) fn client_took(&self) {
        self.is_answered.set();
        self.app.restart();
    }

    /// Everything written has been flushed.
    pub(super) fn client_flushed(&self) {
        self.app.restart();
    }

    /// Whether further bytes belong to the next request.
    pub(super) fn keeps_what_follows(&self) -> bool {
        self.is_read.is_set() || self.has_chunks.is_set() && self.chunks_are_over()
    }

    /// How many of these next bytes belong to this request; the rest belongs to the next one.
    pub(super) fn take(&self, bytes: &[u8]) -> usize {
        if !self.has_chunks.is_set() {
            return bytes.len();
        }
        let chunks = &mut self.rest().chunks;
        chunks.as_mut().map_or(bytes.len(), |chunks| chunks.take(bytes))
    }

    /// Bytes followed the head.
    pub(super) fn something_waits(&self) {
        self.has_more.set();
    }

    /// Bytes followed the request.
    pub(super) fn something_follows(&self) {
        if self.asks_for_a_tunnel.is_set() {
            self.is_last.set();
        }
    }

    /// When the app is late, while the app is what the exchange waits for.
    pub(super) fn app_is_late_at(&self) -> Option<Instant> {
        let is_waited_for = self.is_read.is_set() || self.app_goes_first.is_set();
        if is_waited_for {
            self.app.is_late_at()
        } else {
            None
        }
    }

    /// The app is late.
    pub(super) fn app_is_late(&self) {
        self.app_was_late.set();
    }

    /// Pingora has released the socket. `kept` was read from it and belongs to the next request.
    pub(super) fn give_back(&self, stream: Stream, kept: BytesMut) {
        self.rest().returned = Some((stream, kept));
    }

    // Called by the front.

    /// Ready when the client has left before its head was complete. Checked after each read.
    pub(super) fn poll_left(&self) -> Poll<()> {
        if self.is_left_by_client.is_set() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Whether the head is complete.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun.is_set()
    }

    /// Whether the connection may serve another request, once Pingora has released it. Not where this parser of chunks
    /// and Pingora's disagree on the body's end: a proxy in front may take the bytes behind it for a part of the body.
    pub(super) fn may_go_on(&self) -> bool {
        let ends_where_it_should = !self.has_chunks.is_set() || self.chunks_are_over();
        ends_where_it_should && !self.is_last()
    }

    /// Whether the connection serves no further request.
    pub(super) fn is_last(&self) -> bool {
        self.is_last.is_set() || self.has_live.is_set()
    }

    /// The live connection to start, its socket, and the bytes that were read from it and not used.
    pub(super) fn take_live(&self) -> Option<(LiveStart, Stream, BytesMut)> {
        let mut rest = self.rest();
        let start = rest.live.take()?;
        self.has_live.put(false);
        let (stream, kept) = rest.returned.take()?;
        Some((start, stream, kept))
    }

    /// The socket, if its last answer was written completely.
    pub(super) fn take_answered(&self) -> Option<Stream> {
        let is_whole = self.is_answered.is_set() && !self.is_broken_off.is_set();
        let (stream, _) = self.rest().returned.take()?;
        is_whole.then_some(stream)
    }

    fn chunks_are_over(&self) -> bool {
        self.rest().chunks.as_ref().is_none_or(Chunks::is_over)
    }
}
