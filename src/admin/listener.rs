//! Accepts connections and serves them, within bounds of their own: the listener needs no sign-in, and whoever reaches
//! it must not be able to keep it from others, or to use up the site's files.
//!
//! Why not `axum::serve`: it has no deadline for a request's head and no bound of connections, and when told to stop
//! it closes idle ones at once, so that a scrape that is just being sent would fail.

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
/// Longest time until a request's head is complete, and until a kept connection brings the next request.
const HEAD: Duration = Duration::from_secs(20);
/// How long a connection may live: then it ends with its next answer, and so does one whose client reads nothing.
const LIFE: Duration = Duration::from_secs(10 * 60);
/// The time that remains for that answer.
const LAST_ANSWER: Duration = Duration::from_secs(20);
/// Until accepting is tried again after the system refused it: files may be used up.
const PAUSE: Duration = Duration::from_millis(200);

/// The listening socket, over failures of the task that accepts from it.
#[derive(Clone)]
pub struct Socket(Arc<Mutex<Option<StdListener>>>);

impl Socket {
    /// A listening socket that does not block.
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

/// Serves until the process ends, or, but for connections that are open, until told to `leave`.
pub(super) async fn serve(socket: Socket, router: Router, in_flight: InFlight, leave: Shutdown) {
    let listener = match socket.listener() {
        Ok(Some(listener)) => listener,
        // Somebody else has it.
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
    std::future::pending().await
}

/// Errors are the client's.
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
