//! Progress of an exchange: state shared by the phases, the [`Front`](super::Front) and the client's socket.
//!
//! Pingora stands between them and passes none of it on: whether the head is complete, whether the request has been
//! read, how long the app has been silent, and what becomes of the socket.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use pingora_core::protocols::Stream;
use tokio::time::Instant;

use super::chunks::Chunks;
use super::live::LiveStart;

/// The exchange under way on one connection, and the socket once Pingora has released it. The lock is held briefly, by
/// one task.
#[derive(Default)]
pub(super) struct Progress(Mutex<State>);

#[expect(
    clippy::struct_excessive_bools,
    reason = "facts that do not depend on each other"
)]
#[derive(Default)]
struct State {
    /// The head is complete, and the phases run.
    has_begun: bool,
    /// Bytes followed the head in the same read.
    has_more: bool,
    /// Bytes were received after the head.
    has_read_body: bool,
    /// Finds the end of a chunked body.
    chunks: Option<Chunks>,
    /// The whole request has been read: further bytes belong to the next one.
    is_read: bool,
    /// The client asks for a tunnel: further bytes may belong to that, and are no request.
    asks_for_a_tunnel: bool,
    /// The connection must end with the answer.
    is_last: bool,
    /// Something was written to the client.
    is_answered: bool,
    /// The answer was cut off before its end.
    is_broken_off: bool,
    /// How long the app may be silent, while that is limited here.
    patience: Option<Duration>,
    /// When the app has been silent for too long.
    app_is_late_at: Option<Instant>,
    /// The app's time begins when it is next waited for. There are many such moments in an exchange, and few waits.
    is_restarted: bool,
    /// The client waits for the app's answer before it sends its body.
    app_goes_first: bool,
    /// The app has been silent for too long.
    app_was_late: bool,
    /// The client has left before its head was complete.
    is_left_by_client: bool,
    live: Option<LiveStart>,
    returned: Option<(Stream, BytesMut)>,
}

impl Progress {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts another exchange on the same connection.
    pub(super) fn renew(&self) {
        *self.state() = State::default();
    }

    // Called by the phases.

    /// The head is complete. No bytes behind the end of a chunked body are handed out.
    pub(super) fn begin(&self, is_chunked: bool) {
        let mut state = self.state();
        state.has_begun = true;
        state.chunks = is_chunked.then(Chunks::default);
    }

    /// The client asks for a tunnel. Bytes that it sends before it has one are not served as another request.
    pub(super) fn a_tunnel_is_asked_for(&self) {
        let mut state = self.state();
        state.asks_for_a_tunnel = true;
        state.is_last |= state.has_more;
    }

    /// The whole request has been read.
    pub(super) fn is_read(&self) {
        self.state().is_read = true;
    }

    /// The request was sent to the app, which may be silent for `patience` at a time. `goes_first`: the client waits
    /// for the app (`Expect: 100-continue`). Returns whether it still does: not where it has begun to send its body.
    pub(super) fn app_was_asked(&self, patience: Duration, goes_first: bool) -> bool {
        let mut state = self.state();
        state.patience = Some(patience);
        state.app_goes_first = goes_first && !state.has_read_body;
        state.restart_clock();
        state.app_goes_first
    }

    /// The app sent something.
    pub(super) fn app_spoke(&self) {
        self.state().restart_clock();
    }

    /// The app asks for the body: the client no longer waits.
    pub(super) fn app_wants_the_body(&self) {
        self.state().app_goes_first = false;
    }

    /// The app may be silent for longer from now on.
    pub(super) fn app_may_take(&self, patience: Duration) {
        let mut state = self.state();
        state.patience = Some(patience);
        state.restart_clock();
    }

    /// The app's silence is no longer limited here.
    pub(super) fn stop_clock(&self) {
        let mut state = self.state();
        state.patience = None;
        state.restart_clock();
    }

    /// The connection is a tunnel from now on, to which all further bytes belong.
    pub(super) fn becomes_a_tunnel(&self) {
        self.stop_clock();
        let mut state = self.state();
        state.is_read = false;
        state.is_last = false;
        state.chunks = None;
    }

    /// The answer is cut off.
    pub(super) fn break_off(&self) {
        self.state().is_broken_off = true;
    }

    /// The connection becomes a live one when Pingora gives the socket back.
    pub(super) fn leave(&self, start: LiveStart) {
        self.state().live = Some(start);
    }

    /// Whether the app was silent for too long.
    pub(super) fn app_was_late(&self) -> bool {
        self.state().app_was_late
    }

    // Called by the socket.

    /// The client's side has ended, or the connection broke. False before the head is complete: then the connection
    /// just ends, and no error is reported.
    pub(super) fn client_left(&self) -> bool {
        let mut state = self.state();
        state.is_left_by_client |= !state.has_begun;
        state.has_begun
    }

    /// Bytes were received from the client.
    pub(super) fn client_sent(&self) {
        let mut state = self.state();
        state.has_read_body |= state.has_begun;
        state.app_goes_first = false;
        state.restart_clock();
    }

    /// Bytes were written to the client.
    pub(super) fn client_took(&self) {
        let mut state = self.state();
        state.is_answered = true;
        state.restart_clock();
    }

    /// Everything written has been flushed.
    pub(super) fn client_flushed(&self) {
        self.state().restart_clock();
    }

    /// Whether further bytes belong to the next request.
    pub(super) fn keeps_what_follows(&self) -> bool {
        let state = self.state();
        state.is_read || state.chunks.as_ref().is_some_and(Chunks::is_over)
    }

    /// How many of these next bytes belong to this request; the rest belongs to the next one.
    pub(super) fn take(&self, bytes: &[u8]) -> usize {
        let chunks = &mut self.state().chunks;
        chunks.as_mut().map_or(bytes.len(), |chunks| chunks.take(bytes))
    }

    /// Bytes followed the head.
    pub(super) fn something_waits(&self) {
        self.state().has_more = true;
    }

    /// Bytes followed the request.
    pub(super) fn something_follows(&self) {
        let mut state = self.state();
        state.is_last |= state.asks_for_a_tunnel;
    }

    /// When the app is late, while the app is what the exchange waits for.
    pub(super) fn app_is_late_at(&self) -> Option<Instant> {
        let mut state = self.state();
        let is_waited_for = state.is_read || state.app_goes_first;
        if !is_waited_for {
            return None;
        }
        if std::mem::take(&mut state.is_restarted) {
            state.app_is_late_at = state.patience.map(|patience| Instant::now() + patience);
        }
        state.app_is_late_at
    }

    /// The app is late.
    pub(super) fn app_is_late(&self) {
        self.state().app_was_late = true;
    }

    /// Pingora has released the socket. `kept` was read from it and belongs to the next request.
    pub(super) fn give_back(&self, stream: Stream, kept: BytesMut) {
        self.state().returned = Some((stream, kept));
    }

    // Called by the front.

    /// Ready when the client has left before its head was complete. Checked after each read.
    pub(super) fn poll_left(&self) -> Poll<()> {
        if self.state().is_left_by_client {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Whether the head is complete.
    pub(super) fn has_begun(&self) -> bool {
        self.state().has_begun
    }

    /// Whether the connection may serve another request, once Pingora has released it. Not where this parser of chunks
    /// and Pingora's disagree on the body's end: a proxy in front may take the bytes behind it for a part of the body.
    pub(super) fn may_go_on(&self) -> bool {
        let ends_where_it_should = self.state().chunks.as_ref().is_none_or(Chunks::is_over);
        ends_where_it_should && !self.is_last()
    }

    /// Whether the connection serves no further request.
    pub(super) fn is_last(&self) -> bool {
        let state = self.state();
        state.is_last || state.live.is_some()
    }

    /// The live connection to start, its socket, and the bytes that were read from it and not used.
    pub(super) fn take_live(&self) -> Option<(LiveStart, Stream, BytesMut)> {
        let mut state = self.state();
        let start = state.live.take()?;
        let (stream, kept) = state.returned.take()?;
        Some((start, stream, kept))
    }

    /// The socket, if its last answer was written completely.
    pub(super) fn take_answered(&self) -> Option<Stream> {
        let mut state = self.state();
        let is_whole = state.is_answered && !state.is_broken_off;
        let (stream, _) = state.returned.take()?;
        is_whole.then_some(stream)
    }
}

impl State {
    fn restart_clock(&mut self) {
        self.is_restarted = true;
    }
}
