//! Hand-over, new process: waits for the listening sockets of the running one, and takes them over.

use std::fs::Permissions;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use tokio::time::timeout;

use super::connection::HandoverConnection;
use super::{GREETING, KEPT, REFUSED, SERVING, UpgradeSocket, UpgradeSocketError, YOURS};

/// Longest time from a connection to its first line, which the old process sends at once.
const GREETING_LIMIT: Duration = Duration::from_secs(5);

/// A new process that waits on its Unix socket. The socket's file is removed when it is dropped.
#[derive(Debug)]
pub struct AwaitedPredecessor {
    listener: UnixListener,
    socket: UpgradeSocket,
}

/// The old process, which waits until this one serves.
#[derive(Debug)]
pub struct Predecessor {
    connection: HandoverConnection,
    limit: Duration,
}

/// Why this process has to end.
#[derive(Debug, thiserror::Error)]
pub enum NotTakenOver {
    /// No running sidecar connected.
    #[error(
        "no sidecar handed over its sockets within {limit:?}; send SIGQUIT to the running one while this one waits, \
         and see that both have {place}"
    )]
    NoPeer {
        /// How long it waited.
        limit: Duration,
        /// The key, with its value.
        place: String,
    },
    /// It speaks another version of the protocol.
    #[error("the running sidecar hands over in a way that this version does not know; restart instead")]
    Unknown,
    /// The old process has waited for too long and keeps its sockets.
    #[error("the running sidecar keeps its sockets and goes on serving; its log says why")]
    AbortOnDrop,
    /// The old process does not answer any more.
    #[error("the running sidecar did not answer within {0:?}")]
    Silent(Duration),
    /// The connection failed.
    #[error("the connection with the running sidecar failed ({0})")]
    Failed(#[from] io::Error),
}

impl AwaitedPredecessor {
    /// Opens the socket and waits there.
    ///
    /// # Errors
    /// The folder is not private, or another process waits there already.
    pub fn at(socket: UpgradeSocket) -> Result<Self, UpgradeSocketError> {
        socket.check_folder()?;
        make_room(&socket)?;
        let listener = bind(&socket).map_err(|error| {
            let remedy = match error.kind() {
                // Of the path: the system takes no more.
                io::ErrorKind::InvalidInput => "name a path of at most 107 bytes",
                _ => "name a path in a folder that the sidecar's user can write to",
            };
            socket.error(format!("the socket cannot be made ({error}); {remedy}"))
        })?;
        Ok(Self { listener, socket })
    }

    /// Waits for the old process, and receives its sockets. It goes on serving.
    ///
    /// # Errors
    /// No process connects in time.
    pub async fn sockets(self) -> Result<(Vec<TcpListener>, Predecessor), NotTakenOver> {
        let listener = tokio::net::UnixListener::from_std(self.listener.try_clone()?)?;
        let limit = self.socket.limit;
        timeout(limit, first_of(&listener, limit))
            .await
            .unwrap_or_else(|_| {
                Err(NotTakenOver::NoPeer {
                    limit,
                    place: self.socket.name(),
                })
            })
    }
}

impl Drop for AwaitedPredecessor {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket.path);
    }
}

/// Removes the socket of an earlier process.
fn make_room(socket: &UpgradeSocket) -> Result<(), UpgradeSocketError> {
    let Ok(metadata) = std::fs::symlink_metadata(&socket.path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(socket.error("this file is not a socket; name another path"));
    }
    if std::os::unix::net::UnixStream::connect(&socket.path).is_ok() {
        return Err(socket.error("another new process waits there; let it take over, or end it"));
    }
    // A file that cannot be removed makes the bind fail.
    let _ = std::fs::remove_file(&socket.path);
    Ok(())
}

fn bind(socket: &UpgradeSocket) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(&socket.path)?;
    std::fs::set_permissions(&socket.path, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The sockets of the first process that connects and sends some.
async fn first_of(
    listener: &tokio::net::UnixListener,
    limit: Duration,
) -> Result<(Vec<TcpListener>, Predecessor), NotTakenOver> {
    loop {
        let (stream, _) = listener.accept().await?;
        let greeted = async {
            let mut connection = HandoverConnection::new(stream)?;
            let line = connection.line().await?;
            io::Result::Ok((connection, line))
        };
        let (mut connection, line) = match timeout(GREETING_LIMIT, greeted).await {
            Ok(Ok((connection, Some(line)))) => (connection, line),
            // Another process only checked whether one waits here.
            Ok(Ok((_, None))) | Err(_) => continue,
            Ok(Err(error)) => {
                tracing::warn!(error = %error, "a process connected that cannot hand over sockets");
                continue;
            }
        };
        if line == KEPT {
            return Err(NotTakenOver::AbortOnDrop);
        }
        let sockets = connection.sockets()?;
        let mut predecessor = Predecessor { connection, limit };
        let promised = line.strip_prefix(GREETING).map(str::trim);
        if promised.and_then(|number| number.parse().ok()) == Some(sockets.len()) {
            return Ok((sockets, predecessor));
        }
        predecessor.refuse(&NotTakenOver::Unknown.to_string()).await;
        return Err(NotTakenOver::Unknown);
    }
}

impl Predecessor {
    /// Tells the old process that this one will not serve, so that it goes on.
    pub async fn refuse(&mut self, reason: &str) {
        let line = format!("{REFUSED}{}", reason.replace('\n', " "));
        let _ = timeout(GREETING_LIMIT, self.connection.send(&line)).await;
    }

    /// Tells the old process that this one serves, and waits until it gives the sockets up. They are this process' also
    /// when the old one has ended. Returns the log of the old one, its standard error, unless it ended before it could
    /// pass that on.
    ///
    /// # Errors
    /// The old process keeps them.
    pub async fn take_over(&mut self) -> Result<Option<OwnedFd>, NotTakenOver> {
        // If this fails, the last line of the old process can still be read.
        let _ = self.connection.send(SERVING).await;
        match timeout(self.limit, self.connection.line()).await {
            Ok(Ok(Some(line))) if line == YOURS => Ok(self.log()),
            Ok(Ok(Some(line))) if line == KEPT => Err(NotTakenOver::AbortOnDrop),
            Ok(Ok(Some(_))) => Err(NotTakenOver::Unknown),
            Ok(Ok(None) | Err(_)) => {
                tracing::warn!("the old process is gone; its sockets are served here");
                Ok(None)
            }
            Err(_) => Err(NotTakenOver::Silent(self.limit)),
        }
    }

    /// The last descriptor received. The sockets are this process' by now: a fault of the log does not end it.
    fn log(&mut self) -> Option<OwnedFd> {
        self.connection.descriptors().ok()?.pop()
    }
}
