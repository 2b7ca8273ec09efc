//! A server process that ends when the test process ends, even when that is killed.

use std::ffi::OsStr;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{self, UnixListener};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Longest time that a test waits for anything. Reaching it fails the test: a busy machine takes less, and timeouts that tests
/// shorten have a minute where that is not heeded.
pub const LONGEST_WAIT: Duration = Duration::from_secs(55);

/// Time between two looks at something that is waited for: whoever looks all the time keeps the others, on two cores,
/// from what is waited for.
pub const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// A running server. Dropping it kills the server; so does the end of this process, because a small shell
/// around the server waits for its standard input to close.
pub struct Service {
    guard: Child,
    input: Option<ChildStdin>,
    pid: u32,
}

impl Service {
    /// Starts `program` with `args` in `directory`, its output going to the file `log` there.
    pub fn start<S: AsRef<OsStr>>(
        directory: &Path,
        program: &str,
        args: impl IntoIterator<Item = S>,
        environment: &[(&str, String)],
    ) -> Self {
        let script = r#"
            "$@" >>log 2>&1 </dev/null &
            server=$!
            echo $server
            exec >/dev/null 2>&1
            cat >/dev/null
            # Workers outlive a server that is killed. What one leaves that has ended by itself is to stay, and may
            # be in the lists of its last threads for a moment.
            if ! grep -q '^State:.Z' /proc/$server/status; then
                workers=$(cat /proc/$server/task/*/children)
            fi
            kill -KILL $server $workers
            wait $server
        "#;
        let mut guard = Command::new("bash")
            .args(["-c", script, "guard", program])
            .args(args)
            .envs(environment.iter().map(|(key, value)| (*key, value)))
            .current_dir(directory)
            // In a group of its own: whoever ends the group of this process must not end the guard before it has
            // ended the workers.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash starts");
        let mut pid = String::new();
        guard
            .stdout
            .take()
            .expect("piped")
            .read_to_string(&mut pid)
            .expect("the guard prints the pid");
        let input = guard.stdin.take();
        Self {
            guard,
            input,
            pid: pid.trim().parse().expect("a pid"),
        }
    }

    /// Process id of the server itself.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal, by name: `KILL`, `STOP`, `CONT`, `TERM`, `HUP`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.pid.to_string()])
            .status();
        assert!(
            status.expect("kill runs").success(),
            "no process {} to send {name} to",
            self.pid
        );
    }
}

impl Service {
    /// Waits until the server has ended by itself; returns its exit code.
    pub fn wait_for_end(self) -> Option<i32> {
        let stat = format!("/proc/{}/stat", self.pid);
        wait_until("a server's end", || {
            // A process that has ended but was not yet waited for is a zombie: state Z.
            std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "))
        });
        self.exit_code()
    }

    /// The exit code of a server that has ended by itself; `None` if a signal ended it, or does now.
    pub fn exit_code(mut self) -> Option<i32> {
        const KILLED: i32 = 128;
        drop(self.input.take());
        // The guard ends with the server's own code.
        let status = self.guard.wait().expect("the guard ends");
        status.code().filter(|code| *code < KILLED)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.guard.wait();
    }
}

/// Ports of tests: below the range from which the system takes ports for outgoing connections, so that nothing else
/// takes one before a server binds it.
const PORTS: Range<u16> = 12_000..32_000;
/// Ports that a process takes at a time.
const BLOCK: u16 = 200;

/// The ports of this process.
struct Ports {
    /// Its blocks, each with the socket whose name says that it is taken: the system frees it when the process ends.
    blocks: Vec<(UnixListener, Range<u16>)>,
    /// How many blocks were begun again, after all were claimed.
    again: usize,
    /// What has not been given out of the present block.
    left: Range<u16>,
}

impl Ports {
    /// The next port; no other test process gives it out.
    fn next(&mut self) -> u16 {
        loop {
            if let Some(port) = self.left.next() {
                return port;
            }
            if let Some(block) = PORTS.step_by(BLOCK.into()).find_map(claimed) {
                self.left = block.1.clone();
                self.blocks.push(block);
            } else {
                // Most of those that used the oldest have ended.
                assert!(!self.blocks.is_empty(), "other test processes have all ports");
                self.left = self.blocks[self.again % self.blocks.len()].1.clone();
                self.again += 1;
            }
        }
    }
}

/// Claims the block of ports that begins with this one, unless another process or this one has it.
fn claimed(first: u16) -> Option<(UnixListener, Range<u16>)> {
    let name = format!("headcount-test-ports-{first}");
    let address = net::SocketAddr::from_abstract_name(name).expect("a short name");
    let claim = UnixListener::bind_addr(&address).ok()?;
    Some((claim, first..first + BLOCK))
}

/// A free port, not given out before, as long as there are such.
pub fn free_port() -> u16 {
    static MINE: Mutex<Ports> = Mutex::new(Ports {
        blocks: Vec::new(),
        again: 0,
        left: 0..0,
    });
    let mut mine = MINE.lock().expect("no panic");
    loop {
        let port = mine.next();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Waits until `ready` says so; fails the test, naming `what`, after [`LONGEST_WAIT`].
pub fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < LONGEST_WAIT, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Awaits something that must come to an end; fails the test, naming `what`, when it does not.
pub async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONGEST_WAIT, work)
        .await
        .unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Waits until something accepts connections on a loopback port.
pub fn wait_for_port(what: &str, port: u16) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    wait_until(what, || {
        TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
    });
}
