//! What is kept of a request until its response's head comes.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use http::HeaderValue;

use crate::auth::{EarlyLookup, JwtFound};
use crate::ids::SessionToken;
use crate::page_view::NotCounted;
use crate::routes::RouteMatch;

/// What a page view needs of its request, kept until the response's head comes.
#[derive(Debug)]
pub struct RequestFacts {
    /// Start of the request (V9).
    pub at: DateTime<Utc>,
    /// The client's address.
    pub client_ip: Option<IpAddr>,
    /// The session token that came with the request (V6).
    pub token: Option<SessionToken>,
    /// The JWT of a live connection's request that came otherwise than in `Authorization`, as that header would have it.
    pub authorization: Option<HeaderValue>,
    /// Why there is none.
    pub(super) no_token: NotCounted,
    /// The route at the start of the request: a reload meanwhile changes nothing (V6 holds for routes too).
    pub route: Option<RouteMatch>,
    /// Path, decoded once as the app sees it.
    pub path: String,
    /// The token's session, as far as it was known when the request began or has been found since (V6).
    pub(super) lookup: EarlyLookup,
}

impl RequestFacts {
    /// A request that begins at `at`, of which nothing is read yet.
    pub fn new(at: DateTime<Utc>) -> Self {
        Self {
            at,
            client_ip: None,
            token: None,
            authorization: None,
            no_token: NotCounted::NoCookie,
            route: None,
            path: String::new(),
            lookup: EarlyLookup::default(),
        }
    }
}

impl RequestFacts {
    /// Takes over what a JWT says; whether there was one.
    pub(super) fn take(&mut self, sent: JwtFound) -> bool {
        if sent == JwtFound::Refused {
            self.no_token = NotCounted::Jwt;
        }
        let is_there = sent != JwtFound::None;
        if is_there {
            self.token = sent.token();
        }
        is_there
    }
}
