//! Page views (step 4, decide): whether one exchange of request and response is a page view, and if not, why not.
//!
//! [`PageView::from_exchange`] is a pure function of what the proxy saw; no I/O, no clock. It decides at the
//! response head, so that a body that streams for a minute, or that the client abandons, counts once (V7), and the view
//! belongs to the sender of the request, whatever the response does to the session (V6).
//!
//! `checks` has the rules, `navigation` those about the request alone, `text` makes clients' texts fit to be stored,
//! `agents` reads user agents (`robots`, [`device`]). [`SentFiles`] remembers across exchanges, and is asked before.

mod agents;
mod checks;
pub mod device;
mod metrics;
mod navigation;
mod not_counted;
mod redirect;
mod robots;
mod sent_files;
mod text;
mod verdict;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use http::header::{REFERER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::{Deserialize, Serialize};

use crate::config::{IpPrecision, Privacy, Record, ReferrerPrecision};
use crate::ids::Finer;
use crate::routes::{CommunityRef, RouteMatch, Track, ValueSource};

use device::Agent;

pub use agents::Agents;
pub(crate) use checks::is_download;
pub use metrics::{Dropped, Metrics, PresenceDropped, Queue};
pub(crate) use navigation::{PageLoad, page_load};
pub use not_counted::NotCounted;
pub use sent_files::SentFiles;
pub(crate) use verdict::{AccessNews, verdict};

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
    /// The route that the path matches.
    pub route: Option<&'a RouteMatch>,
    /// Whether a 304 is for something that was sent as a file before ([`SentFiles`]).
    pub is_of_a_file: bool,
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

/// What may be stored of a page view, and whether unmatched paths count.
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
    /// Reads user agents, and knows which are robots.
    pub agents: Agents,
}

impl Policy {
    /// Takes the settings from the configuration, and compiles the list of robots. Once per configuration: it takes
    /// milliseconds.
    pub fn new(record: &Record, privacy: &Privacy) -> Self {
        Self {
            unmatched: record.unmatched,
            query_allow: privacy.query_allow.clone(),
            ip_address: privacy.ip_address,
            referrer: privacy.referrer,
            user_agent: privacy.user_agent,
            agents: Agents::new(&record.bots),
        }
    }

    /// Whether a request is a robot's, by its user agent: then it makes no page view, and nobody present.
    pub fn is_bots(&self, request: &HeaderMap) -> bool {
        let user_agent = text::user_agent(request.get(USER_AGENT));
        self.agents.read(Agent::of(&user_agent, request)).is_none()
    }
}

/// A page view that no proxy can see, as the page itself reports it (V5): navigation within a single-page app. There is
/// no response to check.
#[derive(Debug, Clone, Copy)]
pub struct Beacon<'a> {
    /// Path of the page, decoded once.
    pub path: &'a str,
    /// Its raw query without `?`.
    pub query: Option<&'a str>,
    /// The page's referrer, as the script gives it.
    pub referrer: Option<&'a [u8]>,
    /// Headers of the reporting request.
    pub request: &'a HeaderMap,
    /// The route that the path matches.
    pub route: Option<&'a RouteMatch>,
    /// Whether the request carried a well-formed session token.
    pub has_token: bool,
    /// The client's address.
    pub client_ip: Option<IpAddr>,
    /// Start of the reporting request.
    pub at: DateTime<Utc>,
}

/// A page view: a visitor with a session token looked at a page. Never holds the token. All texts are valid UTF-8
/// without NUL (W2, W3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// What is finer in that community. Only presence uses it, at once: it is not in the spool.
    #[serde(skip)]
    pub finer: Arc<[Finer]>,
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
    pub user_agent: Arc<str>,
    /// Browser, operating system and kind of device.
    pub device: Arc<device::DeviceInfo>,
    /// What its route has written beside. Rows of a spool that an earlier version wrote have none.
    #[serde(default, skip_serializing_if = "RouteEvent::is_empty")]
    pub event: RouteEvent,
}

/// What a route has written into the event of a page view.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteEvent {
    /// `event_type`, where it is not [`PAGE_VIEW`](crate::routes::PAGE_VIEW).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_type: Option<Arc<str>>,
    /// Further keys of `metadata`; none of them is one of our own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<Arc<str>, String>,
    /// `description`, where the route has a template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

impl RouteEvent {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Size of its texts, in bytes.
    fn weight(&self) -> usize {
        let metadata = self.metadata.iter();
        metadata
            .map(|(key, value)| key.len() + value.len())
            .sum::<usize>()
            + self.description.as_ref().map_or(0, String::len)
    }
}

impl PageView {
    /// Longest user agent kept, in bytes.
    pub const MAX_USER_AGENT: usize = 512;
    /// Longest URL, referrer and search query kept, in bytes each.
    pub const MAX_TEXT: usize = 2000;

    /// Decides whether an exchange is a page view. The cheap checks come first; the user agent, which is
    /// not cheap, last. Without a token, whatever would be a page view otherwise is [`NotCounted::NoCookie`].
    pub fn from_exchange(exchange: &Exchange<'_>, policy: &Policy) -> Result<Self, NotCounted> {
        checks::route(exchange.route, policy)?;
        if exchange.counted_elsewhere {
            return Err(NotCounted::CountedElsewhere);
        }
        checks::what(exchange)?;
        checks::who(exchange.has_token)?;
        let page = Beacon {
            path: exchange.path,
            query: exchange.query,
            referrer: exchange.request.get(REFERER).map(HeaderValue::as_bytes),
            request: exchange.request,
            route: exchange.route,
            has_token: exchange.has_token,
            client_ip: exchange.client_ip,
            at: exchange.started_at,
        };
        let view = Self::describe(&page, policy)?;
        Ok(Self {
            status: exchange.status.as_u16(),
            duration_ms: u32::try_from(exchange.duration.as_millis()).unwrap_or(u32::MAX),
            ..view
        })
    }

    /// Decides whether a reported view counts: only the rules about the visitor apply, since there is no exchange to
    /// check. The view has status 200 and duration 0.
    pub fn from_beacon(beacon: &Beacon<'_>, policy: &Policy) -> Result<Self, NotCounted> {
        checks::route(beacon.route, policy)?;
        checks::who(beacon.has_token)?;
        Self::describe(beacon, policy)
    }

    fn describe(page: &Beacon<'_>, policy: &Policy) -> Result<Self, NotCounted> {
        let user_agent = text::user_agent(page.request.get(USER_AGENT));
        let agent = Agent::of(&user_agent, page.request);
        let agent = policy.agents.read(agent).ok_or(NotCounted::Bot)?;
        let route = page.route.map(|matched| &*matched.route);
        let url = text::url(page.path, page.query, &policy.query_allow);
        Ok(Self {
            at: page.at,
            event: page
                .route
                .map(|matched| event(matched, &url, page.query, policy))
                .unwrap_or_default(),
            url,
            route: route.map(|route| Arc::clone(&route.name)),
            page_type: route.map(|route| Arc::clone(&route.page_type)),
            community: page.route.and_then(|matched| matched.community.clone()),
            finer: page
                .route
                .map(|matched| Arc::clone(&matched.finer))
                .unwrap_or_default(),
            referrer: page
                .referrer
                .and_then(|referrer| text::referrer(referrer, policy.referrer, &policy.query_allow)),
            search_query: route
                .and_then(|route| route.search_param.as_deref())
                .and_then(|param| text::search_query(page.query?, param)),
            status: StatusCode::OK.as_u16(),
            duration_ms: 0,
            client_ip: text::ip(page.client_ip, policy.ip_address),
            user_agent: if policy.user_agent {
                agent.text
            } else {
                Arc::default()
            },
            device: agent.device,
        })
    }

    /// Approximate size in bytes, to bound queues by: its texts and a constant.
    pub fn weight(&self) -> usize {
        size_of::<Self>()
            + self.url.len()
            + self.referrer.as_ref().map_or(0, String::len)
            + self.search_query.as_ref().map_or(0, String::len)
            + self.user_agent.len()
            + self.device.browser.len()
            + self.device.os.len()
            + self.device.device.len()
            + self.event.weight()
    }
}

/// What the route writes into the event. Parameters that may not be recorded have no value.
fn event(matched: &RouteMatch, url: &str, query: Option<&str>, policy: &Policy) -> RouteEvent {
    let form = &matched.route.event;
    let (metadata, description) = form.fill(url, |source| match source {
        ValueSource::Capture(name) => matched.capture(name).map(text::value),
        ValueSource::Parameter(name) if policy.query_allow.iter().any(|allowed| *allowed == **name) => {
            text::parameter(query?, name)
        }
        ValueSource::Parameter(_) => None,
    });
    RouteEvent {
        event_type: form.event_type.clone(),
        metadata,
        description: description.map(|text| text::description(&text)),
    }
}

/// Whether the answer to a request may be a page view, judged by the request alone.
pub(crate) fn may_be_view(method: &Method, request: &HeaderMap, route: Option<&RouteMatch>) -> bool {
    let track = route.map_or(Track::Page, |matched| matched.route.track);
    method == Method::GET
        && match track {
            Track::None => false,
            Track::Request => true,
            Track::Page => page_load(request).is_ok(),
        }
}

#[cfg(test)]
mod tests;
