//! Clients of live connections: a WebSocket, and an event stream read byte by byte.

use std::collections::VecDeque;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::member::{FIREFOX, Member};
use super::service::in_time;
use super::sidecar::Sidecar;
use super::wire::{Answer, Wire};

/// A WebSocket's client end.
pub struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    /// Opens one as somebody's browser would.
    pub async fn open(sidecar: &Sidecar, path: &str, member: &Member) -> Self {
        let headers = [("cookie", &*member.cookie()), ("user-agent", FIREFOX)];
        let opened = Self::try_open(sidecar, path, &headers).await;
        opened.unwrap_or_else(|status| panic!("{path}: {status}"))
    }

    /// The same with any headers; the status where it is refused.
    pub async fn try_open(sidecar: &Sidecar, path: &str, headers: &[(&str, &str)]) -> Result<Self, u16> {
        let stream = TcpStream::connect(("127.0.0.1", sidecar.port))
            .await
            .expect("a connection");
        Self::over(stream, sidecar.port, path, headers).await
    }

    /// The same over a connection that is there already.
    pub async fn over(
        stream: TcpStream,
        port: u16,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, u16> {
        let url = format!("ws://127.0.0.1:{port}{path}");
        let mut request = url.into_client_request().expect("a URL");
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            let value = HeaderValue::from_str(value).expect("a value");
            request.headers_mut().append(name, value);
        }
        match in_time("a handshake", client_async(request, stream)).await {
            Ok((socket, response)) => {
                assert_eq!(response.status(), 101);
                Ok(Self(socket))
            }
            Err(Error::Http(response)) => {
                let problem: Value = serde_json::from_slice(response.body().as_deref().unwrap_or_default())
                    .expect("a problem document");
                assert_eq!(problem["status"], response.status().as_u16());
                Err(response.status().as_u16())
            }
            Err(error) => panic!("{path}: {error}"),
        }
    }

    /// The next message; pings are answered meanwhile.
    pub async fn next(&mut self) -> Value {
        loop {
            match self.receive().await {
                Some(Message::Text(text)) => return serde_json::from_str(&text).expect("JSON"),
                Some(Message::Ping(_) | Message::Pong(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The next count: community, visitors, number.
    pub async fn count(&mut self) -> (String, u64, u64) {
        let message = self.next().await;
        count_in(&message).unwrap_or_else(|| panic!("no count: {message}"))
    }

    /// Waits until there are so many visitors in the community.
    pub async fn until(&mut self, visitors: u64) -> u64 {
        loop {
            let (_, current, seq) = self.count().await;
            if current == visitors {
                return seq;
            }
        }
    }

    /// Says something.
    pub async fn say(&mut self, message: impl Into<Message>) {
        self.0.send(message.into()).await.expect("an open socket");
    }

    /// The code with which the server closes; what it says before is skipped.
    pub async fn close_code(&mut self) -> u16 {
        loop {
            match self.receive().await {
                Some(Message::Close(Some(frame))) => return frame.code.into(),
                Some(_) => {}
                None => panic!("closed without a close frame"),
            }
        }
    }

    async fn receive(&mut self) -> Option<Message> {
        let received = in_time("a message", self.0.next()).await?;
        Some(received.unwrap_or_else(|error| panic!("{error}")))
    }
}

/// An event stream's client end.
pub struct Events {
    wire: Wire,
    /// The head of the response.
    pub head: Answer,
    lines: VecDeque<String>,
}

impl Events {
    /// Opens one as somebody's browser would.
    pub async fn open(sidecar: &Sidecar, path: &str, member: &Member) -> Self {
        let headers = as_browser(member);
        let events = Self::ask(sidecar, path, &headers).await;
        assert_eq!(events.head.status, 200, "{path}");
        events
    }

    /// The same over a connection that is there already.
    pub async fn over(stream: TcpStream, path: &str, member: &Member) -> Self {
        let events = Self::ask_over(Wire::over(stream), path, &as_browser(member)).await;
        assert_eq!(events.head.status, 200, "{path}");
        events
    }

    /// Asks with any headers; the answer may be a refusal.
    pub async fn ask(sidecar: &Sidecar, path: &str, headers: &str) -> Self {
        Self::ask_over(Wire::open(sidecar.port).await, path, headers).await
    }

    async fn ask_over(mut wire: Wire, path: &str, headers: &str) -> Self {
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: site.test\r\n{headers}\r\n"))
            .await;
        let head = wire.head().await;
        // All there is, where that is known beforehand.
        let length = head.header("content-length").map(str::parse);
        let mut events = Self {
            wire,
            head,
            lines: VecDeque::new(),
        };
        if let Some(length) = length {
            let all = events.wire.take(length.expect("a number")).await;
            events.keep(all);
        }
        events
    }

    fn keep(&mut self, piece: Vec<u8>) {
        let piece = String::from_utf8(piece).expect("UTF-8");
        self.lines.extend(piece.lines().map(ToOwned::to_owned));
    }

    /// The next line; `None` at the end of the stream.
    pub async fn line(&mut self) -> Option<String> {
        while self.lines.is_empty() && self.head.header("content-length").is_none() {
            let piece = in_time("an event", self.wire.chunk()).await?;
            self.keep(piece);
        }
        self.lines.pop_front()
    }

    /// The last message of a stream that ends.
    pub async fn ends(&mut self) -> Value {
        let mut last = None;
        while let Some(message) = self.next().await {
            last = Some(message);
        }
        last.expect("a last word")
    }

    /// The next message; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(data) = self.line().await?.strip_prefix("data: ") {
                return Some(serde_json::from_str(data).expect("JSON"));
            }
        }
    }

    /// The next count: community, visitors, number.
    pub async fn count(&mut self) -> (String, u64, u64) {
        let message = self.next().await.expect("an open stream");
        count_in(&message).unwrap_or_else(|| panic!("no count: {message}"))
    }

    /// Waits until there are so many visitors in the community.
    pub async fn until(&mut self, visitors: u64) -> u64 {
        loop {
            let (_, current, seq) = self.count().await;
            if current == visitors {
                return seq;
            }
        }
    }

    /// Waits until the other side closes the connection.
    pub async fn closes(mut self) {
        self.wire.closes().await;
    }
}

/// Headers with which somebody's browser asks for an event stream.
fn as_browser(member: &Member) -> String {
    let cookie = member.cookie();
    format!("Accept: text/event-stream\r\nCookie: {cookie}\r\nUser-Agent: {FIREFOX}\r\n")
}

fn count_in(message: &Value) -> Option<(String, u64, u64)> {
    if message["type"] != "count" {
        return None;
    }
    let community = super::backend::text(&message["community_id"]);
    Some((
        community,
        message["current_visitors"].as_u64()?,
        message["seq"].as_u64()?,
    ))
}
