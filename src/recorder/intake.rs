//! Steps 2 to 5 for one page view: find its route, identify its visitor, decide whether it counts, hand it to the
//! recorder. The proxy calls it with each exchange, the API with each report of a page.
//!
//! Invariant: nothing here waits for a database or a queue. The lookup of an unknown token starts when the request's
//! head is read ([`Intake::start_lookup`]), and the recorder waits for it after the response.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use http::header::SET_COOKIE;
use http::{HeaderMap, Method};

use super::{AcceptedView, Recorder, RequestFacts, RequestVisitor, ShownPages};
use crate::auth::cookie::{SessionCookie, TokenFound};
use crate::auth::{CachedSession, EarlyLookups, Jwts};
use crate::browser_session::CookieChange;
use crate::ids::SessionToken;
use crate::live::AccessPolicy;
use crate::page_view::{Beacon, Exchange, NotCounted, PageView, Policy, SentFiles, may_be_view, verdict};
use crate::presence::moment::Moment;
use crate::reload::SharedRoutes;
use crate::routes::{Track, decode_path};

/// Identifies, decides and records.
pub struct Intake {
    /// Whether anything is recorded. Sidecars nearer to the app then do not record the request (V8).
    pub is_recording: bool,
    /// The cookie, and the form of its tokens.
    pub cookie: SessionCookie,
    /// JWTs, where they are read.
    pub jwts: Option<Jwts>,
    /// Step 2, match.
    pub routes: SharedRoutes,
    /// Step 3, identify: lookups that start with the request.
    pub lookups: EarlyLookups,
    /// Step 4, decide.
    pub policy: Arc<Policy>,
    /// Files sent before, for step 4.
    pub files: SentFiles,
    /// Step 5, record.
    pub recorder: Recorder,
    /// Notes whom the app shows which community, where that decides who may see its visitors.
    pub shown: Option<ShownPages>,
}

/// A page view that the page itself reports (V5).
pub struct Report<'a> {
    /// Path and query of the page, as in a request line.
    pub target: &'a str,
    /// The page's referrer, as its script gives it.
    pub referrer: Option<&'a str>,
    /// Headers of the reporting request.
    pub headers: &'a HeaderMap,
    /// Its token.
    pub token: &'a SessionToken,
    /// The client's address.
    pub client_ip: Option<IpAddr>,
    /// Start of the reporting request.
    pub at: DateTime<Utc>,
    /// Decides whether the visitor may see the page's community: the app did not serve the page in this request.
    pub access_policy: Arc<dyn AccessPolicy>,
}

impl Intake {
    /// Reads a request's address and token. A cookie that cannot be a token is counted, and so is a JWT that is refused.
    ///
    /// A JWT in `Authorization` goes before cookies, and decides alone, also where it is refused: it is sent on purpose,
    /// cookies are sent always. Of the cookies, one with a JWT goes before that of the session.
    pub fn read(&self, facts: &mut RequestFacts, client_ip: Option<IpAddr>, headers: &HeaderMap) {
        facts.client_ip = client_ip;
        if let Some(jwts) = &self.jwts {
            let sent = jwts.in_authorization(headers, facts.at);
            if facts.take(sent) {
                return;
            }
            facts.take(jwts.in_cookie(headers, facts.at));
            if facts.token.is_some() {
                return;
            }
        }
        match self.cookie.token(headers) {
            TokenFound::Token(token) => facts.token = Some(token),
            TokenFound::Malformed => {
                facts.no_token = NotCounted::NotAToken;
                self.recorder.authenticator.count_malformed();
            }
            TokenFound::None => {}
        }
    }

    /// Reads the JWT of a request for a live connection, which may also be in a subprotocol or in the query, where
    /// `Authorization` has none. It goes before cookies as that does.
    pub fn read_handshake(&self, facts: &mut RequestFacts, headers: &HeaderMap, query: Option<&str>) {
        let Some(jwts) = self
            .jwts
            .as_ref()
            .filter(|jwts| !jwts.is_in_authorization(headers))
        else {
            return;
        };
        let (sent, authorization) = jwts.in_handshake(headers, query, facts.at);
        if facts.take(sent) {
            facts.authorization = authorization;
        }
    }

    /// A query without the parameter that holds JWTs.
    pub fn without_jwt<'q>(&self, query: &'q str) -> Cow<'q, str> {
        match &self.jwts {
            Some(jwts) => jwts.without_jwt(query),
            None => query.into(),
        }
    }

    /// Whether it is of interest who visits which page.
    pub fn asks_for_visitors(&self) -> bool {
        self.is_recording || self.shown.is_some()
    }

    /// Finds the route of a request to the app, and nothing else.
    pub fn find_route(&self, facts: &mut RequestFacts, raw_path: &[u8]) {
        facts.route = self.routes.load().find_route(&decode_path(raw_path));
    }

    /// Finds the route of a request to the app, and starts the lookup of an unknown token where the response may be a
    /// page view, or may say that its visitor may see a community.
    pub fn start_lookup(
        &self,
        facts: &mut RequestFacts,
        method: &Method,
        raw_path: &[u8],
        headers: &HeaderMap,
    ) {
        facts.path = decode_path(raw_path).into_owned();
        facts.route = self.routes.load().find(&facts.path);
        let route = facts.route.as_ref();
        let may_show = self.shown.is_some()
            && method == Method::GET
            && route.is_some_and(|matched| matched.community.is_some());
        if let Some(token) = &facts.token
            && (may_show || self.is_recording && may_be_view(method, headers, route))
        {
            facts.lookup = self.lookups.at(token, facts.at, facts.client_ip);
        }
    }

    /// Notes whether the exchange shows its visitor a community, records it if it is a page view, and reads the session
    /// cookies that the response sets: one that it takes back is a session's end, and its page was shown to nobody in
    /// particular. Whether it is of a file is found out here.
    pub fn record_exchange(&self, facts: &RequestFacts, exchange: Exchange<'_>) {
        let headers = exchange.response;
        let token = self.token_that_may_change(facts, &exchange);
        let change = token.as_ref().map_or(CookieChange::Kept, |token| {
            self.cookie.change(headers, token, facts.at)
        });
        let is_over = change == CookieChange::Deleted;
        if self.asks_for_visitors() {
            let exchange = Exchange {
                is_of_a_file: self.files.note_or_look_up(&exchange),
                ..exchange
            };
            if let Some(shown) = &self.shown {
                let news = verdict(&exchange, change, &self.routes.load());
                shown.note(facts, &exchange, news);
            }
            if self.is_recording {
                let view = PageView::from_exchange(&exchange, &self.policy);
                let view = if is_over {
                    view.and(Err(NotCounted::SessionEnded))
                } else {
                    view
                };
                let reason = self.record(view, facts, None);
                self.notice(facts, &exchange, reason);
            }
        }
        if change != CookieChange::Kept
            && let Some(token) = &token
        {
            self.lookups.taken_back(token, &facts.lookup, facts.at);
        }
        // Cached answers that these tokens have no session are no longer used.
        for token in self.cookie.tokens_set(headers) {
            self.recorder.authenticator.appeared(token.fingerprint());
        }
    }

    /// The session's token that came in the request's cookie, if the response sets cookies. A JWT is not the app's to take
    /// back. Where requests are passed on and no more, it was not read yet; sign-outs matter to the API all the same.
    fn token_that_may_change(&self, facts: &RequestFacts, exchange: &Exchange<'_>) -> Option<SessionToken> {
        if !exchange.response.contains_key(SET_COOKIE) {
            return None;
        }
        if self.asks_for_visitors() {
            return facts.token.clone().filter(|token| token.claims().is_none());
        }
        self.cookie.token(exchange.request).token().cloned()
    }

    /// Whether a request is a robot's, of which nothing is recorded: it makes nobody present, either.
    pub fn is_bots(&self, headers: &HeaderMap) -> bool {
        self.policy.is_bots(headers)
    }

    /// Records a reported view. Returns whether it counts as far as is known now.
    pub fn record_report(&self, report: Report<'_>) -> bool {
        if !self.is_recording {
            return false;
        }
        let (path, query) = match report.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (report.target, None),
        };
        let path = decode_path(path.as_bytes()).into_owned();
        let facts = RequestFacts {
            client_ip: report.client_ip,
            token: Some(report.token.clone()),
            route: self.routes.load().find(&path),
            path,
            ..RequestFacts::new(report.at)
        };
        let beacon = Beacon {
            path: &facts.path,
            query,
            referrer: report.referrer.map(str::as_bytes),
            request: report.headers,
            route: facts.route.as_ref(),
            has_token: true,
            client_ip: report.client_ip,
            at: report.at,
        };
        let view = PageView::from_beacon(&beacon, &self.policy);
        let not_counted = self.record(view, &facts, Some(report.access_policy));
        not_counted.is_none()
    }

    /// Notices visitors who are not recognised, and answers that sign somebody in.
    fn notice(&self, facts: &RequestFacts, exchange: &Exchange<'_>, not_counted: Option<NotCounted>) {
        let recognition = &self.recorder.destinations.recognition;
        let track = facts
            .route
            .as_ref()
            .map_or(Track::Page, |found| found.route.track);
        match not_counted {
            Some(reason) if reason.is_of_the_visitor() && track == Track::Page => {
                recognition.missed(exchange.request, reason);
            }
            None => recognition.asks(exchange.request),
            Some(_) => {}
        }
        recognition.answered(exchange.method, exchange.status, exchange.response);
    }

    /// Hands a view to the recorder, or counts why it is none, and returns that.
    fn record(
        &self,
        view: Result<PageView, NotCounted>,
        facts: &RequestFacts,
        access_policy: Option<Arc<dyn AccessPolicy>>,
    ) -> Option<NotCounted> {
        let not_counted = match (view, &facts.token) {
            (Ok(view), Some(token)) => {
                let known = match facts.lookup.session() {
                    Some(session) => CachedSession::Session(Arc::clone(session)),
                    None => self.recorder.authenticator.cached(token, facts.at),
                };
                let who = match known {
                    CachedSession::Session(session) => Ok(RequestVisitor::Session(session)),
                    CachedSession::Unknown => Ok(RequestVisitor::Token(token.clone(), facts.lookup.clone())),
                    CachedSession::NoSession(absent) => Err(NotCounted::from(absent)),
                };
                match who {
                    Ok(who) => {
                        let from = facts.client_ip;
                        self.recorder.record(AcceptedView {
                            view,
                            seen: Moment::now(),
                            who,
                            from,
                            access_policy,
                        });
                        return None;
                    }
                    Err(reason) => reason,
                }
            }
            (Ok(_) | Err(NotCounted::NoCookie), None) => facts.no_token,
            (Err(reason), _) => reason,
        };
        self.recorder.destinations.metrics.not_counted[not_counted].inc();
        Some(not_counted)
    }
}
