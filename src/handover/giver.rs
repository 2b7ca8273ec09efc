//! Hand-over, old process: offers the listening sockets and waits until the new process serves.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::timeout;

use super::connection::HandoverConnection;
use super::{GREETING, KEPT, REFUSED, SERVING, UpgradeSocket, UpgradeSocketError, YOURS};

/// Longest wait for the last messages, which are sent at once.
const LAST_MESSAGE_LIMIT: Duration = Duration::from_secs(5);

/// The new process, which serves.
#[derive(Debug)]
pub struct Successor(HandoverConnection);

/// Why this process goes on serving.
#[derive(Debug, thiserror::Error)]
pub enum NotHandedOver {
    /// The folder is not private, or not there.
    #[error(transparent)]
    Socket(#[from] UpgradeSocketError),
    /// SIGQUIT came too early, or by mistake.
    #[error(
        "no process waits at {place} ({error}); start `headcount run --upgrade` first, and wait until it is ready"
    )]
    NoPeer {
        /// The key, with its value.
        place: String,
        /// The system's reason.
        error: io::Error,
    },
    /// The new process cannot serve.
    #[error("the new process refused: {0}")]
    Refused(String),
    /// It has ended.
    #[error("the new process ended before it served")]
    Ended,
    /// It sent something that this version does not know, or the connection failed.
    #[error("the connection to the new process failed ({0})")]
    Failed(#[from] io::Error),
    /// It did not serve in time.
    #[error("the new process did not serve within {0:?}; listen.upgrade_timeout sets this limit")]
    Silent(Duration),
}

/// Gives the sockets to the process that waits at `socket`, and then the log: standard error. Returns once that process
/// serves and owns the sockets; clients notice no error.
pub async fn hand_over(socket: &UpgradeSocket, sockets: &[TcpListener]) -> Result<Successor, NotHandedOver> {
    socket.check_folder()?;
    let no_peer = |error| NotHandedOver::NoPeer {
        place: socket.name(),
        error,
    };
    let stream = UnixStream::connect(&socket.path).await.map_err(no_peer)?;
    let mut connection = HandoverConnection::new(stream)?;
    let outcome = timeout(socket.limit, offer(&mut connection, sockets)).await;
    if let Err(error) = outcome.unwrap_or(Err(NotHandedOver::Silent(socket.limit))) {
        let _ = timeout(LAST_MESSAGE_LIMIT, connection.send(KEPT)).await;
        return Err(error);
    }
    match timeout(LAST_MESSAGE_LIMIT, give_up(&mut connection)).await {
        Ok(Ok(())) => Ok(Successor(connection)),
        _ => Err(NotHandedOver::Ended),
    }
}

/// Gives the sockets up, and passes the log on where possible: nothing else depends on that.
async fn give_up(connection: &mut HandoverConnection) -> io::Result<()> {
    let log = io::stderr();
    match connection.send_with_sockets(YOURS, &[log.as_fd()]).await {
        Ok(()) => Ok(()),
        Err(_) => connection.send(YOURS).await,
    }
}

/// Offers the sockets and waits until the other side serves.
async fn offer(connection: &mut HandoverConnection, sockets: &[TcpListener]) -> Result<(), NotHandedOver> {
    let greeting = format!("{GREETING} {}", sockets.len());
    let sockets: Vec<_> = sockets.iter().map(TcpListener::as_fd).collect();
    connection.send_with_sockets(&greeting, &sockets).await?;
    let Some(answer) = connection.line().await? else {
        return Err(NotHandedOver::Ended);
    };
    match answer.strip_prefix(REFUSED) {
        Some(reason) => Err(NotHandedOver::Refused(reason.into())),
        None if answer == SERVING => Ok(()),
        None => Err(NotHandedOver::Refused(format!("its answer was {answer:?}"))),
    }
}

impl Successor {
    /// Waits until the new process closes the connection: systemd, if there is one, has then been told which of the two
    /// is the main process, and this one may end.
    pub async fn wait_until_settled(mut self) {
        let _ = timeout(LAST_MESSAGE_LIMIT, self.0.line()).await;
    }
}
