//! Navigation requests: whether and how a request loads a page, for the visitor (V1, V10, V11) or ahead of time (V3).
//! The request's headers alone decide.
//!
//! The requests that browsers and script libraries really send, and the decision for each, are in one table:
//! `tests/integration/browsers/fetch_metadata.toml`. A test records it again from the browsers themselves.

use http::header::{ACCEPT, HOST};
use http::{HeaderMap, HeaderName};

use super::NotCounted;
use crate::header_list::any_element;

// Names that are parsed already: a text is parsed with each look-up, and there are many for one request.
static SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
pub(super) static SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
static X_REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");
static SEC_PURPOSE: [HeaderName; 2] = [
    HeaderName::from_static("sec-purpose"),
    HeaderName::from_static("x-sec-purpose"),
];
static PURPOSE: [HeaderName; 2] = [
    HeaderName::from_static("purpose"),
    HeaderName::from_static("x-purpose"),
];
static X_MOZ: HeaderName = HeaderName::from_static("x-moz");
static TURBO_FRAME: HeaderName = HeaderName::from_static("turbo-frame");
static X_TURBO_REQUEST_ID: HeaderName = HeaderName::from_static("x-turbo-request-id");
static HX_REQUEST: HeaderName = HeaderName::from_static("hx-request");
static HX_PRELOADED: HeaderName = HeaderName::from_static("hx-preloaded");
static HX_BOOSTED: HeaderName = HeaderName::from_static("hx-boosted");
static HX_HISTORY: HeaderName = HeaderName::from_static("hx-history-restore-request");

/// How a page is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PageLoad {
    /// The browser loads a document, by itself or through a service worker.
    Document,
    /// Turbo Drive fetches a whole page and takes its head and its body for the page's.
    Turbo,
    /// htmx fetches a page for a boosted link or form and takes its body, or a part of it; its head is dropped.
    Boosted,
}

/// Whether any header may be one that prefetches and scripts' requests have. Those that browsers send with every page have none, and
/// one pass over their names takes a tenth of a search for each of a dozen.
fn has_unusual(request: &HeaderMap) -> bool {
    request.keys().any(|name| {
        matches!(
            name.as_str().as_bytes(),
            [b'h' | b'x', ..] | [b'p' | b't', b'u', ..] | [b's', b'e', b'c', b'-', b'p', ..]
        ) && *name != HOST
    })
}

/// Whether a request is a browser's for a document, as nearly all page views are.
fn is_plain_navigation(request: &HeaderMap) -> bool {
    let is = |name: &HeaderName, value: &str| request.get(name).is_some_and(|sent| sent == value);
    let none_twice = request.len() == request.keys_len();
    none_twice && is(&SEC_FETCH_MODE, "navigate") && is(&SEC_FETCH_DEST, "document") && !has_unusual(request)
}

/// Whether a request is a prefetch or prerender, for a page that may never be shown. Some values carry parameters.
pub(crate) fn is_prefetch(request: &HeaderMap) -> bool {
    if !has_unusual(request) {
        return false;
    }
    let one_of =
        |names: &[HeaderName], is: fn(&str) -> bool| names.iter().any(|name| any_element(request, name, is));
    one_of(&SEC_PURPOSE, |purpose| {
        purpose.starts_with("prefetch") || purpose.starts_with("prerender")
    }) || one_of(&PURPOSE, |purpose| {
        ["prefetch", "preview", "prerender"].contains(&purpose)
    }) || any_element(request, &X_MOZ, |purpose| purpose == "prefetch")
        // htmx's extension `preload`.
        || any_element(request, &HX_PRELOADED, |value| value == "true")
}

/// How a request loads a page; an error where a script, an image or a frame asks for something else. Prefetches have an
/// answer, too: such a page may be shown later.
pub(crate) fn page_load(request: &HeaderMap) -> Result<PageLoad, NotCounted> {
    if is_plain_navigation(request) {
        return Ok(PageLoad::Document);
    }
    let is_framed = |dest: &str| ["iframe", "frame", "fencedframe", "object", "embed"].contains(&dest);
    if any_element(request, &SEC_FETCH_DEST, is_framed) || request.contains_key(&TURBO_FRAME) {
        return Err(NotCounted::Frame);
    }
    let is_true = |value: &str| value == "true";
    if any_element(request, &HX_BOOSTED, is_true) || any_element(request, &HX_HISTORY, is_true) {
        return Ok(PageLoad::Boosted);
    }
    // Scripts use Turbo's `fetch`, too, and send a header for it: Rails' `request.js`, for example.
    if request.contains_key(&X_TURBO_REQUEST_ID) && accepts_html(request) && !is_made_by_script(request) {
        return Ok(PageLoad::Turbo);
    }
    if !request.contains_key(&HX_REQUEST) && is_document(request) {
        return Ok(PageLoad::Document);
    }
    Err(NotCounted::NotNavigation)
}

/// Whether the browser loads a document. Over TLS (and on the local machine) it sends fetch metadata, which takes
/// precedence over the guess from `Accept`.
fn is_document(request: &HeaderMap) -> bool {
    let is = |name: &HeaderName, value: &str| any_element(request, name, |element| element == value);
    match (
        request.contains_key(&SEC_FETCH_MODE),
        request.contains_key(&SEC_FETCH_DEST),
    ) {
        (false, false) => accepts_html(request) && !is_made_by_script(request),
        (false, true) => is(&SEC_FETCH_DEST, "document"),
        (true, false) => is(&SEC_FETCH_MODE, "navigate"),
        (true, true) if is(&SEC_FETCH_MODE, "navigate") => {
            // A service worker that passes a navigation on makes its destination empty.
            is(&SEC_FETCH_DEST, "document") || is(&SEC_FETCH_DEST, "empty")
        }
        // In Firefox such a worker changes the mode, too, as it does elsewhere where it passes options of its own. What
        // remains is the browser's own `Accept`, which no script library sends.
        (true, true) if is(&SEC_FETCH_MODE, "same-origin") => {
            is(&SEC_FETCH_DEST, "empty") && accepts_html(request) && is(&ACCEPT, "application/xml")
        }
        // `<link rel=prefetch>`: from the browser's cache it becomes a document.
        (true, true) if is(&SEC_FETCH_MODE, "no-cors") => {
            is(&SEC_FETCH_DEST, "empty") && accepts_html(request) && is_prefetch(request)
        }
        (true, true) => false,
    }
}

fn accepts_html(request: &HeaderMap) -> bool {
    any_element(request, ACCEPT, is_html)
}

/// Whether a media type is that of a page.
pub(super) fn is_html(media_type: &str) -> bool {
    matches!(media_type, "text/html" | "application/xhtml+xml")
}

/// `X-Requested-With`, which script libraries send. Android web views send it too, with the name of their app
/// (`com.example.app`) and with every request, so that value is ignored.
fn is_made_by_script(request: &HeaderMap) -> bool {
    any_element(request, &X_REQUESTED_WITH, |value| !value.contains('.'))
}
