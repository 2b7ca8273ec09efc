//! A TCP proxy in front of a real server, with which a test makes the network, or the server, fail: hang,
//! refuse, come back.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::service::free_port;

/// Passes connections on to a server on the loopback interface. Dropping it cuts them.
pub struct Proxy {
    port: u16,
    target: Arc<AtomicU16>,
    /// Milliseconds that each piece is under way from the server to the client.
    delay: Arc<AtomicU64>,
    mode: watch::Sender<Mode>,
    seen: watch::Receiver<Seen>,
    task: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Forward,
    /// Connections are taken and stay open; nothing passes, either way.
    Hang,
    /// Nothing listens, and no connection is open.
    Refuse,
}

/// What the proxy tells.
#[derive(Debug, Clone, Copy)]
struct Seen {
    listening: bool,
    /// Pieces that came in while it hung.
    held: usize,
}

impl Proxy {
    /// A proxy in front of whatever listens, or will listen, on `port`.
    pub async fn before(port: u16) -> Self {
        let proxy = Self::refusing(port);
        proxy.resume().await;
        proxy
    }

    /// The same, but at first it refuses.
    pub fn refusing(target: u16) -> Self {
        // Of its own threads: a test may block while the sidecar still needs its connections.
        static RUNTIME: OnceLock<Runtime> = OnceLock::new();
        let runtime = RUNTIME.get_or_init(|| Runtime::new().expect("a runtime"));
        let port = free_port();
        let mode = watch::Sender::new(Mode::Refuse);
        let (seen, told) = watch::channel(Seen {
            listening: false,
            held: 0,
        });
        let target = Arc::new(AtomicU16::new(target));
        let delay = Arc::<AtomicU64>::default();
        let there = (target.clone(), delay.clone());
        let task = runtime.spawn(serve(port, there, mode.subscribe(), seen));
        Self {
            port,
            target,
            delay,
            mode,
            seen: told,
            task,
        }
    }

    /// The server is that far away from now on.
    pub fn is_far(&self, round_trip: Duration) {
        let millis = u64::try_from(round_trip.as_millis()).expect("not so far");
        self.delay.store(millis, Ordering::Relaxed);
    }

    /// Port to connect to instead of the server's.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// New connections lead to another server from now on.
    pub fn lead_to(&self, port: u16) {
        self.target.store(port, Ordering::Relaxed);
    }

    /// From now on nothing is answered. What is sent meanwhile arrives after [`Proxy::resume`].
    pub fn hang(&self) {
        self.mode.send_replace(Mode::Hang);
    }

    /// Cuts all connections, as a server that is stopped does, and refuses new ones.
    pub async fn refuse(&self) {
        self.mode.send_replace(Mode::Refuse);
        self.wait_until(|seen| !seen.listening).await;
    }

    /// Everything passes again.
    pub async fn resume(&self) {
        self.mode.send_replace(Mode::Forward);
        self.wait_until(|seen| seen.listening).await;
    }

    /// Waits until something was sent that is held back because the proxy hangs.
    pub async fn holds_something(&self) {
        self.wait_until(|seen| seen.held > 0).await;
    }

    async fn wait_until(&self, so: impl FnMut(&Seen) -> bool) {
        self.seen.clone().wait_for(so).await.expect("the proxy runs");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    port: u16,
    (target, delay): (Arc<AtomicU16>, Arc<AtomicU64>),
    mut mode: watch::Receiver<Mode>,
    seen: watch::Sender<Seen>,
) {
    let modes = mode.clone();
    while mode.wait_for(|mode| *mode != Mode::Refuse).await.is_ok() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .expect("a port of our own");
        seen.send_modify(|seen| seen.listening = true);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                _ = mode.wait_for(|mode| *mode == Mode::Refuse) => break,
                Ok((client, _)) = listener.accept() => {
                    let target = target.load(Ordering::Relaxed);
                    let there = (target, delay.clone());
                    connections.spawn(forward(client, there, modes.clone(), seen.clone()));
                }
            }
        }
        connections.shutdown().await;
        drop(listener);
        seen.send_modify(|seen| seen.listening = false);
    }
}

/// One connection, until either side closes it.
async fn forward(
    client: TcpStream,
    (target, delay): (u16, Arc<AtomicU64>),
    mode: watch::Receiver<Mode>,
    seen: watch::Sender<Seen>,
) {
    // A server that is away: the client sees its connection close.
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else {
        return;
    };
    let at_once = AtomicU64::new(0);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        _ = copy(from_client, to_server, mode.clone(), &seen, &at_once) => {}
        _ = copy(from_server, to_client, mode, &seen, &delay) => {}
    }
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
    seen: &watch::Sender<Seen>,
    delay: &AtomicU64,
) -> Option<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut buffer).await.ok().filter(|length| *length > 0)?;
        if *mode.borrow() == Mode::Hang {
            seen.send_modify(|seen| seen.held += 1);
        }
        passes(&mut mode).await?;
        let delay = delay.load(Ordering::Relaxed);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        to.write_all(&buffer[..length]).await.ok()?;
    }
}

/// Waits until the proxy lets things pass.
async fn passes(mode: &mut watch::Receiver<Mode>) -> Option<()> {
    mode.wait_for(|mode| *mode == Mode::Forward)
        .await
        .ok()
        .map(|_| ())
}
