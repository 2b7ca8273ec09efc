//! What an answer of the app says about whether its visitor may see the community that its path names, and what is finer in
//! it. Pure.

use http::header::{AGE, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::Exchange;
use super::checks::{is_download, media_type_is, what};
use super::navigation::is_html;
use super::redirect;
use crate::browser_session::CookieChange;
use crate::presence::grants::{News, Verdict};
use crate::routes::{CommunityRef, RouteMatch, RouteTable, Track};

/// Headers with which caches say what they did, beside `Age` and `Cache-Status`.
const CACHES: [&str; 5] = [
    "x-cache",
    "x-cache-status",
    "x-proxy-cache",
    "cf-cache-status",
    "x-varnish-cache",
];
/// What they say of an answer that is not the app's to this request.
const FROM_A_CACHE: [&str; 4] = ["hit", "stale", "updating", "revalidated"];

/// What an answer says about access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AccessNews {
    /// Of the community that the path names.
    pub(crate) community: Option<News>,
    /// Of each finer thing that the path names.
    pub(crate) finer: Option<News>,
    /// Where this is the same community, the answer leads to the same page, and says nothing.
    pub(crate) unless: Option<CommunityRef>,
}

impl AccessNews {
    /// Whether it takes something away.
    pub(crate) fn is_refusal(&self) -> bool {
        let refused = Some(News::Answer(Verdict::Refused));
        self.community == refused || self.finer == refused
    }
}

/// What one exchange says; `None` where it says nothing.
///
/// Pages of two kinds say something: a community's own page, or one whose route has `grants = true`, of the community; a
/// page whose route names finer things in `presence`, of these. None does whose route has `track = "none"` or `grants =
/// false`. What such a page gives, it takes away as well:
///
/// Shown: a GET was answered 200 with a page, JSON or, where the route tracks requests, anything. Whether the visitor
/// loaded it, a script did, or a robot, does not matter; files, of which many are for everybody, say nothing.
///
/// Still shown: the exchange is a page view of a page that the browser has already (304). That the visitor was shown it is
/// not said by this: some apps compare the time of the last change before they look at who asks, and the browser may have
/// the page of somebody else.
///
/// Refused: a GET was answered 401, 403, 404 or 410, or by a redirect to another page: a form to sign in, a list, a page
/// that asks to join. The same page is that of the same route and community, however spelled. A redirect within the community
/// takes it away neither where the page that it leads to says so itself (it grants), nor where the request has a query
/// (`?goto=unread`). A 404 to a query says nothing: it may be a missing part of a list (`?page=999`). Nor does a failure. A
/// deleted thing below the community takes the community away, too, as a hidden one is answered alike; the next page that is
/// shown gives it back. What a page embeds, such as an image, takes nothing away: anybody who may write in a community can
/// embed an address that does not exist.
///
/// `change` is what the answer does to the session cookie. Where it takes it back, the session is over, and the app may have
/// shown the page to anybody: that says nothing. Where it gives it another value, the app may not have known the user: a
/// refusal may be of somebody who is not signed in, and takes nothing away.
///
/// An answer of a cache says nothing, whatever it is: the app has not looked at who asks.
pub(crate) fn verdict(
    exchange: &Exchange<'_>,
    change: CookieChange,
    routes: &RouteTable,
) -> Option<AccessNews> {
    let matched = exchange.route?;
    let route = &*matched.route;
    matched.community.as_ref()?;
    if change == CookieChange::Deleted
        || exchange.method != Method::GET
        || route.track == Track::None
        || route.grants == Some(false)
        || is_from_a_cache(exchange.response)
    {
        return None;
    }
    let (of_community, of_finer) = (matched.grants(), !matched.finer.is_empty());
    let says = |news| AccessNews {
        community: of_community.then_some(news),
        finer: of_finer.then_some(news),
        unless: None,
    };
    let refused = says(News::Answer(Verdict::Refused));
    match exchange.status {
        _ if !of_community && !of_finer => None,
        StatusCode::OK => {
            let is_data = || media_type_is(exchange.response, is_json);
            let is_page = || media_type_is(exchange.response, is_html);
            let is_shown = route.track == Track::Request || is_page() || is_data();
            let is_shown = is_shown && exchange.response.contains_key(CONTENT_TYPE);
            (is_shown && !is_download(exchange.response)).then(|| says(News::Answer(Verdict::Shown)))
        }
        StatusCode::NOT_MODIFIED => what(exchange).is_ok().then(|| says(News::StillShown)),
        _ if !may_refuse(exchange, change) => None,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::GONE => {
            Some(refused)
        }
        StatusCode::MOVED_PERMANENTLY
        | StatusCode::FOUND
        | StatusCode::SEE_OTHER
        | StatusCode::TEMPORARY_REDIRECT
        | StatusCode::PERMANENT_REDIRECT => redirected(exchange, matched, routes, refused),
        _ => None,
    }
}

/// Whether an answer that is none of the page asked for refuses it to the session's user.
fn may_refuse(exchange: &Exchange<'_>, change: CookieChange) -> bool {
    let may_lack_a_part = exchange.status == StatusCode::NOT_FOUND && has_query(exchange);
    change == CookieChange::Kept && !is_embedded(exchange.request) && !may_lack_a_part
}

/// What a redirect says. One to nowhere is one to another page.
fn redirected(
    exchange: &Exchange<'_>,
    matched: &RouteMatch,
    routes: &RouteTable,
    refused: AccessNews,
) -> Option<AccessNews> {
    let location = exchange.response.get(LOCATION).map(HeaderValue::as_bytes);
    let path = location.and_then(|location| redirect::path(exchange.path, location));
    let target = path.and_then(|path| routes.find(&path));
    let target = target.filter(|target| {
        let is_same_page = target.route.name == matched.route.name;
        let decides = target.grants() && target.route.track != Track::None;
        target.community.is_some() && (is_same_page || decides || has_query(exchange))
    });
    let Some(target) = target else {
        return Some(refused);
    };
    let is_same_thing = matched.finer.iter().all(|finer| target.finer.contains(finer));
    match (target.community == matched.community, is_same_thing) {
        (true, true) => None,
        // To another thing in the same community, such as the one that it was merged into, or to the community.
        (true, false) => Some(AccessNews {
            community: None,
            ..refused
        }),
        (false, true) => Some(AccessNews {
            unless: target.community,
            ..refused
        }),
        (false, false) => Some(refused),
    }
}

fn has_query(exchange: &Exchange<'_>) -> bool {
    exchange.query.is_some_and(|query| !query.is_empty())
}

/// Whether a page asks for it as a part of its own, by what the browser says: neither a page, nor a frame, nor a script's.
fn is_embedded(request: &HeaderMap) -> bool {
    let asked_for = request.get("sec-fetch-dest").map(HeaderValue::as_bytes);
    asked_for.is_some_and(|what| !matches!(what, b"document" | b"iframe" | b"frame" | b"empty"))
}

/// Whether a cache between sidecar and app says that the answer is its own. Varnish sends `Age: 0` with the app's.
fn is_from_a_cache(response: &HeaderMap) -> bool {
    let values = |name: &str| {
        let values = response.get_all(name).into_iter();
        values
            .filter_map(|value| value.to_str().ok())
            .map(str::to_ascii_lowercase)
    };
    let words =
        |value: &str, are: &dyn Fn(&str) -> bool| value.split(|c: char| !c.is_ascii_alphanumeric()).any(are);
    values(AGE.as_str()).any(|age| age.trim().parse().is_ok_and(|age: u64| age > 0))
        // RFC 9211: each cache's name with its parameters.
        || values("cache-status").any(|caches| {
            let mut parameters = caches.split([',', ';']).map(str::trim);
            parameters.any(|parameter| parameter == "hit" || parameter == "hit=?1")
        })
        || CACHES.iter().any(|name| {
            values(name).any(|value| words(&value, &|word| FROM_A_CACHE.contains(&word)))
        })
}

fn is_json(media_type: &str) -> bool {
    media_type == "application/json" || media_type.ends_with("+json")
}
