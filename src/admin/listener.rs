//! A listener that can stop accepting while its connections go on: axum's own way to stop closes idle ones at
//! once, and a scrape that is just being sent would fail.

use std::io;
use std::net::SocketAddr;

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};

use crate::shutdown::Shutdown;

/// Accepts until told otherwise; then the socket is closed, and no connection comes any more.
pub(super) struct Leaving {
    listener: Option<TcpListener>,
    leave: Shutdown,
}

impl Leaving {
    pub(super) fn new(listener: TcpListener, leave: Shutdown) -> Self {
        Self {
            listener: Some(listener),
            leave,
        }
    }
}

impl Listener for Leaving {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        if let Some(listener) = &mut self.listener {
            tokio::select! {
                accepted = Listener::accept(listener) => return accepted,
                () = self.leave.started() => {}
            }
        }
        self.listener = None;
        std::future::pending().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.listener {
            Some(listener) => listener.local_addr(),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}
