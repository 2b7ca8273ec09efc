//! Rules for page views: who looks (V4, V8), and whether the answer is a page (V1, V2, V3).

use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::navigation::{is_html, is_prefetch, page_load};
use super::{Exchange, NotCounted, Policy};
use crate::header_list::any_element;
use crate::routes::{RouteMatch, Track};

/// File name extensions that browsers show in a tab of their own, or load into pages.
const FILES: [&str; 35] = [
    "aac",
    "apng",
    "atom",
    "avif",
    "bmp",
    "css",
    "csv",
    "flac",
    "gif",
    "ico",
    "jpeg",
    "jpg",
    "js",
    "json",
    "jxl",
    "m4a",
    "m4v",
    "map",
    "mjs",
    "mov",
    "mp3",
    "mp4",
    "oga",
    "ogg",
    "ogv",
    "pdf",
    "png",
    "rss",
    "svg",
    "txt",
    "wav",
    "webm",
    "webmanifest",
    "webp",
    "xml",
];

/// The rules about the route.
pub(super) fn route(route: Option<&RouteMatch>, policy: &Policy) -> Result<(), NotCounted> {
    match route.map(|matched| matched.route.track) {
        Some(Track::None) => Err(NotCounted::RouteExcluded),
        None if !policy.unmatched => Err(NotCounted::Unmatched),
        _ => Ok(()),
    }
}

/// The rule about the visitor. What the cookie is instead, the caller knows.
pub(super) fn who(has_token: bool) -> Result<(), NotCounted> {
    if has_token {
        Ok(())
    } else {
        Err(NotCounted::NoCookie)
    }
}

/// The rules about request and response. Where requests are tracked, those about navigation and HTML do not
/// apply; an event stream is a connection and counts nowhere.
pub(super) fn what(exchange: &Exchange<'_>) -> Result<(), NotCounted> {
    let track = exchange.route.map_or(Track::Page, |matched| matched.route.track);
    if exchange.method != Method::GET {
        return Err(NotCounted::Method);
    }
    if exchange.status == StatusCode::SWITCHING_PROTOCOLS
        || any_element(exchange.request, UPGRADE, |element| element == "websocket")
    {
        return Err(NotCounted::Upgrade);
    }
    status(exchange.status, track)?;
    if is_prefetch(exchange.request) {
        return Err(NotCounted::Prefetch);
    }
    let is_stream = |media_type: &str| media_type == "text/event-stream";
    if !is_plain_html(exchange.response) && media_type_is(exchange.response, is_stream) {
        return Err(NotCounted::EventStream);
    }
    if track == Track::Page {
        page_load(exchange.request)?;
        page(exchange)?;
    }
    Ok(())
}

fn status(status: StatusCode, track: Track) -> Result<(), NotCounted> {
    match status {
        StatusCode::OK => Ok(()),
        // Whether it answers a navigation is checked later.
        StatusCode::NOT_MODIFIED if track == Track::Page => Ok(()),
        StatusCode::NOT_MODIFIED => Err(NotCounted::Status),
        StatusCode::PARTIAL_CONTENT => Err(NotCounted::Partial),
        other if other.is_redirection() => Err(NotCounted::Redirect),
        other if other.is_client_error() || other.is_server_error() => Err(NotCounted::Error),
        _ => Err(NotCounted::Status),
    }
}

/// Checks that the answer is a page. A 304 need not have a content type, since the browser has one. Without it, the
/// path's extension, or the type that was sent before, tells a page from a picture that is open in a tab.
fn page(exchange: &Exchange<'_>) -> Result<(), NotCounted> {
    if is_download(exchange.response) {
        return Err(NotCounted::Download);
    }
    let says_nothing = !exchange.response.contains_key(CONTENT_TYPE);
    let is_page = if says_nothing {
        let is_of_a_file = exchange.is_of_a_file || names_a_file(exchange.path);
        exchange.status == StatusCode::NOT_MODIFIED && !is_of_a_file
    } else {
        is_plain_html(exchange.response) || media_type_is(exchange.response, is_html)
    };
    if is_page { Ok(()) } else { Err(NotCounted::NotHtml) }
}

/// Whether the answer is sent to be saved, not to be shown.
pub(crate) fn is_download(response: &HeaderMap) -> bool {
    let disposition = response.get(CONTENT_DISPOSITION);
    disposition.is_some_and(|value| starts_with_ignoring_case(value.as_bytes(), b"attachment"))
}

/// Whether a path has the extension of a file that is no page.
pub(super) fn names_a_file(path: &str) -> bool {
    let extension = path
        .rsplit('/')
        .next()
        .and_then(|name| name.rsplit_once('.'))
        .map(|(_, extension)| extension.to_ascii_lowercase());
    extension.is_some_and(|extension| FILES.contains(&&*extension))
}

/// Whether the answer says that it is HTML as most frameworks do.
fn is_plain_html(response: &HeaderMap) -> bool {
    let mut types = response.get_all(CONTENT_TYPE).iter();
    let is_usual = |sent: &HeaderValue| sent == "text/html; charset=utf-8" || sent == "text/html";
    types.next().is_some_and(is_usual) && types.next().is_none()
}

pub(super) fn media_type_is(response: &HeaderMap, is: impl Fn(&str) -> bool) -> bool {
    any_element(response, CONTENT_TYPE, is)
}

fn starts_with_ignoring_case(value: &[u8], start: &[u8]) -> bool {
    value
        .trim_ascii_start()
        .get(..start.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(start))
}
