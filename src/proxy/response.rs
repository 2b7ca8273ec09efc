//! A response's way back: the page view, the head in the form that the client gets, and failures.

use http::{Version, header};
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::headers::recorded_elsewhere;
use super::limits::Refusal;
use super::messages::{in_our_version, status_of, strip_hop_by_hop};
use super::{Ctx, Sidecar};
use crate::page_view::Exchange;

impl Sidecar {
    /// Hands the exchange over to be recorded.
    pub(super) fn decide(&self, session: &Session, response: &ResponseHeader, ctx: &Ctx) {
        let duration = ctx.started.elapsed();
        self.metrics.upstream_duration.observe(duration);
        let (request, facts) = (session.req_header(), &ctx.facts);
        let exchange = Exchange {
            method: &request.method,
            path: &facts.path,
            query: request.uri.query(),
            request: &request.headers,
            status: response.status,
            response: &response.headers,
            route: facts.route.as_ref(),
            is_of_a_file: false,
            has_token: facts.token.is_some(),
            counted_elsewhere: recorded_elsewhere(&request.headers, &ctx.client),
            client_ip: facts.client_ip,
            started_at: facts.at,
            duration,
        };
        self.intake.record_exchange(facts, exchange);
    }

    /// Puts a response's head into our version, and decides whether the connection goes on after it.
    pub(super) fn pass_back(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
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

    /// The status for a failed exchange, which it counts and logs; 0 when the client has left.
    pub(super) fn failed(&self, session: &Session, error: &Error, ctx: &Ctx) -> u16 {
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
            self.edge.failures.count(status, kind, source, ctx.request_id);
        }
        status
    }
}
