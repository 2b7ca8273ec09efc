//! TLS handshakes, counted as connections. Pingora makes them before [`Front`](super::Front) gets the connection, and a
//! process that ended meanwhile would fail a request.

use async_trait::async_trait;
use pingora_core::Result;
use pingora_core::listeners::PreTlsProcess;
use pingora_core::protocols::GetProxyDigest as _;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_http::ResponseHeader;

use crate::shutdown::InFlight;

/// Counts a connection from before its handshake until it is closed.
pub struct Handshakes(InFlight);

impl Handshakes {
    /// Counts in `in_flight`.
    pub fn new(in_flight: InFlight) -> Self {
        Self(in_flight)
    }
}

#[async_trait]
impl PreTlsProcess for Handshakes {
    async fn process(&self, stream: &mut Stream) -> Result<()> {
        // The only place where own data can be tied to a connection. It is meant for connections through a proxy's
        // CONNECT, which a listener does not have.
        let guard = Box::new(self.0.connect());
        let unused = Box::new(ResponseHeader::build(200, Some(0))?);
        stream.set_proxy_digest(ProxyDigest::new(unused, Some(guard)));
        Ok(())
    }
}
