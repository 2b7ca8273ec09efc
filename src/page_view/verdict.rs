//! What an answer of the app says about whether its visitor may see the community that its path names. Pure.

use http::header::{AGE, CONTENT_TYPE};
use http::{HeaderMap, Method, StatusCode};

use super::Exchange;
use super::checks::{is_download, media_type_is, what};
use super::navigation::is_html;
use crate::presence::grants::{News, Verdict};
use crate::routes::Track;

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

/// What one exchange says; `None` where it says nothing.
///
/// Shown: a GET was answered 200 with a page, JSON or, where the route tracks requests, anything. Whether the visitor
/// loaded it, a script did, or a robot, does not matter; files, of which many are for everybody, say nothing, nor does a
/// route with `track = "none"` or `grants = false`, nor a page below the community, or of a row of it, unless its route has
/// `grants = true`.
///
/// Still shown: the exchange is a page view of a page that the browser has already (304). That the visitor was shown it is
/// not said by this: some apps compare the time of the last change before they look at who asks, and the browser may have
/// the page of somebody else.
///
/// Refused: a GET of the community's own page, of which nothing below the community is named, was answered 403, 404 or
/// 410. A missing page of the community says nothing about it: one below it, or with a query (`?page=999`) a 404. A
/// redirect or a failure says nothing at all.
///
/// An answer of a cache says nothing, whatever it is: the app has not looked at who asks.
pub(crate) fn verdict(exchange: &Exchange<'_>) -> Option<News> {
    let matched = exchange.route?;
    let route = &*matched.route;
    matched.community.as_ref()?;
    if exchange.method != Method::GET || route.track == Track::None || is_from_a_cache(exchange.response) {
        return None;
    }
    match exchange.status {
        _ if route.grants == Some(false) => None,
        StatusCode::OK | StatusCode::NOT_MODIFIED if !matched.grants() => None,
        StatusCode::OK => {
            let is_data = || media_type_is(exchange.response, is_json);
            let is_page = || media_type_is(exchange.response, is_html);
            let is_shown = route.track == Track::Request || is_page() || is_data();
            let is_shown = is_shown && exchange.response.contains_key(CONTENT_TYPE);
            (is_shown && !is_download(exchange.response)).then_some(News::Answer(Verdict::Shown))
        }
        StatusCode::NOT_MODIFIED => what(exchange).is_ok().then_some(News::StillShown),
        StatusCode::NOT_FOUND if exchange.query.is_some_and(|query| !query.is_empty()) => None,
        StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::GONE => matched
            .is_communitys_own
            .then_some(News::Answer(Verdict::Refused)),
        _ => None,
    }
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
