//! In front of Pingora's proxy: a cap on open connections, heads that are read here (see [`super::head`]), and what
//! becomes of connections when the listeners close.
//!
//! Pingora bounds neither connections nor the time for a head: its header timeout is per read, so a client that sends
//! one byte a minute stays for ever.
//!
//! A connection that has become a live one leaves Pingora here: what it needs from then on is a fraction of what
//! an exchange needs.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream, ServerApp};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use pingora_proxy::{HttpProxy, ProxyHttp};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::head::Heads;
use super::live::LiveStart;
use super::refusals::Refusals;
use crate::config::Limits;
use crate::metrics::Metrics;
use crate::shutdown::{Closing, InFlight};

tokio::task_local! {
    /// Whether the request being read by this task has a complete head.
    static HEAD_COMPLETE: Cell<bool>;
}

/// Called where the proxy begins with a request: its head is complete.
pub(super) fn head_is_complete() {
    let _ = HEAD_COMPLETE.try_with(|complete| complete.set(true));
}

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
            connections: Arc::new(Semaphore::new(limits.max_connections.min(Semaphore::MAX_PERMITS))),
            heads: Heads::new(limits, closing.clone(), refusals),
            header_timeout: limits.header_timeout,
            keepalive_timeout: limits.keepalive_timeout,
            background,
            metrics,
            in_flight,
            closing,
        }
    }

    /// One request on a connection. `None` also when the framework does not take its head.
    async fn request(&self, session: ServerSession, shutdown: &ShutdownWatch) -> Option<ReusedHttpStream> {
        let client = session
            .client_addr()
            .and_then(|address| address.as_inet())
            .map(std::net::SocketAddr::ip);
        HEAD_COMPLETE
            .scope(Cell::new(false), async {
                let mut exchange = std::pin::pin!(self.proxy.process_new_http(session, shutdown));
                let parsed = tokio::select! {
                    biased;
                    result = &mut exchange => Some(result),
                    // Whether a head is complete the framework may see in another way.
                    () = tokio::time::sleep(self.header_timeout) => None,
                };
                let is_taken = HEAD_COMPLETE.with(Cell::get);
                if !is_taken {
                    self.heads.refused_by_the_framework(client);
                }
                match parsed {
                    Some(result) => result,
                    None if is_taken => exchange.await,
                    None => None,
                }
            })
            .await
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

        let session = self.heads.session(stream, None).await?;
        let mut result = self.request(session, shutdown).await;
        while let Some((stream, settings)) = result.map(ReusedHttpStream::consume) {
            let mut settings = settings;
            let context = settings
                .as_mut()
                .and_then(HttpPersistentSettings::take_user_context);
            if let Some(start) = context.and_then(|context| context.downcast::<LiveStart>().ok()) {
                self.background.spawn(async move {
                    let _open = open;
                    start.run(stream).await;
                });
                return None;
            }
            let mut session = self.heads.session(stream, Some(self.keepalive_timeout)).await?;
            if let Some(settings) = settings {
                settings.apply_to_session(&mut session);
            }
            result = self.request(session, shutdown).await;
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
