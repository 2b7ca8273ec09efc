//! A simulated browser: the smallest HTTP client that the sidecar takes for a browser.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use http::header;
use pingora_core::protocols::http::v1::client::HttpSession;
use pingora_core::protocols::l4::stream::Stream;
use pingora_http::{RequestHeader, ResponseHeader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest time for one exchange.
const TIMEOUT: Duration = Duration::from_secs(10);

/// User agents of the simulated members.
pub(crate) const USER_AGENTS: &[&str] = &[
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36",
];

/// One browser with its cookie.
#[derive(Debug)]
pub(crate) struct Browser {
    site: SocketAddr,
    user_agent: &'static str,
    /// `name=value`, once the site has set it.
    cookie: Option<String>,
}

impl Browser {
    /// A browser without cookies.
    pub(crate) fn new(site: SocketAddr, user_agent: &'static str) -> Self {
        Self {
            site,
            user_agent,
            cookie: None,
        }
    }

    /// Whether the site has given this browser a session.
    pub(crate) fn is_signed_in(&self) -> bool {
        self.cookie.is_some()
    }

    /// Opens a page, as a click on a link does. Returns the status.
    pub(crate) async fn open(&self, path: &str) -> anyhow::Result<u16> {
        let response = self.send(self.navigation("GET", path)?).await?;
        Ok(response.status.as_u16())
    }

    /// Presses a member's button on the sign-in page and keeps the cookie.
    pub(crate) async fn sign_in(&mut self, username: &str) -> anyhow::Result<()> {
        let mut request = self.navigation("POST", &format!("/sign-in/{username}"))?;
        request.insert_header(header::CONTENT_LENGTH, "0")?;
        let response = self.send(request).await?;
        let cookie = response
            .headers
            .get(header::SET_COOKIE)
            .context("no cookie was set")?;
        let pair = cookie.to_str()?.split(';').next().unwrap_or_default();
        self.cookie = Some(pair.to_owned());
        Ok(())
    }

    /// Presses the sign-out button and forgets the cookie.
    pub(crate) async fn sign_out(&mut self) -> anyhow::Result<()> {
        let mut request = self.navigation("POST", "/sign-out")?;
        request.insert_header(header::CONTENT_LENGTH, "0")?;
        self.send(request).await?;
        self.cookie = None;
        Ok(())
    }

    fn navigation(&self, method: &str, path: &str) -> anyhow::Result<RequestHeader> {
        let mut request = RequestHeader::build(method, path.as_bytes(), None)?;
        request.insert_header(header::HOST, self.site.to_string())?;
        request.insert_header(header::USER_AGENT, self.user_agent)?;
        request.insert_header(header::ACCEPT, "text/html,application/xhtml+xml,*/*;q=0.8")?;
        request.insert_header(header::CONNECTION, "close")?;
        request.insert_header("Sec-Fetch-Site", "same-origin")?;
        request.insert_header("Sec-Fetch-Mode", "navigate")?;
        request.insert_header("Sec-Fetch-Dest", "document")?;
        request.insert_header("Sec-Fetch-User", "?1")?;
        if let Some(cookie) = &self.cookie {
            request.insert_header(header::COOKIE, cookie)?;
        }
        Ok(request)
    }

    /// One request on a connection of its own; the body is read and discarded.
    async fn send(&self, request: RequestHeader) -> anyhow::Result<ResponseHeader> {
        timeout(TIMEOUT, async {
            let stream = Stream::from(TcpStream::connect(self.site).await?);
            let mut session = HttpSession::new(Box::new(stream));
            session.write_request_header(Box::new(request)).await?;
            session.finish_body().await?;
            let response = session.read_resp_header_parts().await?;
            while session.read_body_ref().await?.is_some() {}
            Ok(*response)
        })
        .await
        .context("no answer in time")?
    }
}

#[cfg(test)]
mod tests {
    use super::super::site;
    use super::*;

    #[tokio::test]
    async fn a_browser_signs_in_opens_pages_and_signs_out() {
        let directory = tempfile::tempdir().unwrap();
        let address = site::start(&directory.path().join("site.sqlite3")).await.unwrap();
        let mut browser = Browser::new(address, USER_AGENTS[0]);
        assert_eq!(browser.open("/").await.unwrap(), 200);
        assert!(!browser.is_signed_in());
        browser.sign_in("bram").await.unwrap();
        assert!(browser.is_signed_in());
        assert_eq!(browser.open("/communities/3/posts/1/").await.unwrap(), 200);
        assert_eq!(browser.open("/communities/77/").await.unwrap(), 404);
        browser.sign_out().await.unwrap();
        assert!(!browser.is_signed_in());
    }
}
