//! Step 4, decide: whether one exchange of request and response is a page view, and if not, why not.
//!
//! [`PageView::from_exchange`] is a pure function of what the proxy saw; no I/O, no clock.

pub mod device;
mod text;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use http::{HeaderMap, Method, StatusCode};

use crate::config::{IpPrecision, ReferrerPrecision};
use crate::routes::{CommunityRef, RouteMatch};

/// One request and the head of its response, as the proxy saw them.
#[derive(Debug, Clone, Copy)]
pub struct Exchange<'a> {
    /// Request method.
    pub method: &'a Method,
    /// Path, decoded once.
    pub path: &'a str,
    /// Raw query without `?`.
    pub query: Option<&'a str>,
    /// Request headers as the client sent them.
    pub request: &'a HeaderMap,
    /// Response status.
    pub status: StatusCode,
    /// Response headers as the app sent them.
    pub response: &'a HeaderMap,
    /// What the path matched.
    pub route: Option<&'a RouteMatch>,
    /// Whether the request carried a well-formed session token.
    pub has_token: bool,
    /// Whether another sidecar, nearer to the client and trusted, records this exchange.
    pub counted_elsewhere: bool,
    /// The client's address.
    pub client_ip: Option<IpAddr>,
    /// Start of the request.
    pub started_at: DateTime<Utc>,
    /// From the request's start to the response head.
    pub duration: Duration,
}

/// What of a page view may be kept, and whether unmatched paths count.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Count page views that no route matches.
    pub unmatched: bool,
    /// Query parameters that stay in URLs.
    pub query_allow: Vec<String>,
    /// Precision of the recorded address.
    pub ip_address: IpPrecision,
    /// Precision of the recorded referrer.
    pub referrer: ReferrerPrecision,
    /// Keep the user agent's text.
    pub user_agent: bool,
}

/// A page view: somebody with a session looked at a page.
#[derive(Debug, Clone, PartialEq)]
pub struct PageView {
    /// Start of the request, UTC.
    pub at: DateTime<Utc>,
    /// Path and allowed query parameters, for `metadata.url`.
    pub url: String,
    /// Name of the matched route.
    pub route: Option<Arc<str>>,
    /// The matched route's page type.
    pub page_type: Option<Arc<str>>,
    /// The community that the path names.
    pub community: Option<CommunityRef>,
    /// Referrer, reduced as configured.
    pub referrer: Option<String>,
    /// Text searched for, where the route names its parameter.
    pub search_query: Option<String>,
    /// Response status.
    pub status: u16,
    /// Milliseconds from the request's start to the response head.
    pub duration_ms: u32,
    /// The client's address, reduced as configured; IPv4-mapped IPv6 as IPv4.
    pub client_ip: Option<IpAddr>,
    /// User agent, valid UTF-8 without NUL, at most [`PageView::MAX_USER_AGENT`] bytes; empty when not kept.
    pub user_agent: String,
    /// Browser, operating system and kind of device.
    pub device: device::DeviceInfo,
}

/// Why an exchange is not a page view. One variant per reason; each is a label of
/// `headcount_page_views_not_counted_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotCounted {
    /// No well-formed session token: nobody that the app's tables know.
    Anonymous,
    /// Another sidecar counts it (V8).
    CountedElsewhere,
    /// The route says `track = "none"` (health checks, own endpoints).
    RouteExcluded,
    /// No route matches and `record.unmatched` is off.
    Unmatched,
    /// Not GET (V1, V2).
    Method,
    /// Upgrade, 101 (V2).
    Upgrade,
    /// 206 (V2).
    Partial,
    /// 3xx other than a 304 on a navigation (V2).
    Redirect,
    /// 4xx and 5xx (V2).
    Error,
    /// Any other status that is not 200.
    Status,
    /// Prefetch or prerender (V3).
    Prefetch,
    /// A frame inside a page (V2).
    Frame,
    /// Made by a script, an image or another subresource: not a navigation (V1).
    NotNavigation,
    /// Event stream (V2).
    EventStream,
    /// Sent as a download (V2).
    Download,
    /// Not HTML: a static file or data (V1, V4).
    NotHtml,
    /// A robot (V4).
    Bot,
}

impl NotCounted {
    /// Every reason.
    pub const ALL: [Self; 17] = [
        Self::Anonymous,
        Self::CountedElsewhere,
        Self::RouteExcluded,
        Self::Unmatched,
        Self::Method,
        Self::Upgrade,
        Self::Partial,
        Self::Redirect,
        Self::Error,
        Self::Status,
        Self::Prefetch,
        Self::Frame,
        Self::NotNavigation,
        Self::EventStream,
        Self::Download,
        Self::NotHtml,
        Self::Bot,
    ];

    /// The label value.
    pub fn label(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::CountedElsewhere => "counted_elsewhere",
            Self::RouteExcluded => "route_excluded",
            Self::Unmatched => "unmatched",
            Self::Method => "method",
            Self::Upgrade => "upgrade",
            Self::Partial => "partial",
            Self::Redirect => "redirect",
            Self::Error => "error",
            Self::Status => "status",
            Self::Prefetch => "prefetch",
            Self::Frame => "frame",
            Self::NotNavigation => "not_navigation",
            Self::EventStream => "event_stream",
            Self::Download => "download",
            Self::NotHtml => "not_html",
            Self::Bot => "bot",
        }
    }
}

impl PageView {
    /// Longest user agent kept, in bytes.
    pub const MAX_USER_AGENT: usize = 512;
    /// Longest URL, referrer and search query kept, in bytes each.
    pub const MAX_TEXT: usize = 2000;

    /// Bytes this view holds, near enough to bound a queue by: its texts and a constant.
    pub fn weight(&self) -> usize {
        size_of::<Self>()
            + self.url.len()
            + self.referrer.as_ref().map_or(0, String::len)
            + self.search_query.as_ref().map_or(0, String::len)
            + self.user_agent.len()
    }
}
