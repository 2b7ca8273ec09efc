//! A server that takes connections like Redis, and answers as a test says.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Something that takes connections like Redis and answers as the test says: `None` is silence.
pub(crate) struct FakeRedis {
    port: u16,
    heard: Arc<Mutex<Vec<Vec<String>>>>,
    connections: Arc<AtomicUsize>,
    _task: AbortOnDrop,
}

impl FakeRedis {
    /// Accepts and reads, and never says a word.
    pub(crate) async fn silent() -> Self {
        Self::answering(|_| None).await
    }

    /// Answers each command with what `answer` makes of it, in Redis' wire form.
    pub(crate) async fn answering(answer: fn(&[String]) -> Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let commands = Arc::clone(&heard);
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            let mut conversations = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::Relaxed);
                conversations.spawn(converse(stream, answer, Arc::clone(&commands)));
            }
        });
        Self {
            port,
            heard,
            connections,
            _task: AbortOnDrop(task),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Port on the loopback interface.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// How many connections it took so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Every command so far.
    pub(crate) fn heard(&self) -> Vec<Vec<String>> {
        self.heard.lock().expect("no panic").clone()
    }
}

async fn converse(
    stream: TcpStream,
    answer: fn(&[String]) -> Option<String>,
    heard: Arc<Mutex<Vec<Vec<String>>>>,
) -> Option<()> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    loop {
        let arguments = lines.next_line().await.ok()??.strip_prefix('*')?.parse().ok()?;
        let mut command: Vec<String> = Vec::new();
        for _ in 0..arguments {
            let _length = lines.next_line().await.ok()??;
            command.push(lines.next_line().await.ok()??);
        }
        let reply = answer(&command);
        heard.lock().expect("no panic").push(command);
        if let Some(reply) = reply {
            writer.write_all(reply.as_bytes()).await.ok()?;
        }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
