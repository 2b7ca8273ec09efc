//! Pingora proxy (step 1, receive): thin phases around pure functions. A phase reads the session, calls a function,
//! and applies the result; what becomes of a page view is decided by [`crate::recorder::Intake`].
//!
//! Invariant: nothing here waits for a database, for Redis or for a queue, except where a caller of the
//! visitors API waits for its answer.

mod app_clock;
mod canonical;
mod chunks;
pub mod client_ip;
mod client_socket;
mod ctx;
mod edge;
mod failure;
mod failures;
mod forwarded;
mod forwarding;
mod front;
mod handshakes;
mod head;
pub mod headers;
mod hops;
mod identity_headers;
mod inject;
mod limits;
mod lingering_close;
mod live;
mod local;
mod messages;
mod metrics;
mod progress;
mod refusals;
mod request;
mod request_id;
mod response;
mod timeouts;
mod untrusted_proxy;
mod upstream;
mod warnings;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Version, header};
use pingora_core::modules::http::HttpModules;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use crate::api::Api;
use crate::communities::Communities;
use crate::config;
use crate::recorder::Intake;
use crate::shutdown::{InFlight, Shutdown};
use crate::widget::Injector;

pub use ctx::Ctx;
pub use edge::Edge;
pub use front::Front;
pub use handshakes::Handshakes;
pub use metrics::Metrics;
pub use upstream::{NO_AUTHORITIES, Upstreams};

use limits::Refusal;
use messages::has_no_body;
use metrics::NoRoute;

/// The proxy with everything that its phases call.
pub struct Sidecar {
    /// Bounds and trusted proxies.
    pub limits: config::Limits,
    /// Retries, and the timeout of tunnels.
    pub upstream: config::Upstream,
    /// The app's servers.
    pub upstreams: Upstreams,
    /// Steps 2 to 5, match, identify, decide and record: what becomes of page views.
    pub intake: Arc<Intake>,
    /// Step 6, serve.
    pub api: Arc<Api>,
    /// Finds the community of a slug.
    pub communities: Arc<Communities>,
    /// What pages' scripts ask the API for communities by.
    pub community_key: config::CommunityKey,
    /// Puts counts into the app's pages, where that is switched on.
    pub injector: Option<Injector>,
    /// Runs the API's work: a runtime that outlives Pingora's, since connections are made there.
    pub background: tokio::runtime::Handle,
    /// Counts refusals, and logs odd headers.
    pub edge: Edge,
    /// Counts requests.
    pub metrics: Arc<Metrics>,
    /// Requests that shutdown waits for.
    pub in_flight: InFlight,
    /// Once it has started, each answer closes its connection.
    pub leaving: Shutdown,
}

#[async_trait]
impl ProxyHttp for Sidecar {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        Ctx::new(self.in_flight.enter(), self.edge.no_progress())
    }

    fn init_downstream_modules(&self, _modules: &mut HttpModules) {
        // None: responses pass as the app made them.
    }

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<()> {
        self.begin(session, ctx);
        // HTTP/1.0 knows no interim answers (RFC 9110, 15.2).
        let is_old = session.req_header().version == Version::HTTP_10;
        session.as_downstream_mut().set_ignore_info_resp(is_old);
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        if let Err(refusal) = self.admit(session, ctx) {
            self.refuse(session, ctx, refusal).await?;
            return Ok(true);
        }
        if let Some(path) = ctx.api_path.clone() {
            ctx.no_route = NoRoute::Api;
            self.answer_locally(session, ctx, path).await?;
            return Ok(true);
        }
        let request = session.req_header();
        let (method, path) = (&request.method, request.raw_path());
        if self.passes_only() {
            self.intake.find_route(&mut ctx.facts, path);
            return Ok(false);
        }
        self.intake
            .start_lookup(&mut ctx.facts, method, path, &request.headers);
        Ok(false)
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        ctx.attempts += 1;
        let headers = &session.req_header().headers;
        // Most requests have none of these: a search for each is shorter than what the framework makes of them.
        let may_have_a_body =
            headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING);
        let needs_timeout =
            headers.contains_key(header::UPGRADE) || may_have_a_body && !session.is_body_empty();
        let (peer, server) = self.upstreams.select(needs_timeout)?;
        ctx.server = server;
        Ok(peer)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Ctx,
        mut error: Box<Error>,
    ) -> Box<Error> {
        if let Some(server) = &ctx.server {
            self.upstreams.servers.no_connection(server, &error);
        }
        error.set_retry(ctx.attempts <= self.upstream.retries);
        error
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Ctx,
    ) -> Result<()> {
        if session.was_upgraded() {
            return Ok(()); // no body, but a tunnel
        }
        if body.is_some() {
            self.client_may_send(session, ctx);
        }
        if end_of_stream {
            ctx.progress.is_read();
        }
        ctx.body_bytes += body.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let limit = self.limits.max_body_bytes.as_u64();
        if limit > 0 && ctx.body_bytes > limit {
            self.metrics.requests_refused[Refusal::BodySize].inc();
            return Err(Error::new_down(ErrorType::HTTPStatus(413)));
        }
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        upstream: &mut RequestHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        // For this attempt: the framework repeats the part of the body that it kept.
        ctx.body_bytes = 0;
        self.prepare(session, upstream, ctx)?;
        self.app_is_asked(session, ctx);
        if let Some(server) = &ctx.server {
            self.upstreams.servers.asked(server);
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        if response.status == 101 && !ctx.upgrade {
            // A tunnel without a request for one: the client would take raw bytes for its next response.
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, "an unasked 101").into_up());
        }
        if let Some(server) = &ctx.server {
            self.upstreams.servers.answered(server);
        }
        self.app_answers(session, response, ctx);
        ctx.body_ended |= has_no_body(response) || session.req_header().method == http::Method::HEAD;
        let informational = response.status.is_informational();
        if !ctx.decided && (!informational || response.status == 101) {
            ctx.decided = true;
            self.decide(session, response, ctx);
        }
        if !informational {
            self.begin_page(session, response, ctx)?;
        }
        self.pass_back(session, response, ctx)
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Ctx,
    ) -> Result<Option<Duration>> {
        ctx.progress.app_spoke();
        ctx.body_ended = end_of_stream;
        if end_of_stream {
            // The app has answered, so only the client's own timeout applies to the rest of its body.
            self.client_may_send(session, ctx);
        }
        self.rewrite(body, end_of_stream, ctx)?;
        Ok(None)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Ctx) -> FailToProxy {
        let status = self.failed(session, error, ctx);
        if local::is_answered(session) {
            if !ctx.body_ended {
                ctx.progress.break_off();
            }
        } else if status > 0 {
            let _ = self.respond_error(session, ctx, status).await;
        }
        FailToProxy {
            error_code: status,
            can_reuse_downstream: false,
        }
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &Ctx, _error: &Error) -> bool {
        true // logged in `fail_to_proxy`
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &Ctx,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }

    async fn logging(&self, session: &mut Session, _error: Option<&Error>, ctx: &mut Ctx) {
        let written = session
            .response_written()
            .map(|response| response.status.as_u16());
        let status = ctx.status.or(written).unwrap_or(0);
        let duration = (!ctx.tunnel).then(|| ctx.started.elapsed());
        self.metrics.ended(&ctx.label(), status, duration);
    }
}
