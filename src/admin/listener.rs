//! Accepts and serves admin connections, within limits of their own.
//! The listener needs no sign-in, and no client that reaches it may block others, or use up the site's file
//! descriptors.
//!
//! Why not `axum::serve`: it has no deadline for a request's head and no limit on connections, and when told to
//! stop it closes idle ones at once, so that a scrape that is just being sent would fail.

use std::io;
use std::net::TcpListener as StdListener;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::shutdown::{InFlight, Shutdown};

/// Open connections at most; further ones are closed at once. Operators, scrapers and probes are few.
const CONNECTIONS: usize = 128;
/// Longest time until a request's head is complete, and until an idle connection sends the next request.
const HEAD: Duration = Duration::from_secs(20);
/// Longest life of a connection: it then ends with its next answer, even if its client reads nothing.
const LIFE: Duration = Duration::from_secs(10 * 60);
/// The time that remains for that answer.
const LAST_ANSWER: Duration = Duration::from_secs(20);
/// Pause after the system refused to accept: file descriptors may be used up.
const PAUSE: Duration = Duration::from_millis(200);

/// The listening socket; it outlives failures of the task that accepts from it.
#[derive(Clone)]
pub struct SharedListener(Arc<Mutex<Option<StdListener>>>);

impl SharedListener {
    /// Wraps a listening socket, which must be non-blocking.
    pub fn new(listener: StdListener) -> Self {
        Self(Arc::new(Mutex::new(Some(listener))))
    }

    fn listener(&self) -> io::Result<Option<TcpListener>> {
        let listener = self.lock().as_ref().map(StdListener::try_clone);
        listener.transpose()?.map(TcpListener::from_std).transpose()
    }

    fn close(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<StdListener>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until the process ends or, with the exception of open connections, until told to `leave`.
pub(super) async fn serve(socket: SharedListener, router: Router, in_flight: InFlight, leave: Shutdown) {
    let listener = match socket.listener() {
        Ok(Some(listener)) => listener,
        // Closed: another process has it.
        Ok(None) => return std::future::pending().await,
        Err(error) => {
            tracing::error!(%error, "the admin listener cannot be served");
            return;
        }
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = leave.started() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
                    let (router, counted) = (router.clone(), in_flight.connect());
                    tokio::spawn(async move {
                        let _held = (place, counted);
                        connection(stream, router).await;
                    });
                }
            }
            Err(error) => {
                tracing::debug!(%error, "no connection to the admin listener could be accepted");
                sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    socket.close();
    std::future::pending::<()>().await;
}

/// Errors are the client's fault and are ignored.
async fn connection(stream: TcpStream, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    if timeout(LIFE, &mut connection).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(LAST_ANSWER, connection).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn start(leave: &Shutdown) -> (SharedListener, std::net::SocketAddr, InFlight) {
        let listener = StdListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (socket, in_flight) = (SharedListener::new(listener), InFlight::default());
        let router = Router::new().route("/", axum::routing::get(async || "here"));
        tokio::spawn(serve(socket.clone(), router, in_flight.clone(), leave.clone()));
        (socket, address, in_flight)
    }

    #[tokio::test(start_paused = true)]
    async fn t6_a_head_that_does_not_come_ends_the_connection() {
        let (_socket, address, _) = start(&Shutdown::new());
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n").await.unwrap();
        let mut answer = Vec::new();
        // The connection ends, with or without an answer.
        let _ = client.read_to_end(&mut answer).await;
        assert!(!answer.ends_with(b"here"));
    }

    #[tokio::test]
    async fn t6_so_many_connections_are_open_and_no_more() {
        let (_socket, address, _) = start(&Shutdown::new());
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        let mut surplus = TcpStream::connect(address).await.unwrap();
        assert_eq!(surplus.read(&mut [0; 8]).await.unwrap_or(0), 0);
        let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let mut last = clients.pop().unwrap();
        last.write_all(request).await.unwrap();
        let mut answer = String::new();
        last.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("here"),
            "{answer}"
        );
    }

    #[tokio::test]
    async fn who_leaves_accepts_nothing_and_finishes_what_is_open() {
        let leave = Shutdown::new();
        let (socket, address, in_flight) = start(&leave);
        let mut client = TcpStream::connect(address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        client.write_all(request).await.unwrap();
        assert!(client.read(&mut [0; 1024]).await.unwrap() > 0);
        leave.start();
        while socket.lock().is_some() {
            tokio::task::yield_now().await;
        }
        assert!(TcpStream::connect(address).await.is_err());
        client.write_all(request).await.unwrap();
        assert!(client.read(&mut [0; 1024]).await.unwrap() > 0);
        drop(client);
        in_flight.emptied(Duration::from_secs(60)).await;
    }
}
