//! Request head: reads it before the framework parses it.
//!
//! The framework refuses what it cannot parse without a log line or a counter, and refuses more than other proxies do.
//! Here the head is complete, so that its deadline is exact, its size bounded, and each refusal counted; and the few
//! characters in a target that the framework rejects are percent-encoded, as browsers send them.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, BytesMut};
use memchr::{memchr, memchr_iter};
use pingora_core::protocols::GetSocketDigest as _;
use pingora_core::protocols::http::ServerSession;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout};

use super::client_socket::ClientSocket;
use super::limits::Refusal;
use super::progress::Progress;
use super::refusals::Refusals;
use crate::config::Limits;
use crate::shutdown::Closing;

/// Bytes that are read at a time.
const READ: usize = 4096;
/// Upper bound of headers that the framework accepts.
const MAX_HEADERS: usize = 256;
/// Longest time for writing the answer to a refused head.
const WRITE: Duration = Duration::from_secs(2);

/// How long idle connections are still read from when they are to be closed: for requests that are on their way. Shorter
/// than the shutdown waits for idle connections.
const LAST_READ: Duration = Duration::from_millis(150);

/// Reads heads.
pub(super) struct HeadReader {
    max_bytes: usize,
    header_timeout: Duration,
    closing: Closing,
    refusals: Arc<Refusals>,
}

/// A complete head, and the socket that it came from.
pub(super) struct Head {
    socket: Box<ClientSocket>,
    bytes: BytesMut,
}

impl Head {
    /// A session that begins with it. A session is large: it is made where it is used, and not passed on.
    pub(super) fn into_session(self) -> ServerSession {
        let mut session = ServerSession::new_http1(self.socket);
        session.set_pipelined_prefix(escaped(self.bytes));
        session
    }
}

/// Why there is no head.
enum NoHead {
    /// The client has left, or never sent anything; or the sidecar closes.
    Gone,
    /// The head is refused.
    Refused(Refusal),
}

impl HeadReader {
    pub(super) fn new(limits: &Limits, closing: Closing, refusals: Arc<Refusals>) -> Self {
        Self {
            max_bytes: usize::try_from(limits.max_header_bytes.as_u64()).unwrap_or(usize::MAX),
            header_timeout: limits.header_timeout,
            closing,
            refusals,
        }
    }

    /// Ready when idle connections are to be closed. One for each connection, for [`HeadReader::next`].
    pub(super) async fn closing(&self) {
        self.closing.idle.started().await;
    }

    /// Reads the next head on a connection. `idle` is how long its first byte may take; on a new connection, `None`, that
    /// is part of `limits.header_timeout`.
    pub(super) async fn next(
        &self,
        mut socket: Box<ClientSocket>,
        progress: &Progress,
        idle: Option<Duration>,
        closing: Pin<&mut impl Future<Output = ()>>,
    ) -> Option<Head> {
        let mut head = BytesMut::with_capacity(READ);
        let read = if self.closing.idle.has_started() {
            None
        } else {
            tokio::select! {
                biased;
                read = self.read(&mut socket, &mut head, idle) => Some(read),
                () = poll_fn(|_| progress.poll_left()) => return None,
                () = closing => None,
            }
        };
        let read = match read {
            Some(read) => read,
            // A request that has arrived is answered: closing now would reset its connection.
            None => match timeout(LAST_READ, self.read(&mut socket, &mut head, idle)).await {
                Ok(read) => read,
                Err(_elapsed) => return None,
            },
        };
        match read.and_then(|end| taken(&head[..end]).map(|()| end)) {
            Ok(end) => {
                // Bytes behind the head go back to the socket: the framework reads the body from there.
                socket.unread(head.split_off(end));
                Some(Head { socket, bytes: head })
            }
            Err(NoHead::Gone) => None,
            Err(NoHead::Refused(refusal)) => {
                self.refusals.count_early(refusal, address(&socket));
                if refusal != Refusal::HeaderTimeout {
                    answer(&mut socket, refusal).await;
                }
                None
            }
        }
    }

    /// Counts a request that the framework refused with 400, or gave up, without a log line or a counter.
    pub(super) fn refused_by_the_framework(&self, client: Option<IpAddr>) {
        if !self.closing.idle.has_started() {
            self.refusals.count_early(Refusal::Malformed, client);
        }
    }

    /// Reads until the head is complete; returns its end. Empty lines before it are dropped (RFC 9112, 2.2).
    async fn read(
        &self,
        stream: &mut ClientSocket,
        head: &mut BytesMut,
        idle: Option<Duration>,
    ) -> Result<usize, NoHead> {
        let mut begun = idle.is_none();
        let mut deadline = Instant::now() + idle.unwrap_or(self.header_timeout);
        let mut seen = 0;
        loop {
            if head.capacity() - head.len() < READ / 2 {
                head.reserve(READ);
            }
            match stream.read_by(deadline, head).await {
                Some(Ok(1..)) => {}
                Some(_) => return Err(NoHead::Gone),
                None if head.is_empty() => return Err(NoHead::Gone),
                None => return Err(NoHead::Refused(Refusal::HeaderTimeout)),
            }
            while matches!(head.first(), Some(b'\r' | b'\n')) && seen == 0 {
                head.advance(1);
            }
            if head.is_empty() {
                continue;
            }
            if !head[0].is_ascii_graphic() {
                // TLS, for example: an empty line would never come.
                return Err(NoHead::Refused(Refusal::Malformed));
            }
            if let Some(end) = end_of_head(head, seen) {
                return Ok(end);
            }
            if !begun {
                begun = true;
                deadline = Instant::now() + self.header_timeout;
            }
            if head.len() > self.max_bytes {
                return Err(NoHead::Refused(Refusal::HeaderSize));
            }
            seen = head.len();
        }
    }
}

/// The position behind the empty line that ends the head. The first `seen` bytes do not contain it.
fn end_of_head(head: &[u8], seen: usize) -> Option<usize> {
    // The end of the line before the empty one may be in the part that was seen.
    let from = seen.saturating_sub(2);
    let mut lines = memchr_iter(b'\n', &head[from..]);
    lines.find_map(|at| match &head[from + at + 1..] {
        [b'\n', ..] => Some(from + at + 2),
        [b'\r', b'\n', ..] => Some(from + at + 3),
        _ => None,
    })
}

/// Refuses complete heads that the framework would refuse without a reason, or answer itself.
fn taken(head: &[u8]) -> Result<(), NoHead> {
    if head.starts_with(b"CONNECT ") {
        return Err(NoHead::Refused(Refusal::Method));
    }
    // One line is the request's, one is empty.
    let most = MAX_HEADERS + 2;
    // A line has two bytes at least. Most heads are too short to have too many.
    if head.len() > 2 * most && memchr_iter(b'\n', head).count() > most {
        return Err(NoHead::Refused(Refusal::HeaderCount));
    }
    Ok(())
}

/// The head, with a target that the framework accepts.
fn escaped(head: BytesMut) -> BytesMut {
    let line = memchr(b'\n', &head).unwrap_or(head.len());
    if !head[..line]
        .iter()
        .any(|byte| matches!(byte, b'<' | b'>' | b'"' | b'`' | 0x80..))
    {
        // As nearly every one is.
        return head;
    }
    let spaces = || head[..line].iter().enumerate().filter(|(_, byte)| **byte == b' ');
    let (Some((before, _)), Some((after, _))) = (spaces().next(), spaces().next_back()) else {
        return head;
    };
    let target = head.get(before + 1..after).unwrap_or_default();
    let is_text = std::str::from_utf8(target).is_ok();
    let query = target
        .iter()
        .position(|byte| *byte == b'?')
        .unwrap_or(target.len());
    let is_odd = |(at, byte): (usize, &u8)| match *byte {
        b'<' | b'>' => true,
        b'"' => at > query,
        b'`' => at < query,
        0x80.. => !is_text,
        _ => false,
    };
    if !target.iter().enumerate().any(is_odd) {
        return head;
    }
    let mut new = BytesMut::with_capacity(head.len() + 2 * target.len());
    new.extend_from_slice(&head[..=before]);
    for (at, byte) in target.iter().enumerate() {
        if is_odd((at, byte)) {
            new.extend_from_slice(percent_encoding::percent_encode_byte(*byte).as_bytes());
        } else {
            new.put_u8(*byte);
        }
    }
    new.extend_from_slice(&head[after..]);
    new
}

/// Writes the short page for a refused request. The front closes the connection afterwards.
async fn answer(socket: &mut ClientSocket, refusal: Refusal) {
    let status = http::StatusCode::from_u16(refusal.status()).unwrap_or(http::StatusCode::BAD_REQUEST);
    let (code, reason) = (status.as_u16(), status.canonical_reason().unwrap_or_default());
    let body = format!("{code} {reason}\n");
    let text = format!(
        "HTTP/1.1 {code} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = timeout(WRITE, socket.write_all(text.as_bytes())).await;
}

fn address(socket: &ClientSocket) -> Option<IpAddr> {
    let digest = socket.get_socket_digest()?;
    digest.peer_addr()?.as_inet().map(std::net::SocketAddr::ip)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    /// What becomes of a kept connection that is to be closed, and brings a request after this time.
    async fn at_the_end(pause: Duration) -> Option<Head> {
        let closing = Closing::default();
        closing.idle.start();
        let refusals = Arc::new(Refusals::new(Arc::default()));
        let reader = HeadReader::new(&Limits::default(), closing, refusals);
        let (mut client, server) = tokio::io::duplex(1024);
        let progress = Arc::new(Progress::default());
        let socket = Box::new(ClientSocket::new(Box::new(server), Arc::clone(&progress)));
        let sends = async {
            tokio::time::sleep(pause).await;
            // It may be closed by then.
            let _ = client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        };
        let idle = Some(Duration::from_secs(60));
        let end = pin!(reader.closing());
        let (head, ()) = tokio::join!(reader.next(socket, &progress, idle, end), sends);
        head
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_on_its_way_when_idle_connections_are_closed_is_read() {
        assert!(at_the_end(Duration::ZERO).await.is_some());
        assert!(at_the_end(LAST_READ / 2).await.is_some());
        assert!(at_the_end(LAST_READ * 2).await.is_none());
    }

    fn escape(target: &[u8]) -> Vec<u8> {
        let head = [b"GET ", target, b" HTTP/1.1\r\nX: <\"`\r\n\r\nbody <"].concat();
        let head = escaped(BytesMut::from(&head[..]));
        let rest = head.strip_prefix(b"GET ").unwrap();
        rest.strip_suffix(b" HTTP/1.1\r\nX: <\"`\r\n\r\nbody <")
            .unwrap()
            .to_vec()
    }

    #[test]
    fn what_the_framework_takes_for_no_target_is_escaped_and_nothing_else() {
        for (target, expected) in [
            (&b"/a?q=\"<b>\""[..], &b"/a?q=%22%3Cb%3E%22"[..]),
            (b"/<b>/`?`", b"/%3Cb%3E/%60?`"),
            (b"/\"{|}^[]\\?{|}^[]\\'", b"/\"{|}^[]\\?{|}^[]\\'"),
            (b"/caf\xe9?q=\xff", b"/caf%E9?q=%FF"),
            (b"/caf\xc3\xa9", b"/caf\xc3\xa9"),
            (b"/%22?a=1&b=%", b"/%22?a=1&b=%"),
            (b"*", b"*"),
        ] {
            assert_eq!(escape(target), expected, "{}", target.escape_ascii());
        }
        let odd = BytesMut::from(&b"nothing\r\n\r\n"[..]);
        assert_eq!(escaped(odd.clone()), odd);
    }

    #[test]
    fn the_end_of_a_head_is_found_wherever_reading_was_interrupted() {
        for (text, end) in [
            (&b"GET / HTTP/1.1\r\nA: b\r\n\r\nmore"[..], Some(24)),
            (b"GET / HTTP/1.1\nA: b\n\nmore", Some(21)),
            (b"GET / HTTP/1.1\r\nA: b\n\r\nmore", Some(23)),
            (b"GET / HTTP/1.1\r\nA: b\r\n", None),
        ] {
            for seen in 0..end.unwrap_or(text.len()) {
                if end_of_head(&text[..seen], 0).is_none() {
                    assert_eq!(end_of_head(text, seen), end, "{} {seen}", text.escape_ascii());
                }
            }
        }
    }

    #[test]
    fn as_many_headers_as_the_framework_takes_pass() {
        let head = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(count));
        assert!(taken(head(MAX_HEADERS).as_bytes()).is_ok());
        assert!(taken(head(MAX_HEADERS + 1).as_bytes()).is_err());
    }
}
