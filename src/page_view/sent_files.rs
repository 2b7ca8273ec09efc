//! Remembers which paths were answered with files, so that a 304 for one, which need not have a content type, is not counted
//! as a page.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use http::header::{ACCEPT, CONTENT_TYPE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, VARY};
use http::{HeaderMap, HeaderName, Method, StatusCode};
use quick_cache::sync::Cache;

use super::Exchange;
use super::checks::names_a_file;
use super::navigation::is_html;
use super::navigation::{SEC_FETCH_DEST, page_load};
use crate::header_list::any_element;

/// Upper bound of remembered answers; a later 304 for any other counts.
const MOST: usize = 10_000;

/// URLs whose answer was no page, each with the answer's version. Cheap to clone: clones share them.
#[derive(Debug, Clone)]
pub struct SentFiles {
    hasher: RandomState,
    sent: Arc<Cache<u64, ()>>,
}

impl Default for SentFiles {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            sent: Arc::new(Cache::new(MOST)),
        }
    }
}

impl SentFiles {
    /// Remembers whether a 200 was a file. For a 304, returns whether the same version was sent as a file before.
    ///
    /// Answers to scripts are not remembered: a URL may be data to them and a page to browsers.
    pub(crate) fn note_or_look_up(&self, exchange: &Exchange<'_>) -> bool {
        let (path, query) = (exchange.path, exchange.query);
        let (request, response) = (exchange.request, exchange.response);
        // Paths with a file's extension need no memory.
        if exchange.method != Method::GET || names_a_file(path) {
            return false;
        }
        let key = |version: &str| self.hasher.hash_one((path, query, version));
        match exchange.status {
            StatusCode::NOT_MODIFIED => {
                let version = of(response, &ETAG, &LAST_MODIFIED)
                    .or_else(|| of(request, &IF_NONE_MATCH, &IF_MODIFIED_SINCE));
                version.is_some_and(|version| self.sent.contains_key(&key(version)))
            }
            StatusCode::OK => {
                let Some(version) = of(response, &ETAG, &LAST_MODIFIED) else {
                    return false;
                };
                if any_element(response, CONTENT_TYPE, is_html) {
                    self.sent.remove(&key(version));
                } else if is_of_a_browser(request) && !any_element(response, VARY, is_by_accept) {
                    self.sent.insert(key(version), ());
                }
                false
            }
            _ => false,
        }
    }
}

/// Whether the answer depends on `Accept`: it may be a file to one client and a page to another.
fn is_by_accept(name: &str) -> bool {
    name == "*" || name == "accept"
}

/// The version: an entity tag, weak or not, else a date.
fn of<'a>(headers: &'a HeaderMap, tag: &HeaderName, date: &HeaderName) -> Option<&'a str> {
    let value = headers.get(tag).or_else(|| headers.get(date))?.to_str().ok()?;
    Some(value.trim().trim_start_matches("W/"))
}

/// Whether the browser itself asks for something to show: a document, a picture.
fn is_of_a_browser(request: &HeaderMap) -> bool {
    let is_shown = || {
        if request.contains_key(&SEC_FETCH_DEST) {
            !any_element(request, &SEC_FETCH_DEST, |dest| dest == "empty")
        } else {
            any_element(request, ACCEPT, |kind| kind.starts_with("image/"))
        }
    };
    page_load(request).is_ok() || is_shown()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAB: &[(&str, &str)] = &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
    const PICTURE: &[(&str, &str)] = &[("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")];
    const SCRIPT: &[(&str, &str)] = &[("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")];
    const OLD_PICTURE: &[(&str, &str)] = &[("accept", "image/avif,image/webp,*/*;q=0.8")];

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    impl SentFiles {
        fn sees(&self, request: &[(&str, &str)], status: u16, response: &[(&str, &str)]) -> bool {
            let status = StatusCode::from_u16(status).unwrap();
            let (request, response) = (headers(request), headers(response));
            self.note_or_look_up(&Exchange {
                method: &Method::GET,
                path: "/media/7",
                query: Some("s=1"),
                request: &request,
                status,
                response: &response,
                route: None,
                is_of_a_file: false,
                has_token: false,
                counted_elsewhere: false,
                client_ip: None,
                started_at: chrono::DateTime::UNIX_EPOCH,
                duration: std::time::Duration::ZERO,
            })
        }
    }

    #[test]
    fn v2_what_was_sent_as_a_file_is_known_when_it_is_not_sent_again() {
        for by in [TAB, PICTURE, OLD_PICTURE] {
            let files = SentFiles::default();
            assert!(!files.sees(TAB, 304, &[("etag", "\"1\"")]));
            assert!(!files.sees(by, 200, &[("etag", "\"1\""), ("content-type", "image/png")]));
            assert!(files.sees(TAB, 304, &[("etag", "W/\"1\"")]));
            assert!(files.sees(&[TAB, &[("if-none-match", "\"1\"")]].concat(), 304, &[]));
            assert!(!files.sees(TAB, 304, &[("etag", "\"2\"")]), "another version");
        }
        let files = SentFiles::default();
        let date = ("last-modified", "Sun, 23 Nov 2025 08:00:00 GMT");
        files.sees(TAB, 200, &[date, ("content-type", "application/pdf")]);
        let since = ("if-modified-since", date.1);
        assert!(files.sees(&[TAB, &[since]].concat(), 304, &[]));
        // The URL became a page.
        files.sees(TAB, 200, &[date, ("content-type", "text/html")]);
        assert!(!files.sees(&[TAB, &[since]].concat(), 304, &[]));
    }

    #[test]
    fn v2_what_scripts_fetch_does_not_make_a_file_of_a_page() {
        let files = SentFiles::default();
        let tag = ("etag", "\"1\"");
        files.sees(SCRIPT, 200, &[tag, ("content-type", "application/json")]);
        files.sees(
            &[("accept", "application/json")],
            200,
            &[tag, ("content-type", "application/json")],
        );
        assert!(!files.sees(TAB, 304, &[tag]));
        // The app says that its answer depends on what was asked for.
        let by_kind = [
            tag,
            ("content-type", "application/json"),
            ("vary", "Cookie, Accept"),
        ];
        files.sees(OLD_PICTURE, 200, &by_kind);
        assert!(!files.sees(TAB, 304, &[tag]));
    }
}
