//! A proxy in front of Postgres that understands just enough of its protocol to notice a COMMIT, and then
//! cuts the connection: after the server has committed and answered, so that nobody hears of it, or before
//! anything of it has arrived.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Dropping it cuts all connections.
pub struct CommitCutter {
    port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    target: u16,
    cuts: AtomicBool,
    swallowed: AtomicUsize,
    stopped: AtomicUsize,
    dice: Mutex<StdRng>,
}

/// What becomes of a COMMIT.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Passes,
    /// The server commits, and its answer is not passed on.
    AnswerSwallowed,
    NeverArrives,
}

impl CommitCutter {
    pub async fn before(target: u16, dice: &mut StdRng) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            target,
            cuts: AtomicBool::new(true),
            swallowed: AtomicUsize::new(0),
            stopped: AtomicUsize::new(0),
            dice: Mutex::new(StdRng::seed_from_u64(dice.next_u64())),
        });
        let task = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Self { port, shared, task }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on everything passes.
    pub fn rests(&self) {
        self.shared.cuts.store(false, Ordering::Relaxed);
    }

    /// COMMITs whose answer was swallowed.
    pub fn swallowed(&self) -> usize {
        self.shared.swallowed.load(Ordering::Relaxed)
    }

    /// COMMITs that never arrived.
    pub fn stopped(&self) -> usize {
        self.shared.stopped.load(Ordering::Relaxed)
    }
}

impl Drop for CommitCutter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(connection(client, Arc::clone(&shared)));
    }
}

impl Shared {
    fn fate(&self) -> Fate {
        if !self.cuts.load(Ordering::Relaxed) {
            return Fate::Passes;
        }
        match self.dice.lock().expect("whole").random_range(0..6) {
            0 | 1 => Fate::AnswerSwallowed,
            2 => Fate::NeverArrives,
            _ => Fate::Passes,
        }
    }
}

/// One connection, until either side ends it or a COMMIT does.
async fn connection(mut client: TcpStream, shared: Arc<Shared>) -> Option<()> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, shared.target))
        .await
        .ok()?;
    let (mut asked, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut messages = Messages::default();
    loop {
        tokio::select! {
            length = client.read(&mut asked) => {
                let piece = &asked[..length.ok().filter(|length| *length > 0)?];
                let fate = if messages.have_commit(piece) { shared.fate() } else { Fate::Passes };
                match fate {
                    Fate::Passes => server.write_all(piece).await.ok()?,
                    Fate::NeverArrives => {
                        shared.stopped.fetch_add(1, Ordering::Relaxed);
                        return None;
                    }
                    Fate::AnswerSwallowed => {
                        server.write_all(piece).await.ok()?;
                        // Everything before it has been answered: this is the COMMIT's answer.
                        server.read(&mut answered).await.ok().filter(|length| *length > 0)?;
                        shared.swallowed.fetch_add(1, Ordering::Relaxed);
                        return None;
                    }
                }
            }
            length = server.read(&mut answered) => {
                let piece = &answered[..length.ok().filter(|length| *length > 0)?];
                client.write_all(piece).await.ok()?;
            }
        }
    }
}

/// What a client has sent, cut into messages: a type, except at the start, a length that counts itself, and
/// the rest.
#[derive(Default)]
struct Messages {
    pending: Vec<u8>,
    started: bool,
}

impl Messages {
    /// Whether a COMMIT is complete with this piece.
    fn have_commit(&mut self, piece: &[u8]) -> bool {
        /// Instead of a version: may we talk TLS, may we talk GSS?
        const REQUESTS: [[u8; 4]; 2] = [80_877_103_u32.to_be_bytes(), 80_877_104_u32.to_be_bytes()];
        self.pending.extend_from_slice(piece);
        let mut found = false;
        loop {
            let head = usize::from(self.started);
            let Some(length) = self.pending.get(head..head + 4) else {
                return found;
            };
            let length = u32::from_be_bytes(length.try_into().expect("four bytes"));
            let end = head + usize::try_from(length).expect("not so many");
            if self.pending.len() < end {
                return found;
            }
            let message: Vec<u8> = self.pending.drain(..end).collect();
            if self.started {
                found |= message[0] == b'Q' && message[5..].starts_with(b"COMMIT");
            } else {
                self.started = !REQUESTS.iter().any(|request| message[4..].starts_with(request));
            }
        }
    }
}

#[test]
fn a_commit_is_noticed_however_it_is_cut() {
    let mut stream = Vec::from(8_u32.to_be_bytes());
    stream.extend(80_877_103_u32.to_be_bytes());
    stream.extend([0, 0, 0, 10, 0, 3, 0, 0, b'u', 0]);
    stream.extend(b"Q\0\0\0\x0bCOMMIT\0");
    for at in 0..stream.len() {
        let (earlier, later) = stream.split_at(at);
        let mut messages = Messages::default();
        assert!(!messages.have_commit(earlier), "{at}");
        assert!(messages.have_commit(later), "{at}");
    }
}
