//! In front of Pingora's proxy: a cap on open connections, heads that are read here (see [`super::head`]), and what
//! becomes of connections when the listeners close.
//!
//! Pingora bounds neither connections nor the time for a head: its header timeout is per read, so a client that sends
//! one byte a minute stays for ever.
//!
//! Pingora gives each socket back ([`ClientSocket`]). A connection that has become a live one leaves Pingora here: what
//! it needs from then on is a fraction of what an exchange needs. One that ends with an answer ends so that the answer
//! arrives ([`last_words`]).

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::apps::{HttpServerApp, ReusedHttpStream, ServerApp};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use pingora_proxy::{HttpProxy, ProxyHttp};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::client_socket::ClientSocket;
use super::head::Heads;
use super::last_words;
use super::progress::Progress;
use super::refusals::Refusals;
use crate::config::Limits;
use crate::metrics::Metrics;
use crate::shutdown::{Closing, InFlight};

/// Accepts connections for the proxy.
pub struct Front<P> {
    proxy: Arc<HttpProxy<P>>,
    connections: Arc<Semaphore>,
    heads: Heads,
    header_timeout: Duration,
    keepalive_timeout: Duration,
    /// Where live connections run: pushing to thousands of them must not hold up the site.
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
    /// Puts the bounds of `limits` in front of `proxy`. All listeners share one cap.
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
            heads: Heads::new(limits, closing.clone(), refusals),
            header_timeout: limits.header_timeout,
            keepalive_timeout: limits.keepalive_timeout,
            background,
            metrics,
            in_flight,
            closing,
        }
    }

    /// One request on a connection. `None` also when the framework does not take its head by `deadline`, or never will.
    async fn request(
        &self,
        session: ServerSession,
        progress: &Progress,
        shutdown: &ShutdownWatch,
        deadline: Duration,
    ) -> Option<ReusedHttpStream> {
        let client = session
            .client_addr()
            .and_then(|address| address.as_inet())
            .map(std::net::SocketAddr::ip);
        let mut work = std::pin::pin!(self.proxy.process_new_http(session, shutdown));
        let done = tokio::select! {
            biased;
            result = &mut work => Some(result),
            () = poll_fn(|_| progress.poll_left()) => return None,
            // Whether a head is complete the framework may see in another way.
            () = tokio::time::sleep(deadline) => None,
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
        // Until it ends, or is a live one: those are seen off by themselves.
        let _counted = self.in_flight.connect();

        let progress = Arc::new(Progress::default());
        let socket = Box::new(ClientSocket::new(stream, Arc::clone(&progress)));
        let mut result = match self.heads.session(socket, &progress, None).await {
            Some(session) => {
                self.request(session, &progress, shutdown, self.header_timeout)
                    .await
            }
            None => None,
        };
        while let Some(kept) = result.take().filter(|_| progress.may_go_on()) {
            let (stream, settings) = kept.consume();
            progress.renew();
            let Ok(socket) = stream.into_any().downcast::<ClientSocket>() else {
                break;
            };
            let idle = Some(self.keepalive_timeout);
            let Some(mut session) = self.heads.session(socket, &progress, idle).await else {
                break;
            };
            if let Some(settings) = settings {
                settings.apply_to_session(&mut session);
            }
            result = self
                .request(session, &progress, shutdown, self.header_timeout)
                .await;
        }
        if let Some((start, stream, unused)) = progress.take_live() {
            self.background.spawn(async move {
                let _open = open;
                start.run(stream, &unused).await;
            });
        } else if let Some(stream) = progress.take_answered() {
            // Until the client has it, the request is in flight.
            let _in_flight = self.in_flight.enter();
            last_words::see_off(stream, &self.closing.accepting).await;
        }
        None
    }

    /// Called when the listeners are closed. Idle connections are left alone until it is their turn.
    async fn cleanup(&self) {
        self.closing.closed.start();
        self.closing.idle.started().await;
        self.proxy.http_cleanup().await;
    }
}

/// An open connection: its place under the cap, and its part in the gauge, however it ends.
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
