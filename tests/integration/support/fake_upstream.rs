//! A server behind the sidecar that does what the real site never would: answer garbage, close at the wrong
//! moment. It also keeps the heads of its requests as they came.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::service::free_port;

/// What a server does with a request.
#[derive(Debug, Clone, Copy)]
pub enum Reply {
    /// Answers, and keeps the connection.
    Keep(&'static str),
    /// The same with bytes that are no text.
    KeepBytes(&'static [u8]),
    /// Sends this, which may be nothing, and closes.
    Close(&'static str),
    /// Answers without reading the body: this, after a while that, and closes.
    Early(&'static str, Duration, &'static str),
}

/// An answer that says no more than that it is one.
pub const OK: Reply = Reply::Keep("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");

/// A request as the server sees it.
#[derive(Debug, Clone)]
pub struct Heard {
    /// Request line and headers.
    pub head: String,
    /// How many requests came before it on the same connection.
    pub before: usize,
}

impl Heard {
    /// The request line without the version.
    pub fn target(&self) -> &str {
        let line = self.head.lines().next().unwrap_or_default();
        line.trim_end_matches(" HTTP/1.1")
    }
}

/// A running server. Dropping it closes its port and all its connections.
pub struct FakeUpstream {
    port: u16,
    heard: Arc<Mutex<Vec<Heard>>>,
    _tasks: JoinSet<()>,
}

impl FakeUpstream {
    /// Answers each request with what `reply` makes of it.
    pub async fn answering(reply: fn(&Heard) -> Reply) -> Self {
        // Not one that the system chooses: where this server ends, nobody else is to get its port.
        Self::answering_at(&format!("127.0.0.1:{}", free_port()), reply).await
    }

    /// The same at an address that has become free.
    pub async fn answering_at(address: &str, reply: fn(&Heard) -> Reply) -> Self {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let requests = Arc::clone(&heard);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut conversations = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                conversations.spawn(converse(stream, reply, Arc::clone(&requests)));
            }
        });
        Self {
            port,
            heard,
            _tasks: tasks,
        }
    }

    /// As it stands in `[upstream] servers`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Every request so far but for health probes.
    pub fn heard(&self) -> Vec<Heard> {
        let heard = self.heard.lock().expect("no panic");
        heard
            .iter()
            .filter(|request| !is_probe(request))
            .cloned()
            .collect()
    }

    /// Health probes so far.
    pub fn probes(&self) -> usize {
        let heard = self.heard.lock().expect("no panic");
        heard.iter().filter(|request| is_probe(request)).count()
    }
}

fn is_probe(request: &Heard) -> bool {
    request.target() == "GET /healthz" || request.head.contains("headcount-health-check")
}

async fn converse(
    stream: TcpStream,
    reply: fn(&Heard) -> Reply,
    requests: Arc<Mutex<Vec<Heard>>>,
) -> Option<()> {
    let mut stream = BufReader::new(stream);
    for before in 0.. {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await.ok()? == 0 {
                return None;
            }
        }
        let length = head
            .lines()
            .find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length: ")?
                    .parse()
                    .ok()
            })
            .unwrap_or(0);
        let request = Heard { head, before };
        let reply = reply(&request);
        if !matches!(reply, Reply::Early(..)) {
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.ok()?;
        }
        requests.lock().expect("no panic").push(request);
        match reply {
            Reply::Keep(text) => stream.write_all(text.as_bytes()).await.ok()?,
            Reply::KeepBytes(bytes) => stream.write_all(bytes).await.ok()?,
            Reply::Early(first, pause, rest) => {
                stream.write_all(first.as_bytes()).await.ok()?;
                tokio::time::sleep(pause).await;
                stream.write_all(rest.as_bytes()).await.ok()?;
                stream.shutdown().await.ok()?;
                return None;
            }
            Reply::Close(text) => {
                stream.write_all(text.as_bytes()).await.ok()?;
                stream.shutdown().await.ok()?;
                return None;
            }
        }
    }
    None
}
