//! Client socket: a client's connection as Pingora sees it. It differs from the real one in four ways, where Pingora
//! depends on the client's behaviour, or reports errors that are none:
//!
//! - When dropped, it gives the real socket back: the [`Front`](super::Front) decides what becomes of a connection.
//! - Bytes behind a request are kept for the next one. Pingora would read them with a chunked body and parse them
//!   itself; and it looks for them to notice that a client has left, and would end the running request. (Of a body with
//!   a length it reads no more than that.)
//! - Reading fails when the app has been silent for too long: Pingora reads here whenever it waits for the app, and its
//!   own limit for the app's silence cannot be changed once the app has answered.
//! - Shutting it down does nothing: the front does that, so that the last answer arrives.

mod pingora_traits;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::v1::server::HttpSession;
use pingora_proxy::Session;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::progress::Progress;

/// Upper bound of bytes of later requests that are read in advance. More wait in the kernel.
const MAX_KEPT: usize = 16 * 1024;

pub(super) struct ClientSocket {
    /// Taken when this is dropped, and not before.
    stream: Option<Stream>,
    /// Bytes of the next request.
    kept: BytesMut,
    progress: Arc<Progress>,
    /// Wakes the task that waits for a head, or for the app. Moved forward when it fires, not with each wait.
    clock: Option<Pin<Box<Sleep>>>,
}

impl ClientSocket {
    /// The socket of a connection, which shares `progress`.
    pub(super) fn new(stream: Stream, progress: Arc<Progress>) -> Self {
        Self {
            stream: Some(stream),
            kept: BytesMut::new(),
            progress,
            clock: None,
        }
    }

    /// Puts `bytes` back, to be read before all others.
    pub(super) fn unread(&mut self, mut bytes: BytesMut) {
        bytes.extend_from_slice(&self.kept);
        if !bytes.is_empty() {
            self.progress.something_waits();
        }
        self.kept = bytes;
    }

    /// The exchange under way on a session's connection.
    pub(super) fn progress_of(session: &Session) -> Arc<Progress> {
        let stream = session.as_downstream().as_http1().map(HttpSession::stream);
        let socket = stream.and_then(|stream| (**stream).as_any().downcast_ref::<Self>());
        // A progress of another stream has no reader.
        socket.map_or_else(Arc::default, |socket| Arc::clone(&socket.progress))
    }

    fn stream(&mut self) -> io::Result<Pin<&mut Stream>> {
        // Not reached: the stream is there until this is dropped.
        let gone = || io::Error::from(ErrorKind::NotConnected);
        self.stream.as_mut().map(Pin::new).ok_or_else(gone)
    }

    /// Reads the request.
    fn poll_request(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(self.stream()?.poll_read(context, buffer));
        if buffer.filled().len() > before {
            self.progress.client_sent();
            let end = before + self.progress.take(&buffer.filled()[before..]);
            if end < buffer.filled().len() {
                self.progress.something_follows();
                self.kept.extend_from_slice(&buffer.filled()[end..]);
                buffer.set_filled(end);
            }
        } else if !self.progress.client_left() {
            // Pingora would log it as an error. The front checks after each read, and ends the exchange.
            return Poll::Pending;
        }
        Poll::Ready(read)
    }

    /// Reads bytes of the next request. Ready without bytes when the client has ended its side.
    fn poll_keep(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [0; 1024];
        while self.kept.len() < MAX_KEPT {
            let mut buffer = ReadBuf::new(&mut bytes);
            match self.stream()?.poll_read(context, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.progress.something_follows();
                    self.kept.extend_from_slice(buffer.filled());
                }
                end @ Poll::Ready(_) => return end,
            }
        }
        // No wake-up is registered: the exchange ends without more.
        Poll::Pending
    }

    /// Reads what comes into `buffer`; `None` if nothing has come by `deadline`.
    pub(super) async fn read_by(
        &mut self,
        deadline: Instant,
        buffer: &mut BytesMut,
    ) -> Option<io::Result<usize>> {
        poll_fn(|context| {
            // The future has no state of its own.
            if let Poll::Ready(read) = pin!(self.read_buf(buffer)).poll(context) {
                return Poll::Ready(Some(read));
            }
            self.poll_clock(deadline, context).map(|()| None)
        })
        .await
    }

    /// Ready at `deadline`.
    fn poll_clock(&mut self, deadline: Instant, context: &mut Context<'_>) -> Poll<()> {
        let clock = self.clock.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        loop {
            if clock.is_elapsed() || clock.deadline() > deadline {
                clock.as_mut().reset(deadline);
            }
            ready!(clock.as_mut().poll(context));
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
        }
    }

    /// Ready when the app is late.
    fn poll_app(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        while let Some(late) = self.progress.app_is_late_at() {
            ready!(self.poll_clock(late, context));
            if self.progress.app_is_late_at() == Some(late) {
                self.progress.app_is_late();
                return Poll::Ready(io::Error::new(ErrorKind::TimedOut, "the app is silent"));
            }
        }
        Poll::Pending
    }
}

impl Drop for ClientSocket {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            self.progress.give_back(stream, std::mem::take(&mut self.kept));
        }
    }
}

impl AsyncRead for ClientSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = if this.progress.keeps_what_follows() {
            this.poll_keep(context)
        } else if this.kept.is_empty() {
            this.poll_request(context, buffer)
        } else {
            let most = buffer.remaining().min(this.kept.len());
            let piece = this.kept.split_to(this.progress.take(&this.kept[..most]));
            buffer.put_slice(&piece);
            this.progress.client_sent();
            Poll::Ready(Ok(()))
        };
        match read {
            Poll::Pending => this.poll_app(context).map(Err),
            read @ Poll::Ready(_) => read,
        }
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(this.stream()?.poll_write(context, bytes))?;
        this.progress.client_took();
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(this.stream()?.poll_write_vectored(context, pieces))?;
        this.progress.client_took();
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.stream()?.poll_flush(context))?;
        this.progress.client_flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for ClientSocket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.stream, formatter)
    }
}
