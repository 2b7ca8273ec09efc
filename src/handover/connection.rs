//! Hand-over connection between old and new process: lines, and the sockets and other descriptors sent with them.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;

use super::MAX_SOCKETS;
use super::upgrade_socket::is_trusted;

/// Flags by which child processes do not inherit received descriptors; on other systems that is set afterwards.
#[cfg(target_os = "linux")]
const CLOSE_ON_EXEC: RecvFlags = RecvFlags::CMSG_CLOEXEC;
#[cfg(not(target_os = "linux"))]
const CLOSE_ON_EXEC: RecvFlags = RecvFlags::empty();

/// Longest line that is read.
const MAX_LINE: usize = 4096;
/// Room for the descriptors of one message.
const CONTROL_BYTES: usize = cmsg_space!(ScmRights(MAX_SOCKETS));

#[derive(Debug)]
pub(super) struct HandoverConnection {
    stream: UnixStream,
    /// Bytes that were read and not yet returned as lines.
    buffer: Vec<u8>,
    /// Descriptors that were received and not yet returned.
    received: Vec<OwnedFd>,
}

impl HandoverConnection {
    /// # Errors
    /// The process at the other end belongs to another user.
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        let user = stream.peer_cred()?.uid();
        if !is_trusted(user) {
            let problem = format!("the process at the other end is of user {user}");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
        }
        Ok(Self {
            stream,
            buffer: Vec::new(),
            received: Vec::new(),
        })
    }

    /// Sends a line.
    pub(super) async fn send(&mut self, line: &str) -> io::Result<()> {
        self.stream.write_all(format!("{line}\n").as_bytes()).await
    }

    /// Sends a line, with at most [`MAX_SOCKETS`] descriptors.
    pub(super) async fn send_with_sockets(
        &mut self,
        line: &str,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let line = format!("{line}\n");
        let mut space = [MaybeUninit::uninit(); CONTROL_BYTES];
        let send = || {
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
                let problem = format!("more than {MAX_SOCKETS} listeners");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
            }
            let line = [IoSlice::new(line.as_bytes())];
            Ok(sendmsg(&self.stream, &line, &mut control, SendFlags::empty())?)
        };
        let bytes = self.stream.async_io(Interest::WRITABLE, send).await?;
        // The descriptors are sent with the first byte.
        self.stream.write_all(&line.as_bytes()[bytes..]).await
    }

    /// The next line; `None` when the other side has closed.
    pub(super) async fn line(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(&line[..end]).into_owned()));
            }
            if self.buffer.len() > MAX_LINE {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long"));
            }
            if self.receive().await? == 0 {
                return Ok(None);
            }
        }
    }

    async fn receive(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 1024];
        let mut space = [MaybeUninit::uninit(); CONTROL_BYTES];
        let (received, stream) = (&mut self.received, &self.stream);
        let receive = || {
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut into = [IoSliceMut::new(&mut bytes)];
            let message = recvmsg(stream, &mut into, &mut control, CLOSE_ON_EXEC)?;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    received.extend(descriptors);
                }
            }
            Ok(message.bytes)
        };
        let count = stream.async_io(Interest::READABLE, receive).await?;
        self.buffer.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    /// The descriptors that were received since the last call.
    pub(super) fn descriptors(&mut self) -> io::Result<Vec<OwnedFd>> {
        let received = std::mem::take(&mut self.received);
        for descriptor in &received {
            fcntl_setfd(descriptor, FdFlags::CLOEXEC)?;
        }
        Ok(received)
    }

    /// The received descriptors as sockets.
    pub(super) fn sockets(&mut self) -> io::Result<Vec<TcpListener>> {
        let received = self.descriptors()?;
        Ok(received.into_iter().map(TcpListener::from).collect())
    }
}
