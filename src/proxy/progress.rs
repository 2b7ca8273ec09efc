//! What the phases, the [`Front`](super::Front) and a client's socket tell each other of the exchange that is under
//! way on a connection.
//!
//! Pingora stands between them and passes none of it: whether the head is complete, whether all of the request has
//! been read, how long the app has been silent, and what becomes of the socket.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::v1::server::HttpSession;
use pingora_proxy::Session;
use tokio::time::Instant;

use super::chunks::Chunks;
use super::client_socket::ClientSocket;
use super::live::LiveStart;

/// The exchange under way on one connection, and the socket when Pingora has done with it. Locked for moments, by one
/// task.
#[derive(Default)]
pub(super) struct Progress(Mutex<State>);

#[expect(
    clippy::struct_excessive_bools,
    reason = "facts that do not depend on each other"
)]
#[derive(Default)]
struct State {
    /// The head has been read; the proxy is at work.
    has_begun: bool,
    /// Bytes came with the head, behind it.
    has_more: bool,
    /// Bytes came behind the head.
    has_read_body: bool,
    /// Where the body ends, while it is read in chunks.
    chunks: Option<Chunks>,
    /// All of the request has been read: what follows is of the next one.
    is_read: bool,
    /// The client asks for a tunnel: what follows may be of that, and is no request.
    asks_for_a_tunnel: bool,
    /// The connection must end with the answer.
    is_last: bool,
    /// Something was written to the client.
    is_answered: bool,
    /// The answer ended before its end.
    is_broken_off: bool,
    /// How long the app may be silent, while that is limited here.
    patience: Option<Duration>,
    /// When the app has been silent for too long.
    app_is_late_at: Option<Instant>,
    /// The client waits for the app before it sends its body.
    app_goes_first: bool,
    /// The app has been silent for too long.
    app_was_late: bool,
    /// The client has left before its head was complete.
    is_left_by_client: bool,
    live: Option<LiveStart>,
    returned: Option<(Stream, BytesMut)>,
}

impl Progress {
    /// The exchange of a session on a [`ClientSocket`].
    pub(super) fn of(session: &Session) -> Arc<Self> {
        let stream = session.as_downstream().as_http1().map(HttpSession::stream);
        let socket = stream.and_then(|stream| (**stream).as_any().downcast_ref::<ClientSocket>());
        // Nobody listens to that of another stream.
        socket.map_or_else(Arc::default, ClientSocket::progress)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another exchange comes, on the same connection.
    pub(super) fn renew(&self) {
        *self.state() = State::default();
    }

    // What the phases tell.

    /// The head is complete. Of a body in chunks nothing behind its end is handed out.
    pub(super) fn begin(&self, is_chunked: bool) {
        let mut state = self.state();
        state.has_begun = true;
        state.chunks = is_chunked.then(Chunks::default);
    }

    /// The client asks for a tunnel. What it sends before it has one is not taken for another request.
    pub(super) fn a_tunnel_is_asked_for(&self) {
        let mut state = self.state();
        state.asks_for_a_tunnel = true;
        state.is_last |= state.has_more;
    }

    /// All of the request has been read.
    pub(super) fn is_read(&self) {
        self.state().is_read = true;
    }

    /// The app has been asked: from now on it may be silent for `patience` at a time. `goes_first` is whether the
    /// client waits for its word (`Expect: 100-continue`). Whether it does: not where it has begun to send its body.
    pub(super) fn app_was_asked(&self, patience: Duration, goes_first: bool) -> bool {
        let mut state = self.state();
        state.patience = Some(patience);
        state.app_goes_first = goes_first && !state.has_read_body;
        state.restart_clock();
        state.app_goes_first
    }

    /// The app said something.
    pub(super) fn app_spoke(&self) {
        self.state().restart_clock();
    }

    /// The app wants the body: the client no longer waits for it.
    pub(super) fn app_wants_the_body(&self) {
        self.state().app_goes_first = false;
    }

    /// The app's silence is no longer limited here.
    pub(super) fn stop_clock(&self) {
        let mut state = self.state();
        state.patience = None;
        state.restart_clock();
    }

    /// The connection is a tunnel from now on: what comes is of it.
    pub(super) fn becomes_a_tunnel(&self) {
        self.stop_clock();
        let mut state = self.state();
        state.is_read = false;
        state.is_last = false;
        state.chunks = None;
    }

    /// The answer ends before its end.
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

    // What the socket tells and asks.

    /// The client's side has ended, or the connection broke. False where that is nobody's concern any more: before the
    /// head is complete, the connection just ends.
    pub(super) fn client_left(&self) -> bool {
        let mut state = self.state();
        state.is_left_by_client |= !state.has_begun;
        state.has_begun
    }

    /// Bytes came from the client.
    pub(super) fn client_sent(&self) {
        let mut state = self.state();
        state.has_read_body |= state.has_begun;
        state.app_goes_first = false;
        state.restart_clock();
    }

    /// Bytes went to the client.
    pub(super) fn client_took(&self) {
        let mut state = self.state();
        state.is_answered = true;
        state.restart_clock();
    }

    /// Whatever was written is on its way.
    pub(super) fn client_flushed(&self) {
        self.state().restart_clock();
    }

    /// Whether what comes is of the next request.
    pub(super) fn keeps_what_follows(&self) -> bool {
        let state = self.state();
        state.is_read || state.chunks.as_ref().is_some_and(Chunks::is_over)
    }

    /// How many of these bytes, which come next, are of this request; the rest is of the next one.
    pub(super) fn take(&self, bytes: &[u8]) -> usize {
        let chunks = &mut self.state().chunks;
        chunks.as_mut().map_or(bytes.len(), |chunks| chunks.take(bytes))
    }

    /// Bytes came with the head.
    pub(super) fn something_waits(&self) {
        self.state().has_more = true;
    }

    /// Bytes came behind the request.
    pub(super) fn something_follows(&self) {
        let mut state = self.state();
        state.is_last |= state.asks_for_a_tunnel;
    }

    /// When the app is late, where it is the app that is waited for.
    pub(super) fn app_is_late_at(&self) -> Option<Instant> {
        let state = self.state();
        let is_waited_for = state.is_read || state.app_goes_first;
        state.app_is_late_at.filter(|_| is_waited_for)
    }

    /// The app is late.
    pub(super) fn app_is_late(&self) {
        self.state().app_was_late = true;
    }

    /// Pingora has done with the socket. `kept` was read from it and is of the next request.
    pub(super) fn give_back(&self, stream: Stream, kept: BytesMut) {
        self.state().returned = Some((stream, kept));
    }

    // What the front asks.

    /// Ready when the client has left before its head was complete. Looked at after each read.
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

    /// Whether another request may follow on the connection, once Pingora has done with this one. Not where this parser
    /// of chunks and Pingora's do not agree where the body ends: what follows might be a part of it to a proxy in front.
    pub(super) fn may_go_on(&self) -> bool {
        let ends_where_it_should = self.state().chunks.as_ref().is_none_or(Chunks::is_over);
        ends_where_it_should && !self.is_last()
    }

    /// Whether the connection serves no further request.
    pub(super) fn is_last(&self) -> bool {
        let state = self.state();
        state.is_last || state.live.is_some()
    }

    /// What the connection is to become, its socket, and what was read from it and not used.
    pub(super) fn take_live(&self) -> Option<(LiveStart, Stream, BytesMut)> {
        let mut state = self.state();
        let start = state.live.take()?;
        let (stream, kept) = state.returned.take()?;
        Some((start, stream, kept))
    }

    /// The socket, where an answer is on its way on it, whole.
    pub(super) fn take_answered(&self) -> Option<Stream> {
        let mut state = self.state();
        let is_whole = state.is_answered && !state.is_broken_off;
        let (stream, _) = state.returned.take()?;
        is_whole.then_some(stream)
    }
}

impl State {
    fn restart_clock(&mut self) {
        self.app_is_late_at = self.patience.map(|patience| Instant::now() + patience);
    }
}
