//! The rules: who looks (V4, V8), and whether what they got is a page (V1, V2, V3).

use http::header::{ACCEPT, CONTENT_DISPOSITION, CONTENT_TYPE, UPGRADE};
use http::{HeaderMap, Method, StatusCode};

use super::{Exchange, NotCounted, Policy};
use crate::header_list::any_element;
use crate::routes::{RouteMatch, Track};

const SEC_FETCH_MODE: &str = "sec-fetch-mode";
const SEC_FETCH_DEST: &str = "sec-fetch-dest";
const X_REQUESTED_WITH: &str = "x-requested-with";

/// The rules that need no look at the exchange.
pub(super) fn who(
    route: Option<&RouteMatch>,
    has_token: bool,
    counted_elsewhere: bool,
    policy: &Policy,
) -> Result<(), NotCounted> {
    match route.map(|matched| matched.route.track) {
        Some(Track::None) => return Err(NotCounted::RouteExcluded),
        None if !policy.unmatched => return Err(NotCounted::Unmatched),
        _ => {}
    }
    if counted_elsewhere {
        return Err(NotCounted::CountedElsewhere);
    }
    if !has_token {
        return Err(NotCounted::Anonymous);
    }
    Ok(())
}

/// The rules about request and response. Where requests are tracked, those about navigation and HTML do not
/// apply; an event stream is a connection and counts nowhere.
pub(super) fn what(exchange: &Exchange<'_>) -> Result<(), NotCounted> {
    let track = exchange.route.map_or(Track::Page, |matched| matched.route.track);
    if exchange.method != Method::GET {
        return Err(NotCounted::Method);
    }
    if exchange.status == StatusCode::SWITCHING_PROTOCOLS
        || any_element(exchange.request, UPGRADE.as_str(), |element| {
            element == "websocket"
        })
    {
        return Err(NotCounted::Upgrade);
    }
    status(exchange.status, track)?;
    if is_prefetch(exchange.request) {
        return Err(NotCounted::Prefetch);
    }
    if media_type_is(exchange.response, |media_type| media_type == "text/event-stream") {
        return Err(NotCounted::EventStream);
    }
    if track == Track::Page {
        navigation(exchange.request)?;
        page(exchange)?;
    }
    Ok(())
}

fn status(status: StatusCode, track: Track) -> Result<(), NotCounted> {
    match status {
        StatusCode::OK => Ok(()),
        // Whether it answers a navigation is looked at later.
        StatusCode::NOT_MODIFIED if track == Track::Page => Ok(()),
        StatusCode::NOT_MODIFIED => Err(NotCounted::Status),
        StatusCode::PARTIAL_CONTENT => Err(NotCounted::Partial),
        other if other.is_redirection() => Err(NotCounted::Redirect),
        other if other.is_client_error() || other.is_server_error() => Err(NotCounted::Error),
        _ => Err(NotCounted::Status),
    }
}

/// Browsers fetch pages that nobody may ever look at. `Sec-Purpose` carries parameters behind its value.
fn is_prefetch(request: &HeaderMap) -> bool {
    any_element(request, "sec-purpose", |purpose| {
        purpose.starts_with("prefetch") || purpose.starts_with("prerender")
    }) || ["purpose", "x-purpose"].iter().any(|name| {
        any_element(request, name, |purpose| {
            ["prefetch", "preview", "prerender"].contains(&purpose)
        })
    }) || any_element(request, "x-moz", |purpose| purpose == "prefetch")
}

/// Somebody went to a page, as against a script, an image or a frame asking for something.
pub(super) fn navigation(request: &HeaderMap) -> Result<(), NotCounted> {
    let one_of = |name, values: &[&str]| any_element(request, name, |value| values.contains(&value));
    if one_of(
        SEC_FETCH_DEST,
        &["iframe", "frame", "fencedframe", "object", "embed"],
    ) {
        return Err(NotCounted::Frame);
    }
    let is_navigation = if request.contains_key(SEC_FETCH_MODE) || request.contains_key(SEC_FETCH_DEST) {
        // A browser that sends one of the two is judged by the one.
        (!request.contains_key(SEC_FETCH_MODE) || one_of(SEC_FETCH_MODE, &["navigate"]))
            && (!request.contains_key(SEC_FETCH_DEST) || one_of(SEC_FETCH_DEST, &["document"]))
    } else {
        any_element(request, ACCEPT.as_str(), is_html) && !is_made_by_script(request)
    };
    if is_navigation {
        Ok(())
    } else {
        Err(NotCounted::NotNavigation)
    }
}

/// `X-Requested-With`, which script libraries send. Android web views send it too, with the name of their
/// app (`com.example.app`) and on every request: that says nothing.
fn is_made_by_script(request: &HeaderMap) -> bool {
    any_element(request, X_REQUESTED_WITH, |value| !value.contains('.'))
}

/// What came back is a page to look at. A 304 need not say so: the browser has it.
fn page(exchange: &Exchange<'_>) -> Result<(), NotCounted> {
    if is_download(exchange.response) {
        return Err(NotCounted::Download);
    }
    let says_nothing = !exchange.response.contains_key(CONTENT_TYPE);
    let is_page = if says_nothing {
        exchange.status == StatusCode::NOT_MODIFIED
    } else {
        media_type_is(exchange.response, is_html)
    };
    if is_page { Ok(()) } else { Err(NotCounted::NotHtml) }
}

/// Sent to be saved, not to be looked at.
pub(crate) fn is_download(response: &HeaderMap) -> bool {
    let disposition = response.get(CONTENT_DISPOSITION);
    disposition.is_some_and(|value| starts_with_ignoring_case(value.as_bytes(), b"attachment"))
}

fn is_html(media_type: &str) -> bool {
    matches!(media_type, "text/html" | "application/xhtml+xml")
}

fn media_type_is(response: &HeaderMap, is: impl Fn(&str) -> bool) -> bool {
    any_element(response, CONTENT_TYPE.as_str(), is)
}

fn starts_with_ignoring_case(value: &[u8], start: &[u8]) -> bool {
    value
        .trim_ascii_start()
        .get(..start.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(start))
}
