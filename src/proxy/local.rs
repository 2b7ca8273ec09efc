//! Local answers: the visitors API and short error pages, which the sidecar sends itself.

use axum::body::{Body, to_bytes};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response, StatusCode, header};
use pingora_core::{Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use tokio::time::timeout;

use super::live::LiveStart;
use super::messages::expects_continue;
use super::{Ctx, Sidecar};
use crate::api::{Caller, MAX_REPORT, Opening};
use crate::auth::Known;

/// Upper bound of an API answer: a page of `api.max_limit` visitors is far below.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

impl Sidecar {
    /// Lets the visitors API answer. It runs on the background runtime, to which its connections belong.
    pub(super) async fn answer_locally(&self, session: &mut Session, ctx: &mut Ctx) -> Result<()> {
        let is_report = self.api.takes_a_report(path_of(session.req_header()));
        let body = if is_report {
            match timeout(self.api.timeout(), read_report(session)).await {
                Ok(body) => body?,
                Err(_elapsed) => return self.respond_error(session, 408).await,
            }
        } else {
            Bytes::new()
        };
        // A body for a path that takes none is not read: the connection ends with the answer.
        let has_body = !session.is_body_empty();
        if has_body && (!is_report || body.len() > MAX_REPORT) {
            session.set_keepalive(None);
        }
        let head = session.req_header();
        let answer = match Self::api_request(session, body) {
            Some(request) => {
                let mut forwarded = head.headers.clone();
                self.edits(head, ctx).apply(&mut forwarded);
                let answer = self.ask_api(request, forwarded, !is_report, ctx).await;
                answer.ok_or(StatusCode::INTERNAL_SERVER_ERROR)
            }
            None => Err(StatusCode::BAD_REQUEST),
        };
        let mut response = match answer {
            Ok(response) => response,
            Err(status) => self.refusal(head, status).await,
        };
        if response.headers().contains_key(header::CONNECTION) {
            session.set_keepalive(None);
        }
        let opening = response.extensions_mut().remove::<Opening>();
        if let Some(connection) = opening.and_then(|opening| opening.take()) {
            return LiveStart::leave(session, ctx, connection, &response.into_parts().0).await;
        }
        write(session, response).await
    }

    /// The API's answer; `None`, after logging it, where it has failed. `identify`: whether the answer depends on the
    /// token's session.
    async fn ask_api(
        &self,
        mut request: Request<Body>,
        forwarded: HeaderMap,
        identify: bool,
        ctx: &Ctx,
    ) -> Option<Response<Bytes>> {
        let api = self.api.clone();
        let authenticator = self.authenticator.clone();
        let (at, address) = (ctx.facts.at, ctx.client.ip);
        let mut caller = Caller {
            at,
            headers: forwarded,
            token: ctx.facts.token.clone(),
            address,
            behind_a_proxy: ctx.client.peer_trusted,
            ..Caller::default()
        };
        let patient = api.pushes(request.uri().path());
        let work = self.background.spawn(async move {
            if let Some(token) = caller.token.clone().filter(|_| identify) {
                match authenticator.cached_now(&token, at).await {
                    Known::Session(session) => caller.session = Some(session),
                    Known::Nobody => {}
                    Known::Unknown => {
                        // A database that hangs, or a long queue of lookups, must not hold the caller.
                        let found = timeout(api.timeout(), async {
                            let _place = api.identifying(patient).await?;
                            authenticator.resolve_from(&token, at, address).await.ok()
                        });
                        match found.await {
                            Ok(Some(found)) => caller.session = found,
                            Ok(None) | Err(_) => caller.unavailable = true,
                        }
                    }
                }
            }
            if let (Some(token), None, true) = (&caller.token, &caller.session, identify) {
                caller.may_appear = authenticator.may_appear(token).await;
            }
            request.extensions_mut().insert(caller);
            read(api.call(request).await).await
        });
        match work.await {
            Ok(Some(response)) => return Some(response),
            Ok(None) => tracing::error!("an answer of the visitors API is too large"),
            Err(error) => tracing::error!(error = %error, "the visitors API failed"),
        }
        None
    }

    /// The answer to a refused request: the API's own document on its paths, a short text on the app's.
    async fn refusal(&self, head: &RequestHeader, status: StatusCode) -> Response<Bytes> {
        match self.api.refuse(path_of(head), &head.headers, status) {
            Some(response) => read(response).await.unwrap_or_else(|| plain(status)),
            None => plain(status),
        }
    }

    /// Sends a short answer with this status. The connection ends with it.
    pub(super) async fn respond_error(&self, session: &mut Session, status: u16) -> Result<()> {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if is_answered(session) {
            return Ok(());
        }
        session.set_keepalive(None);
        let response = self.refusal(session.req_header(), status).await;
        write(session, response).await
    }

    /// The request for the API; `None` when its target is no URI.
    fn api_request(session: &Session, body: Bytes) -> Option<Request<Body>> {
        let head = session.req_header();
        let mut request = Request::builder()
            .method(head.method.clone())
            .version(head.version)
            .uri(std::str::from_utf8(head.raw_path()).ok()?)
            .body(Body::from(body))
            .ok()?;
        *request.headers_mut() = head.headers.clone();
        Some(request)
    }
}

/// A report's body; of one that is too large, enough to see that. Errors count as the client's.
async fn read_report(session: &mut Session) -> Result<Bytes> {
    if expects_continue(session.req_header()) && !session.is_body_empty() {
        let told = session.as_downstream_mut().write_continue_response().await;
        told.map_err(Error::into_down)?;
    }
    let mut body = BytesMut::new();
    while body.len() <= MAX_REPORT
        && let Some(bytes) = session.read_request_body().await.map_err(Error::into_down)?
    {
        body.extend_from_slice(&bytes);
    }
    Ok(body.freeze())
}

/// The path of a request's target, without the query.
pub(super) fn path_of(request: &RequestHeader) -> &str {
    request.uri.path()
}

/// Bytes of the request's head as sent.
pub(super) fn head_bytes(session: &Session) -> usize {
    session
        .as_downstream()
        .as_http1()
        .map_or(0, |session| session.get_headers_raw_bytes().len())
}

/// Whether an answer has begun, or the connection is a tunnel.
pub(super) fn is_answered(session: &Session) -> bool {
    let written = session.response_written().map(|response| response.status);
    written.is_some_and(|status| !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS)
}

/// An answer with its body; `None` if that is too large.
async fn read(response: Response<Body>) -> Option<Response<Bytes>> {
    let (head, body) = response.into_parts();
    let body = to_bytes(body, MAX_ANSWER).await.ok()?;
    Some(Response::from_parts(head, body))
}

fn plain(status: StatusCode) -> Response<Bytes> {
    let reason = status.canonical_reason().unwrap_or("Error");
    let text = format!("{} {reason}\n", status.as_u16());
    let mut response = Response::new(Bytes::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-store"),
    );
    response
}

async fn write(session: &mut Session, response: Response<Bytes>) -> Result<()> {
    let (head, body) = response.into_parts();
    let mut header = ResponseHeader::build(head.status, Some(head.headers.len() + 2))?;
    for (name, value) in &head.headers {
        header.append_header(name.clone(), value.clone())?;
    }
    let has_length = !matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if !head.headers.contains_key(header::CONTENT_LENGTH) && has_length {
        header.insert_header(header::CONTENT_LENGTH, body.len())?;
    }
    let empty = body.is_empty() || session.req_header().method == http::Method::HEAD;
    session.write_response_header(Box::new(header), empty).await?;
    if !empty {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}
