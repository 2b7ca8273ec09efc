//! Timeouts for silence of client and app. They depend on the app's answer, not on the client's headers: a `WebSocket`
//! or an event stream has a timeout of its own once the app has answered with one.

use http::header;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::client_socket::ClientSocket;
use super::messages::{expects_continue, is_event_stream};
use super::{Ctx, Sidecar};

impl Sidecar {
    /// Sets the timeouts once a request's head is complete.
    pub(super) fn begin(&self, session: &mut Session, ctx: &mut Ctx) {
        ctx.progress = ClientSocket::progress_of(session);
        let headers = &session.req_header().headers;
        // The framework refuses codings that do not end with chunks.
        ctx.progress
            .begin(headers.contains_key(header::TRANSFER_ENCODING));
        if headers.contains_key(header::UPGRADE) {
            ctx.progress.a_tunnel_is_asked_for();
        }
        // Pingora keeps connections for ever unless told otherwise, request by request. Where it keeps none
        // (HTTP/1.0, ambiguous framing, shutdown), that must stay.
        if session.get_keepalive().is_some() {
            session.set_keepalive(Some(self.limits.keepalive_timeout.as_secs().max(1)));
        }
        session.set_read_timeout(Some(self.limits.read_timeout));
        session.set_write_timeout(Some(self.limits.write_timeout));
    }

    /// Starts the app's timeout: the request is on its way to it.
    pub(super) fn app_is_asked(&self, session: &mut Session, ctx: &mut Ctx) {
        let goes_first = expects_continue(session.req_header());
        let patience = self.upstream.read_timeout;
        if ctx.progress.app_was_asked(patience, goes_first) {
            // The client has to wait: only the app's time counts.
            ctx.waits_for_the_app = true;
            session.set_read_timeout(None);
        }
    }

    /// Starts the client's timeout: the app asked for the body, or the client sends it unasked.
    pub(super) fn client_may_send(&self, session: &mut Session, ctx: &mut Ctx) {
        if std::mem::take(&mut ctx.waits_for_the_app) {
            ctx.progress.app_wants_the_body();
            session.set_read_timeout(Some(self.limits.read_timeout));
        }
    }

    /// Adjusts the timeouts to a response head of the app.
    pub(super) fn app_answers(&self, session: &mut Session, response: &ResponseHeader, ctx: &mut Ctx) {
        ctx.progress.app_spoke();
        if response.status == 100 {
            self.client_may_send(session, ctx);
        }
        if response.status == 101 {
            ctx.tunnel = true;
            ctx.progress.becomes_a_tunnel();
            session.set_read_timeout(Some(self.upstream.tunnel_timeout));
        } else if is_event_stream(response) {
            ctx.tunnel = true;
            ctx.progress.app_may_take(self.upstreams.longest_silence);
        }
    }
}
