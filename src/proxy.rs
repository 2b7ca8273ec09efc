//! Pingora proxy (step 1, receive): thin phases around pure functions. A phase reads the session, calls a pure
//! function, and applies the result; what happens to a page view is decided elsewhere.
//!
//! Invariant: nothing here waits for a database, for Redis or for a queue, except where a caller of the
//! visitors API waits for its answer.

mod canonical;
mod chunks;
pub mod client_ip;
mod client_socket;
mod ctx;
mod edge;
mod forwarded;
mod forwarding;
mod front;
mod handshakes;
mod head;
pub mod headers;
mod hops;
mod identity;
mod inject;
mod last_words;
mod limits;
mod live;
mod local;
mod messages;
mod metrics;
mod progress;
mod refusals;
mod timeouts;
mod upstream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Version, header};
use pingora_core::modules::http::HttpModules;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use crate::api::{Api, Report};
use crate::auth::cookie::{TokenFound, session_token, tokens_set};
use crate::auth::{Authenticator, Glances, Known};
use crate::communities::Communities;
use crate::config;
use crate::live::Door;
use crate::page_view::{Beacon, Exchange, Files, NotCounted, PageView, Policy, may_be_view};
use crate::recorder::{Recorder, Visit, Who};
use crate::reload::SharedRoutes;
use crate::routes::decode_path;
use crate::shutdown::{InFlight, Shutdown};
use crate::widget::Injector;

pub use ctx::Ctx;
pub use edge::Edge;
pub use front::Front;
pub use handshakes::Handshakes;
pub use metrics::Metrics;
pub use upstream::Upstreams;

use crate::header_edits::HeaderEdits;
use canonical::canonicalise;
use client_ip::client_ip;
use headers::Received;
use limits::{Head, Refusal};
use messages::{has_large_body, has_no_body, in_our_version, status_of, strip_hop_by_hop};
use metrics::NoRoute;

/// The proxy with everything that its phases call.
pub struct Sidecar {
    /// Bounds and trusted proxies.
    pub limits: config::Limits,
    /// The cookie, and the form of its tokens.
    pub session: config::Session,
    /// Retries, and the timeout of tunnels.
    pub upstream: config::Upstream,
    /// The app's servers.
    pub upstreams: Upstreams,
    /// Step 2, match.
    pub routes: SharedRoutes,
    /// Step 3, identify.
    pub authenticator: Arc<Authenticator>,
    /// Step 3 for page views: lookups that start with the request.
    pub glances: Glances,
    /// Step 4, decide.
    pub policy: Policy,
    /// Files sent before, for step 4.
    pub files: Files,
    /// Step 5, record.
    pub recorder: Recorder,
    /// Whether anything is recorded; sidecars nearer to the app then do not record the request (V8).
    pub is_recording: bool,
    /// Step 6, serve.
    pub api: Arc<Api>,
    /// Finds the community of a slug.
    pub communities: Arc<Communities>,
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
        Ctx::new(self.in_flight.enter())
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
        let is_in_form = canonicalise(session.req_header_mut()).map_err(|_| Refusal::Malformed);
        let passed = is_in_form
            .and_then(|()| self.check(session))
            .and_then(|()| self.edge.pass(&session.req_header().headers));
        match passed {
            Ok(hops) => ctx.hops = hops,
            Err(refusal) => {
                self.refuse(session, ctx, refusal).await?;
                return Ok(true);
            }
        }
        let request = session.req_header();
        ctx.path = decode_path(request.raw_path()).into_owned();
        let peer = session
            .client_addr()
            .and_then(|address| address.as_inet())
            .map(SocketAddr::ip);
        let (proxies, sidecars) = (&self.limits.trusted_proxies, &self.limits.sidecars);
        ctx.client = client_ip(peer, &request.headers, proxies, sidecars);
        self.edge
            .notice(&request.headers, &ctx.client, self.limits.underscore_headers);
        ctx.tls = session.digest().is_some_and(|digest| digest.ssl_digest.is_some());
        ctx.token = session_token(
            &request.headers,
            &self.session.cookie,
            self.session.token_min_length,
            self.session.token_max_length,
        );
        if ctx.token == TokenFound::Malformed {
            self.authenticator.count_malformed();
        }
        if self.api.owns(local::path_of(request)) {
            ctx.no_route = NoRoute::Api;
            self.answer_locally(session, ctx).await?;
            return Ok(true);
        }
        ctx.route = self.routes.load().find(&ctx.path);
        if let Some(token) = ctx.token.token().filter(|_| self.is_recording)
            && may_be_view(&request.method, &request.headers, ctx.route.as_ref())
        {
            ctx.glance = self.glances.at(token, ctx.at, ctx.client.ip).await;
        }
        Ok(false)
    }

    async fn upstream_peer(&self, _session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        ctx.attempts += 1;
        self.upstreams.select()
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Ctx,
        mut error: Box<Error>,
    ) -> Box<Error> {
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
        let edits = self.edits(session.req_header(), ctx);
        for name in edits.remove {
            upstream.remove_header(&name);
        }
        for (name, value) in edits.set {
            upstream.insert_header(name, value)?;
        }
        if !upstream.headers.contains_key(header::HOST) {
            // HTTP/1.0 goes on as HTTP/1.1, which needs a host: one that the app answers to.
            upstream.insert_header(header::HOST, &self.upstream.health_host)?;
        }
        self.prepare_page(session, upstream, ctx)?;
        // Whether the upgrade is still in the request: the framework passes on a WebSocket's only.
        ctx.upgrade = upstream.headers.contains_key(header::UPGRADE);
        if has_large_body(upstream) {
            upstream.insert_header(header::CONNECTION, "close")?;
        }
        self.app_is_asked(session, ctx);
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
        self.app_answers(session, response, ctx);
        ctx.body_ended |= has_no_body(response) || session.req_header().method == http::Method::HEAD;
        let informational = response.status.is_informational() && response.status != 101;
        if !ctx.decided && !informational {
            ctx.decided = true;
            self.metrics.upstream_duration.observe(ctx.started.elapsed());
            if self.is_recording {
                self.decide(session, response, ctx).await;
            }
        }
        if !informational {
            self.note_cookies(response);
        }
        if !response.status.is_informational() {
            self.begin_page(session, response, ctx).await?;
        }
        if response.status != 101 {
            strip_hop_by_hop(response);
            in_our_version(response)?;
        }
        if (self.leaving.has_started() || ctx.progress.is_last()) && !response.status.is_informational() {
            // Pingora does the same for requests that come later.
            session.set_keepalive(None);
        }
        if ctx.body_ended {
            self.client_may_send(session, ctx);
        }
        if session.req_header().version == Version::HTTP_10
            && response.headers.contains_key(header::TRANSFER_ENCODING)
        {
            // HTTP/1.0 knows no chunks: the body ends with the connection.
            response.remove_header(&header::TRANSFER_ENCODING);
            session.set_keepalive(None);
        }
        Ok(())
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
        ctx.progress.stop_clock();
        let (status, kind, source) = if ctx.progress.app_was_late() {
            (504, &ErrorType::ReadTimedout, &ErrorSource::Upstream)
        } else {
            (status_of(error), error.etype(), error.esource())
        };
        if status == 400 && *kind == ErrorType::InvalidHTTPHeader {
            // Faults that the framework finds only when it passes the request on.
            self.edge.refuse(session, Refusal::Malformed);
        }
        if status >= 500 {
            // The error's own text may quote headers, so only its kind is logged.
            tracing::warn!(
                status,
                kind = kind.as_str(),
                source = source.as_str(),
                request_id = ctx.request_id,
                "a request could not be proxied"
            );
        }
        if local::is_answered(session) {
            if !ctx.body_ended {
                ctx.progress.break_off();
            }
        } else if status > 0 {
            let _ = self.respond_error(session, status).await;
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
        let route = ctx.label();
        self.metrics.requests.of(route, status).inc();
        if !ctx.tunnel {
            self.metrics
                .request_duration
                .observe(route, ctx.started.elapsed());
        }
    }
}

impl Sidecar {
    fn check(&self, session: &Session) -> Result<(), Refusal> {
        let request = session.req_header();
        let head = Head {
            method: &request.method,
            target: request.raw_path(),
            version: request.version,
            headers: &request.headers,
            bytes: local::head_bytes(session),
        };
        limits::check(
            &head,
            self.limits.max_header_bytes.as_u64(),
            self.limits.max_body_bytes.as_u64(),
        )
    }

    async fn refuse(&self, session: &mut Session, ctx: &mut Ctx, refusal: Refusal) -> Result<()> {
        ctx.no_route = NoRoute::Refused;
        self.edge.refuse(session, refusal);
        self.respond_error(session, refusal.status()).await
    }

    /// The changes to a request's headers on their way to the app.
    fn edits(&self, request: &RequestHeader, ctx: &Ctx) -> HeaderEdits {
        let received = Received {
            client: &ctx.client,
            identity_headers: &self.limits.identity_headers,
            underscores: self.limits.underscore_headers,
            tls: ctx.tls,
            hops: &ctx.hops,
            recording: self.is_recording,
            new_request_id: &ctx.request_id,
        };
        headers::upstream_edits(&request.headers, &received)
    }

    /// Steps 3 to 5: identify, decide, record.
    async fn decide(&self, session: &Session, response: &ResponseHeader, ctx: &Ctx) {
        let request = session.req_header();
        let query = request.uri.query();
        let answer = (response.status, &response.headers);
        let is_of_a_file =
            (self.files).note_or_know(&request.method, &ctx.path, query, &request.headers, answer);
        let exchange = Exchange {
            method: &request.method,
            path: &ctx.path,
            query,
            request: &request.headers,
            status: response.status,
            response: &response.headers,
            route: ctx.route.as_ref(),
            is_of_a_file,
            has_token: ctx.token.token().is_some(),
            counted_elsewhere: headers::recorded_elsewhere(&request.headers, &ctx.client),
            client_ip: ctx.client.ip,
            started_at: ctx.at,
            duration: ctx.started.elapsed(),
        };
        self.record(PageView::from_exchange(&exchange, &self.policy), None, ctx)
            .await;
    }

    /// The app sets a session cookie: cached answers that its token has no session are no longer used.
    fn note_cookies(&self, response: &ResponseHeader) {
        let config::Session {
            cookie,
            token_min_length,
            token_max_length,
            ..
        } = &self.session;
        for token in tokens_set(&response.headers, cookie, *token_min_length, *token_max_length) {
            self.authenticator.appeared(token.fingerprint());
        }
    }

    /// The same for a view that a page reports (V5).
    async fn record_report(&self, request: &RequestHeader, report: &Report, ctx: &Ctx) {
        let (path, query) = match report.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (&*report.target, None),
        };
        // Paths of the sidecar's own API are no pages (V4).
        let is_recorded = self.is_recording && !self.api.owns(path) && {
            let path = decode_path(path.as_bytes());
            let route = self.routes.load().find(&path);
            let beacon = Beacon {
                path: &path,
                query,
                referrer: report.referrer.as_deref().map(str::as_bytes),
                request: &request.headers,
                route: route.as_ref(),
                has_token: ctx.token.token().is_some(),
                client_ip: ctx.client.ip,
                at: ctx.at,
            };
            let door = Some(Arc::clone(&report.door));
            self.record(PageView::from_beacon(&beacon, &self.policy), door, ctx)
                .await
        };
        self.api.count_report(is_recorded);
    }

    /// Hands a view to the recorder, or counts why it is none. Returns whether it was handed over.
    async fn record(
        &self,
        view: std::result::Result<PageView, NotCounted>,
        door: Option<Arc<dyn Door>>,
        ctx: &Ctx,
    ) -> bool {
        let not_counted = match (view, ctx.token.token()) {
            (Ok(view), Some(token)) => {
                let known = match ctx.glance.session() {
                    Some(session) => Known::Session(Arc::clone(session)),
                    None => self.authenticator.cached(token, ctx.at).await,
                };
                let who = match known {
                    Known::Session(session) => Some(Who::Session(session)),
                    Known::Unknown => Some(Who::Token(token.clone(), ctx.glance.clone())),
                    Known::Nobody => None,
                };
                if let Some(who) = who {
                    self.recorder
                        .record(Visit {
                            view,
                            who,
                            door,
                            from: ctx.client.ip,
                        })
                        .await;
                    return true;
                }
                NotCounted::Anonymous
            }
            (Ok(_), None) => NotCounted::Anonymous,
            (Err(reason), _) => reason,
        };
        self.metrics.views.not_counted[not_counted].inc();
        false
    }
}
