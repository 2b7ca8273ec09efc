//! A socket with a read-rate limit: control frames and fragments cost work too.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::transport::Socket;
use crate::rate_limit::Bucket;

/// Most bytes at once: eight of the longest messages, and …
const BURST: u32 = 64 * 1024;
/// … then one each period: 8 KiB a second.
const EACH: Duration = Duration::from_nanos(1_000_000_000 / (8 * 1024));

/// The socket. Reading too much is an error, which [`is_too_much`] recognises.
pub(super) struct Metered<S> {
    pub(super) socket: S,
    bytes: Bucket,
}

/// Whether the error is that of a client that sends too much. No real socket returns it.
pub(super) fn is_too_much(error: &io::Error) -> bool {
    error.kind() == ErrorKind::QuotaExceeded
}

impl<S> Metered<S> {
    pub(super) fn new(socket: S) -> Self {
        Self {
            socket,
            bytes: Bucket::new(BURST, EACH, Instant::now().into_std()),
        }
    }
}

impl<S: Socket> AsyncRead for Metered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.socket).poll_read(context, buffer))?;
        let read = u32::try_from(buffer.filled().len() - before).unwrap_or(u32::MAX);
        if this.bytes.take_many(read, Instant::now().into_std()) {
            Poll::Ready(Ok(()))
        } else {
            buffer.set_filled(before);
            Poll::Ready(Err(ErrorKind::QuotaExceeded.into()))
        }
    }
}

impl<S: Socket> AsyncWrite for Metered<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(context)
    }
}
