//! What an answer of the app says about whether its visitor may see the community that its path names. Pure.

use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};

use super::Exchange;
use super::checks::{is_download, media_type_is, what};
use super::navigation::is_html;
use crate::presence::grants::Verdict;
use crate::routes::Track;

/// The verdict of one exchange; `None` where it says nothing.
///
/// Shown: a GET was answered 200 with a page, JSON or, where the route tracks requests, anything; or the exchange is a
/// page view (a page that the browser has already: 304). Whether the visitor loaded it, a script did, or a robot, does
/// not matter; files, of which many are for everybody, say nothing, nor does a route with `track = "none"` or
/// `grants = false`, nor a page below the community unless its route has `grants = true`.
///
/// Refused: a GET of the community's own page, of which nothing below the community is named, was answered 403, 404 or
/// 410. A missing page of the community says nothing about it: one below it, or with a query (`?page=999`) a 404. A
/// redirect or a failure says nothing at all.
pub(crate) fn verdict(exchange: &Exchange<'_>) -> Option<Verdict> {
    let matched = exchange.route?;
    let route = &*matched.route;
    matched.community.as_ref()?;
    if exchange.method != Method::GET || route.track == Track::None {
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
            (is_shown && !is_download(exchange.response)).then_some(Verdict::Shown)
        }
        StatusCode::NOT_MODIFIED => what(exchange).is_ok().then_some(Verdict::Shown),
        StatusCode::NOT_FOUND if exchange.query.is_some_and(|query| !query.is_empty()) => None,
        StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::GONE => {
            matched.is_communitys_own.then_some(Verdict::Refused)
        }
        _ => None,
    }
}

fn is_json(media_type: &str) -> bool {
    media_type == "application/json" || media_type.ends_with("+json")
}
