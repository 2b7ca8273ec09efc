//! Local answers: the visitors API and short error pages, which the sidecar sends itself.

use bytes::{Bytes, BytesMut};
use http::response::Parts;
use http::{Response, StatusCode, Uri, header};
use pingora_core::{Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use tokio::time::timeout;

use super::live::LiveStart;
use super::messages::expects_continue;
use super::{Ctx, Sidecar};
use crate::api::{ApiPath, Body, Caller, MAX_REPORT};

/// Upper bound of an answer of the visitors API, in bytes. Instead of a larger one, 500 is sent.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

impl Sidecar {
    /// Lets the visitors API answer. It runs on the background runtime, to which its connections belong.
    pub(super) async fn answer_locally(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        path: ApiPath,
    ) -> Result<()> {
        let is_report = path.takes_a_report();
        let body = if is_report {
            match timeout(self.api.timeout(), read_report(session)).await {
                Ok(body) => body?,
                Err(_elapsed) => return self.respond_error(session, ctx, 408).await,
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
        let answer = if std::str::from_utf8(head.raw_path()).is_ok() {
            let answer = self.ask_api(path, head, body, ctx).await;
            answer.ok_or(StatusCode::INTERNAL_SERVER_ERROR)
        } else {
            Err(StatusCode::BAD_REQUEST)
        };
        let response = answer.unwrap_or_else(|status| self.refusal(head, status, ctx).map(Body::Bytes));
        if response.headers().contains_key(header::CONNECTION) {
            session.set_keepalive(None);
        }
        let (head, body) = response.into_parts();
        match body {
            Body::Bytes(body) => write(session, &head, body).await,
            Body::Live(connection) => {
                ctx.status = Some(head.status.as_u16());
                ctx.tunnel = true;
                let start = LiveStart::answer(session, ctx.facts.at, connection, &head).await?;
                ctx.progress.leave(start);
                Ok(())
            }
        }
    }

    /// The API's answer; `None`, after logging it, where it has failed.
    async fn ask_api(
        &self,
        path: ApiPath,
        head: &RequestHeader,
        body: Bytes,
        ctx: &Ctx,
    ) -> Option<Response<Body>> {
        let mut request = head.as_owned_parts();
        if path.is_live() {
            self.without_jwt(&mut request.uri);
        }
        let mut caller = Caller {
            at: ctx.facts.at,
            headers: request.headers.clone(),
            token: ctx.facts.token.clone(),
            key: ctx.key.clone(),
            address: ctx.client.ip,
            behind_a_proxy: ctx.client.peer_trusted,
            ..Caller::default()
        };
        self.edit_headers(head, &mut caller.headers, ctx);
        if let Some(authorization) = &ctx.facts.authorization {
            caller
                .headers
                .insert(header::AUTHORIZATION, authorization.clone());
        }
        let api = self.api.clone();
        let work = self.background.spawn(async move {
            api.identify(&path, &mut caller).await;
            api.call(&path, &request, &body, caller).await
        });
        let answer = work
            .await
            .inspect_err(|error| tracing::error!(error = %error, "the visitors API failed"))
            .ok()?;
        if let Body::Bytes(body) = answer.body()
            && body.len() > MAX_ANSWER
        {
            let bytes = body.len();
            tracing::error!(
                bytes,
                "an answer of the visitors API is larger than {MAX_ANSWER} bytes"
            );
            return None;
        }
        Some(answer)
    }

    /// Takes the JWT out of a query.
    fn without_jwt(&self, uri: &mut Uri) {
        let Some(query) = uri.query() else {
            return;
        };
        let rest = self.intake.without_jwt(query);
        if rest != query
            && let Ok(without) = format!("{}?{rest}", uri.path()).parse()
        {
            *uri = without;
        }
    }

    /// The answer to a refused request: the API's own document on its paths, a short text on the app's.
    fn refusal(&self, head: &RequestHeader, status: StatusCode, ctx: &Ctx) -> Response<Bytes> {
        match &ctx.api_path {
            Some(path) => self.api.refuse(path, &head.headers, status),
            None => plain(status),
        }
    }

    /// Sends a short answer with this status. The connection ends with it.
    pub(super) async fn respond_error(&self, session: &mut Session, ctx: &Ctx, status: u16) -> Result<()> {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if is_answered(session) {
            return Ok(());
        }
        session.set_keepalive(None);
        let (head, body) = self.refusal(session.req_header(), status, ctx).into_parts();
        write(session, &head, body).await
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
    if status == StatusCode::METHOD_NOT_ALLOWED {
        // RFC 9110, 15.5.6. The usual ones; any method but TRACE and CONNECT goes to the app.
        let passed_on = header::HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        headers.insert(header::ALLOW, passed_on);
    }
    response
}

async fn write(session: &mut Session, head: &Parts, body: Bytes) -> Result<()> {
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
