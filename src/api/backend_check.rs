//! The backend check: asks the app whether a caller may see a community.
//! It is one `GET` with the caller's credentials.
//!
//! Each check has its own connection, closed afterwards: checks are rare (their outcomes are cached), and a
//! connection that is not kept cannot go stale.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http::header::{ACCEPT, ACCEPT_LANGUAGE, AUTHORIZATION, CONNECTION, COOKIE, FORWARDED, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, StatusCode};
use pingora_core::protocols::http::v1::client::HttpSession;
use pingora_core::protocols::l4::stream::Stream;
use pingora_http::RequestHeader;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::config;

/// Bytes of the app's answer that are read so that it can finish writing; beyond that, the connection is closed.
const MAX_DRAINED: usize = 64 * 1024;
/// How long that may take.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(250);

/// Asks the app.
#[async_trait]
pub trait BackendCheck: Send + Sync + 'static {
    /// The status with which the app answers `GET path` to a caller with these headers. Redirects are not
    /// followed.
    async fn may_see(&self, path: &str, headers: &HeaderMap) -> Result<StatusCode, CheckError>;
}

/// Why the app could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// `upstream.servers` is empty.
    #[error("no upstream server is configured")]
    NoServer,
    /// No server took the connection.
    #[error("no upstream server can be reached")]
    Unreachable(#[source] io::Error),
    /// The exchange broke off, or the answer is no HTTP.
    #[error("the exchange with the upstream server failed")]
    Exchange(#[source] pingora_core::BError),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

/// Asks the configured upstream servers, in turn.
#[derive(Debug)]
pub struct UpstreamCheck {
    servers: Vec<BackendServer>,
    next: AtomicUsize,
    /// `Host` for callers who name none.
    host: String,
    connect_timeout: Duration,
    timeout: Duration,
}

#[derive(Debug)]
enum BackendServer {
    /// `host:port`; the name is resolved at each check.
    Tcp(String),
    Unix(PathBuf),
}

impl UpstreamCheck {
    /// `timeout` is for everything up to the head of the answer, `upstream.connect_timeout` for each attempt to connect. A server that
    /// does not take the connection is passed over; a request that was sent is not repeated.
    pub fn new(upstream: &config::Upstream, timeout: Duration) -> Self {
        let server = |text: &String| match text.strip_prefix("unix:") {
            Some(path) => BackendServer::Unix(path.into()),
            None => BackendServer::Tcp(text.clone()),
        };
        Self {
            servers: upstream.servers.iter().map(server).collect(),
            next: AtomicUsize::new(0),
            host: upstream.health_host.clone(),
            connect_timeout: upstream.connect_timeout,
            timeout,
        }
    }

    async fn connect(&self) -> Result<Stream, CheckError> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let mut failure = CheckError::NoServer;
        for turn in 0..self.servers.len() {
            let server = &self.servers[first.wrapping_add(turn) % self.servers.len()];
            match timeout(self.connect_timeout, server.connect()).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failure = CheckError::Unreachable(error),
                Err(_elapsed) => failure = CheckError::Unreachable(io::ErrorKind::TimedOut.into()),
            }
        }
        Err(failure)
    }

    /// Up to the head of the answer.
    async fn ask(&self, path: &str, headers: &HeaderMap) -> Result<(StatusCode, HttpSession), CheckError> {
        let request = request(path, headers, &self.host).map_err(CheckError::Exchange)?;
        let stream = self.connect().await?;
        exchange(stream, request).await.map_err(CheckError::Exchange)
    }
}

#[async_trait]
impl BackendCheck for UpstreamCheck {
    async fn may_see(&self, path: &str, headers: &HeaderMap) -> Result<StatusCode, CheckError> {
        let (status, session) = timeout(self.timeout, self.ask(path, headers))
            .await
            .unwrap_or(Err(CheckError::Timeout(self.timeout)))?;
        // The status has decided: a body that fails or does not end changes nothing.
        let _ = timeout(DRAIN_TIMEOUT, drain(session)).await;
        Ok(status)
    }
}

impl BackendServer {
    async fn connect(&self) -> io::Result<Stream> {
        Ok(match self {
            Self::Tcp(address) => TcpStream::connect(address).await?.into(),
            Self::Unix(path) => UnixStream::connect(path).await?.into(),
        })
    }
}

/// The request: who the caller is, and nothing that makes the answer anything but yes or no (no ranges, no
/// conditions, no body).
fn request(path: &str, headers: &HeaderMap, host: &str) -> pingora_core::Result<Box<RequestHeader>> {
    let mut request = RequestHeader::build("GET", path.as_bytes(), None)?;
    for (name, value) in headers.iter().filter(|(name, _)| is_passed_on(name)) {
        request.append_header(name, value)?;
    }
    if !headers.contains_key(HOST) {
        request.insert_header(HOST, host)?;
    }
    request.insert_header(ACCEPT, "*/*")?;
    request.insert_header(CONNECTION, "close")?;
    Ok(Box::new(request))
}

/// Of a caller's headers, those that the app is asked with.
pub(super) fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let passed_on = headers.iter().filter(|(name, _)| is_passed_on(name));
    passed_on
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn is_passed_on(name: &HeaderName) -> bool {
    [
        HOST,
        COOKIE,
        AUTHORIZATION,
        FORWARDED,
        USER_AGENT,
        ACCEPT_LANGUAGE,
    ]
    .contains(name)
        || name.as_str().starts_with("x-forwarded-")
        || matches!(name.as_str(), "x-real-ip" | "x-request-id" | "traceparent")
}

async fn exchange(
    stream: Stream,
    request: Box<RequestHeader>,
) -> pingora_core::Result<(StatusCode, HttpSession)> {
    let mut session = HttpSession::new(Box::new(stream));
    session.write_request_header(request).await?;
    loop {
        let head = session.read_resp_header_parts().await?;
        if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok((head.status, session));
        }
    }
}

async fn drain(mut session: HttpSession) {
    let mut drained = 0;
    while drained <= MAX_DRAINED
        && let Ok(Some(chunk)) = session.read_body_bytes().await
    {
        drained += chunk.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d6_a_caller_without_a_host_asks_by_one_that_the_site_answers_to() {
        let host = |headers: &HeaderMap| {
            let request = request("/c/1/", headers, "site.test").expect("a request");
            request.headers[HOST].to_str().expect("text").to_owned()
        };
        assert_eq!(host(&HeaderMap::new()), "site.test");
        let named = HeaderMap::from_iter([(HOST, http::HeaderValue::from_static("www.site.test"))]);
        assert_eq!(host(&named), "www.site.test");
    }
}
