//! The ports: taken before anything else is started, so that a taken one is a message and not a panic on
//! Pingora's own thread; and watched until they are served.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::StartError;
use crate::config::Listen;

/// Longest time from the start until every listener answers.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Ports that are held for a moment: all at once, so that two listeners cannot be given the same one.
pub(super) struct Claims {
    /// The addresses, with ports in place of 0.
    pub(super) addresses: Listen,
    /// The admin listener, which is ours.
    pub(super) admin: TcpListener,
    /// The site's, which Pingora binds again when these are dropped.
    pub(super) site: Vec<TcpListener>,
}

/// Takes every port.
///
/// # Errors
/// The first address that cannot be had.
pub(super) fn claim(listen: &Listen) -> Result<Claims, StartError> {
    let mut addresses = listen.clone();
    let mut site = Vec::new();
    let https = addresses.https.iter_mut().map(|listener| &mut listener.address);
    for address in addresses.http.iter_mut().chain(https) {
        let listener = bind(*address)?;
        *address = listener.local_addr().map_err(anyhow::Error::new)?;
        site.push(listener);
    }
    let admin = bind(addresses.admin)?;
    addresses.admin = admin.local_addr().map_err(anyhow::Error::new)?;
    Ok(Claims {
        addresses,
        admin,
        site,
    })
}

fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).map_err(|error| {
        StartError::Other(anyhow::anyhow!(
            "{address} cannot be listened on ({error}); stop what uses it, or choose another address under \
             [listen]"
        ))
    })
}

/// The same listener for this runtime's tasks.
pub(super) fn on_this_runtime(listener: TcpListener) -> std::io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

/// Waits until every listener of the site accepts connections.
///
/// # Errors
/// One does not within [`START_LIMIT`]: Pingora could not start it.
pub(super) async fn served(addresses: &Listen) -> anyhow::Result<()> {
    let https = addresses.https.iter().map(|listener| listener.address);
    for address in addresses.http.iter().copied().chain(https) {
        timeout(START_LIMIT, accepts(address)).await.with_context(|| {
            format!("nothing answers on {address}; the log says why it could not be served")
        })?;
    }
    Ok(())
}

async fn accepts(address: SocketAddr) {
    // A wildcard address is reached through the loopback one.
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        std::net::IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        std::net::IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    while TcpStream::connect((ip, address.port())).await.is_err() {
        sleep(Duration::from_millis(20)).await;
    }
}
