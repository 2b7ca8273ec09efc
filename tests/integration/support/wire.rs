//! HTTP/1 byte by byte: requests that no client library would send, and answers exactly as they came.

use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::service::LONGEST_WAIT;

/// What carries the bytes.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// One connection.
pub struct Wire {
    stream: Box<dyn Stream>,
    /// Read, but not yet taken.
    buffer: Vec<u8>,
}

/// A response, its body freed of the framing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// A header that occurs at most once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self
            .headers
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value);
        let only = values.next();
        assert_eq!(values.next(), None, "{name} occurs twice");
        only.map(String::as_str)
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {:?}", self.status, self.text()))
    }
}

impl Wire {
    /// Connects to a loopback port.
    pub async fn open(port: u16) -> Self {
        Self::over(connect(port).await)
    }

    /// On a connection that is there.
    pub fn over(stream: impl Stream + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            buffer: Vec::new(),
        }
    }

    /// Sends all of it.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream
            .write_all(bytes.as_ref())
            .await
            .expect("the other side reads");
    }

    /// Sends as much of it as the other side takes before it closes.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Ends this side's half of the connection.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.expect("an open connection");
    }

    /// Status and headers of the next response; `None` where the other side closed before any byte of it.
    pub async fn try_head(&mut self) -> Option<Answer> {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at;
            }
            if !self.fill().await {
                let text = self.buffer.escape_ascii();
                assert!(self.buffer.is_empty(), "closed within a head: {text}");
                return None;
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
        let head = String::from_utf8_lossy(&head[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        Some(Answer {
            status: status.unwrap_or_else(|| panic!("no status line: {head}")),
            headers: lines
                .map(|line| {
                    line.split_once(':')
                        .unwrap_or_else(|| panic!("no header: {line}"))
                })
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect(),
            body: Vec::new(),
        })
    }

    /// Status and headers of the next response.
    pub async fn head(&mut self) -> Answer {
        self.try_head().await.expect("a response")
    }

    /// The next response to anything but HEAD.
    pub async fn answer(&mut self) -> Answer {
        self.try_answer(false).await.expect("a response")
    }

    /// The next response, if one comes; interim ones are skipped. `bodiless` when the request was a HEAD.
    pub async fn try_answer(&mut self, bodiless: bool) -> Option<Answer> {
        let mut answer = self.try_head().await?;
        while (100..200).contains(&answer.status) && answer.status != 101 {
            answer = self.try_head().await?;
        }
        if bodiless || matches!(answer.status, 101 | 204 | 304) {
            return Some(answer);
        }
        answer.body = if answer.header("transfer-encoding") == Some("chunked") {
            let mut body = Vec::new();
            while let Some(chunk) = self.chunk().await {
                body.extend(chunk);
            }
            body
        } else if let Some(length) = answer.header("content-length") {
            let length = length.parse().expect("a number");
            self.take(length).await
        } else {
            self.rest().await
        };
        Some(answer)
    }

    /// The next chunk of a chunked body; `None` after the last.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.line().await;
        let size = usize::from_str_radix(&line, 16).unwrap_or_else(|_| panic!("no chunk: {line}"));
        let data = self.take(size).await;
        assert_eq!(self.line().await, "", "a chunk ends with its line");
        (size > 0).then_some(data)
    }

    /// Exactly so many bytes.
    pub async fn take(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            let had = self.buffer.len();
            assert!(self.fill().await, "closed after {had} bytes of {length}");
        }
        let rest = self.buffer.split_off(length);
        std::mem::replace(&mut self.buffer, rest)
    }

    /// Everything until the other side closes, which it must.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.buffer)
    }

    /// Whether the other side has closed, as far as is known by now.
    pub fn is_closed(&mut self) -> bool {
        let read = self.stream.read_buf(&mut self.buffer).now_or_never();
        read.is_some_and(|read| !read.is_ok_and(|bytes| bytes > 0))
    }

    /// Waits until the other side closes; fails if it says anything more before.
    pub async fn closes(&mut self) {
        let rest = self.rest().await;
        assert!(rest.is_empty(), "{}", rest.escape_ascii());
    }

    async fn line(&mut self) -> String {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..at + 2).collect();
                return String::from_utf8_lossy(&line[..at]).into_owned();
            }
            assert!(self.fill().await, "closed within a line");
        }
    }

    /// Reads once. False when the other side has closed, in whichever way.
    async fn fill(&mut self) -> bool {
        self.buffer.reserve(64 * 1024);
        let read = tokio::time::timeout(LONGEST_WAIT, self.stream.read_buf(&mut self.buffer));
        read.await
            .expect("neither an answer nor the connection's end")
            .is_ok_and(|bytes| bytes > 0)
    }
}

/// Connects to a loopback port.
pub async fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("a connection");
    stream.set_nodelay(true).expect("an open connection");
    stream
}

/// Sends bytes on a connection of their own and reads the answer. `bodiless` when they are a HEAD request.
pub async fn exchange(port: u16, request: impl AsRef<[u8]>, bodiless: bool) -> Answer {
    let mut wire = Wire::open(port).await;
    wire.send(request).await;
    wire.try_answer(bodiless).await.expect("a response")
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
