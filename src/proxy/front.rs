//! Connection front: accepts connections for Pingora's proxy. It limits open connections, reads heads itself (see
//! [`super::head`]), and decides what becomes of connections when the listeners close.
//!
//! Pingora limits neither connections nor the time for a head: its header timeout is per read, so a client that sends
//! one byte a minute stays for ever.
//!
//! Pingora gives each socket back ([`ClientSocket`]). A connection that has become a live one leaves Pingora here: it
//! then needs a fraction of what an exchange needs. A connection that ends after an answer is closed so that the answer
//! arrives ([`lingering_close`]).

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream, ServerApp};
use pingora_core::protocols::Stream;
use pingora_core::server::ShutdownWatch;
use pingora_proxy::{HttpProxy, ProxyHttp};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::client_socket::ClientSocket;
use super::head::{Head, HeadReader};
use super::lingering_close;
use super::metrics::Metrics;
use super::progress::Progress;
use super::refusals::Refusals;
use crate::config::Limits;
use crate::shutdown::{Closing, InFlight};

/// Accepts connections for the proxy.
pub struct Front<P> {
    proxy: Arc<HttpProxy<P>>,
    connections: Arc<Semaphore>,
    heads: HeadReader,
    header_timeout: Duration,
    keepalive_timeout: Duration,
    /// Runs live connections: pushing to thousands of them must not delay the site.
    background: Handle,
    metrics: Arc<Metrics>,
    in_flight: InFlight,
    closing: Closing,
}

impl<P> Front<P>
where
    P: ProxyHttp + Send + Sync + 'static,
    P::CTX: Send + Sync + 'static,
{
    /// Applies `limits` in front of `proxy`. All listeners share one cap.
    pub fn new(
        proxy: HttpProxy<P>,
        limits: &Limits,
        background: Handle,
        metrics: Arc<Metrics>,
        refusals: Arc<Refusals>,
        in_flight: InFlight,
        closing: Closing,
    ) -> Self {
        Self {
            proxy: Arc::new(proxy),
            connections: Arc::new(Semaphore::new(limits.connections().min(Semaphore::MAX_PERMITS))),
            heads: HeadReader::new(limits, closing.clone(), refusals),
            header_timeout: limits.header_timeout,
            keepalive_timeout: limits.keepalive_timeout,
            background,
            metrics,
            in_flight,
            closing,
        }
    }

    /// Serves one request on a connection. `None` also when the framework refuses its head, or has not accepted it by
    /// `deadline`.
    async fn request(
        &self,
        head: Head,
        settings: Option<HttpPersistentSettings>,
        progress: &Progress,
        shutdown: &ShutdownWatch,
        deadline: Duration,
    ) -> Option<ReusedHttpStream> {
        let mut session = head.into_session();
        if let Some(settings) = settings {
            settings.apply_to_session(&mut session);
        }
        let client = session
            .client_addr()
            .and_then(|address| address.as_inet())
            .map(std::net::SocketAddr::ip);
        let mut work = pin!(self.proxy.process_new_http(session, shutdown));
        let done = tokio::select! {
            biased;
            result = &mut work => Some(result),
            () = poll_fn(|_| progress.poll_left()) => return None,
            () = not_begun_by(deadline, progress) => None,
        };
        let is_taken = progress.has_begun();
        if !is_taken {
            self.heads.refused_by_the_framework(client);
        }
        match done {
            Some(result) => result,
            None if is_taken => work.await,
            None => None,
        }
    }
}

/// Ends when the framework has not accepted a request's head within `deadline`: it may disagree on whether the head is
/// complete. The head is there when this is first asked, so that a request usually needs no timer.
async fn not_begun_by(deadline: Duration, progress: &Progress) {
    if progress.has_begun() {
        pending::<()>().await;
    }
    tokio::time::sleep(deadline).await;
}

#[async_trait]
impl<P> ServerApp for Front<P>
where
    P: ProxyHttp + Send + Sync + 'static,
    P::CTX: Send + Sync + 'static,
{
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let Ok(permit) = self.connections.clone().try_acquire_owned() else {
            self.metrics.connections_refused.inc();
            return None;
        };
        let open = Open::new(permit, self.metrics.clone());
        // Until it ends, or becomes a live one: those are drained separately.
        let _counted = self.in_flight.connect();

        let progress = Arc::new(Progress::default());
        let socket = Box::new(ClientSocket::new(stream, Arc::clone(&progress)));
        let mut closing = pin!(self.heads.closing());
        let mut next = self.heads.next(socket, &progress, None, closing.as_mut()).await;
        let mut settings = None;
        while let Some(head) = next.take() {
            let kept = self
                .request(head, settings, &progress, shutdown, self.header_timeout)
                .await;
            let Some(kept) = kept.filter(|_| progress.may_go_on()) else {
                break;
            };
            let (stream, kept_settings) = kept.consume();
            settings = kept_settings;
            progress.renew();
            let Ok(socket) = stream.into_any().downcast::<ClientSocket>() else {
                break;
            };
            let idle = Some(self.keepalive_timeout);
            next = self.heads.next(socket, &progress, idle, closing.as_mut()).await;
        }
        if let Some((start, stream, unused)) = progress.take_live() {
            self.background.spawn(async move {
                let _open = open;
                start.run(stream, &unused).await;
            });
        } else if let Some(stream) = progress.take_answered() {
            // The request is in flight until the client has the answer.
            let _in_flight = self.in_flight.enter();
            lingering_close::close(stream, &self.closing.accepting).await;
        }
        None
    }

    /// Called when the listeners are closed. Idle connections stay open until their step of the shutdown.
    async fn cleanup(&self) {
        self.closing.closed.start();
        self.closing.idle.started().await;
        self.proxy.http_cleanup().await;
    }
}

/// An open connection: holds its permit under the cap and its part of the gauge until it is dropped.
struct Open {
    metrics: Arc<Metrics>,
    _permit: OwnedSemaphorePermit,
}

impl Open {
    fn new(permit: OwnedSemaphorePermit, metrics: Arc<Metrics>) -> Self {
        metrics.connections.inc();
        Self {
            metrics,
            _permit: permit,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.connections.dec();
    }
}
