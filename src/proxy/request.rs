//! A request's way to the app: checks, the facts about its client, and the changes to its head.

use std::net::SocketAddr;

use http::header;
use pingora_core::Result;
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::canonical::canonicalise;
use super::client_ip::client_ip;
use super::headers::{self, Received};
use super::limits::{self, Refusal, RequestHead};
use super::messages::has_large_body;
use super::metrics::NoRoute;
use super::request_id::RequestId;
use super::{Ctx, Sidecar, local};
use crate::api::ApiPath;
use crate::header_edits::EditHeaders;

impl Sidecar {
    /// Checks a request, and finds out who sends it.
    pub(super) fn admit(&self, session: &mut Session, ctx: &mut Ctx) -> Result<(), Refusal> {
        let canonical = canonicalise(session.req_header_mut());
        ctx.api_path = self.api.parse(session.req_header().uri.path());
        canonical.map_err(|_| Refusal::Malformed)?;
        self.check(session)?;
        let request = session.req_header();
        ctx.hops = self.edge.pass(&request.headers)?;
        let peer = session
            .client_addr()
            .and_then(|address| address.as_inet())
            .map(SocketAddr::ip);
        let (proxies, sidecars) = (&self.limits.trusted_proxies, &self.limits.sidecars);
        ctx.client = client_ip(peer, &request.headers, proxies, sidecars);
        self.edge.notice(&request.headers, &ctx.client);
        ctx.tls = session.digest().is_some_and(|digest| digest.ssl_digest.is_some());
        if let Some(path) = &ctx.api_path {
            ctx.key = self.api.key_of(path, &request.headers, ctx.facts.at);
        }
        if ctx.key.is_some() {
            // A server's: it has no session, whatever else is in the request.
            ctx.facts.client_ip = ctx.client.ip;
            return Ok(());
        }
        if ctx.api_path.is_none() && self.passes_only() {
            ctx.facts.client_ip = ctx.client.ip;
            return Ok(());
        }
        self.intake.read(&mut ctx.facts, ctx.client.ip, &request.headers);
        if ctx.api_path.as_ref().is_some_and(ApiPath::is_live) {
            let query = request.uri.query();
            self.intake
                .read_handshake(&mut ctx.facts, &request.headers, query);
        }
        Ok(())
    }

    /// Whether requests to the app are passed on and no more: it is of no interest who visits which page.
    pub(super) fn passes_only(&self) -> bool {
        self.injector.is_none() && !self.intake.asks_for_visitors()
    }

    fn check(&self, session: &Session) -> Result<(), Refusal> {
        let request = session.req_header();
        let head = RequestHead {
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

    /// Answers a refused request.
    pub(super) async fn refuse(&self, session: &mut Session, ctx: &mut Ctx, refusal: Refusal) -> Result<()> {
        ctx.no_route = NoRoute::Refused;
        self.edge.refuse(session, refusal);
        self.respond_error(session, ctx, refusal.status()).await
    }

    /// Changes a request's headers, which `head` begins with, to those that the app gets.
    pub(super) fn edit_headers(&self, request: &RequestHeader, head: &mut impl EditHeaders, ctx: &Ctx) {
        let mut buffer = [0; RequestId::LENGTH];
        let received = Received {
            client: &ctx.client,
            identity_headers: &self.limits.identity_headers,
            underscores: self.limits.underscore_headers,
            tls: ctx.tls,
            hops: &ctx.hops,
            recording: self.intake.is_recording,
            new_request_id: ctx.request_id.text(&mut buffer),
        };
        if let Some(dropped) = headers::edit_for_app(&request.headers, head, &received) {
            self.edge.notice_dropped(dropped);
        }
    }

    /// Makes the head for the app: what a good reverse proxy says of the client, and how the connection is used.
    pub(super) fn prepare(
        &self,
        session: &Session,
        upstream: &mut RequestHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        self.edit_headers(session.req_header(), upstream, ctx);
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
        Ok(())
    }
}
