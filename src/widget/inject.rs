//! Decides which pages get the widget, and changes their headers. Pure.
//!
//! | request of a candidate | |
//! |---|---|
//! | `Accept-Encoding` | `gzip` where the browser accepts it, else `identity`: what can be decompressed |
//! | `If-None-Match` | the app's own tags of pages that have the widget; others are removed |
//! | `If-Modified-Since` | removed, or set from such a tag |
//!
//! | response with the widget | |
//! |---|---|
//! | `Content-Length` | removed: the body is chunked, or ends with its connection |
//! | `ETag` | marked; see [`super::etags`] |
//! | `Accept-Ranges` | `none`: parts of two pages must not be combined |
//! | digests of the body | removed |
//!
//! A candidate is a visit of a whole page of a community (by the browser, also by prefetch, or by Turbo Drive), by
//! a visitor who may see counts, as far as is known without waiting. Its response gets the widget if it is a 200
//! with HTML that is no download, and nothing forbids it. Everything else passes unchanged.

use std::sync::Arc;

use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, RANGE, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::accepts_gzip;
use super::body::{Coding, PageBody};
use super::charset;
use super::csp::Policies;
use super::etags::WidgetHash;
use super::outcome::Outcome;
use super::page::Page;
use super::rewriter::{Insertion, ResourcePaths};
use super::tag::{Tag, TagCommunity};
use crate::config;
use crate::header_edits::HeaderEdits;
use crate::header_list::any_element;
use crate::page_view::{PageLoad, is_download, page_load};
use crate::routes::{RouteMatch, Track};

/// Digests of the body as the app sent it.
const DIGESTS: [&str; 4] = ["content-md5", "digest", "content-digest", "repr-digest"];

/// Puts the widget into pages.
pub struct Injector {
    tag: Arc<Tag>,
    paths: Arc<ResourcePaths>,
    mark: WidgetHash,
    needs_session: bool,
}

/// What to do with a candidate's response.
pub(crate) enum Decision {
    /// It passes unchanged; without an outcome if it is no page.
    Leave(Option<Outcome>),
    /// Its headers change: the browser's copy of the page is current.
    Revalidated(HeaderEdits),
    /// It gets the widget, if the place for it is found.
    Rewrite(HeaderEdits, Box<PageBody>),
}

impl Injector {
    /// `script` and `live` are the paths of the script and of live connections; `needs_session`: only signed-in
    /// visitors may see counts.
    pub fn new(settings: &config::Widget, script: String, live: String, needs_session: bool) -> Self {
        let tag = Tag::new(&script, settings);
        Self {
            mark: WidgetHash::of(&tag.fixed()),
            tag: Arc::new(tag),
            paths: Arc::new(ResourcePaths { script, live }),
            needs_session,
        }
    }

    /// Whether a request may be answered with a page that gets the widget.
    pub(crate) fn is_candidate(
        &self,
        method: &Method,
        request: &HeaderMap,
        route: Option<&RouteMatch>,
        has_token: bool,
    ) -> bool {
        // On routes that are not tracked no visitor is counted as present, either.
        let is_wanted = |found: &RouteMatch| {
            found.route.widget && found.route.track != Track::None && found.community.is_some()
        };
        method == Method::GET
            && (has_token || !self.needs_session)
            && route.is_some_and(is_wanted)
            // htmx ignores the head of a boosted page.
            && matches!(page_load(request), Ok(PageLoad::Document | PageLoad::Turbo))
            // A download is resumed.
            && !request.contains_key(RANGE)
    }

    /// Changes of a candidate's request headers.
    pub(crate) fn request(&self, request: &HeaderMap) -> HeaderEdits {
        let mut edits = HeaderEdits::default();
        if request.contains_key(ACCEPT_ENCODING) {
            let coding = if accepts_gzip(request) { "gzip" } else { "identity" };
            edits
                .set
                .push((ACCEPT_ENCODING, HeaderValue::from_static(coding)));
        }
        let none_match = request.get_all(IF_NONE_MATCH).iter();
        let conditions = self
            .mark
            .conditions(none_match.filter_map(|value| value.to_str().ok()));
        for (name, value) in [
            (IF_NONE_MATCH, conditions.none_match),
            (IF_MODIFIED_SINCE, conditions.modified_since),
        ] {
            match value.and_then(|value| HeaderValue::try_from(value).ok()) {
                Some(value) => edits.set.push((name, value)),
                None => edits.remove.push(name),
            }
        }
        edits
    }

    /// Decides on a candidate's response. `community` is the page's, if it is known.
    pub(crate) fn decide(
        &self,
        request: &HeaderMap,
        status: StatusCode,
        response: &HeaderMap,
        community: Option<TagCommunity>,
        page: Page,
    ) -> Decision {
        if status == StatusCode::NOT_MODIFIED {
            return Decision::Revalidated(self.marked(response));
        }
        let is_empty = response.get(CONTENT_LENGTH).is_some_and(|length| length == "0");
        let is_html = any_element(response, CONTENT_TYPE, |media_type| media_type == "text/html");
        if status != StatusCode::OK || !is_html || is_empty || is_download(response) {
            return Decision::Leave(None);
        }
        let coding = match transformable(request, response) {
            Ok(coding) => coding,
            Err(outcome) => return Decision::Leave(Some(outcome)),
        };
        if self.needs_session && is_for_everybody(response) {
            return Decision::Leave(Some(Outcome::SharedCache));
        }
        let policies = Policies::of(response);
        if let Err(blocked) = policies.verdict(&page, &self.paths.script, &self.paths.live) {
            return Decision::Leave(Some(blocked.into()));
        }
        let Some(community) = community else {
            return Decision::Leave(Some(Outcome::UnknownCommunity));
        };
        let wanted = Insertion {
            tag: Arc::clone(&self.tag),
            community,
            page,
            policies,
            paths: Arc::clone(&self.paths),
        };
        let mut edits = self.marked(response);
        edits.remove.push(CONTENT_LENGTH);
        edits.remove.extend(DIGESTS.map(HeaderName::from_static));
        for (name, value) in [(TRANSFER_ENCODING, "chunked"), (ACCEPT_RANGES, "none")] {
            edits.set.push((name, HeaderValue::from_static(value)));
        }
        Decision::Rewrite(edits, Box::new(PageBody::new(coding, wanted)))
    }

    /// The entity tag of the page with the widget.
    fn marked(&self, response: &HeaderMap) -> HeaderEdits {
        let text = |name: HeaderName| response.get(name).map(|value| value.to_str().unwrap_or_default());
        let tag = self.mark.tag(text(ETAG), text(LAST_MODIFIED));
        let mut edits = HeaderEdits::default();
        match tag.and_then(|tag| HeaderValue::try_from(tag).ok()) {
            Some(tag) => edits.set.push((ETAG, tag)),
            None => edits.remove.push(ETAG),
        }
        edits
    }
}

/// Whether shared caches may give the page to other visitors, such as those who are not signed in.
fn is_for_everybody(response: &HeaderMap) -> bool {
    any_element(response, CACHE_CONTROL, |directive| {
        directive == "public" || directive.starts_with("s-maxage")
    })
}

/// The compression of the body, if the page may be changed.
fn transformable(request: &HeaderMap, response: &HeaderMap) -> Result<Coding, Outcome> {
    let forbids = |headers| any_element(headers, CACHE_CONTROL, |directive| directive == "no-transform");
    if forbids(request) || forbids(response) {
        return Err(Outcome::NoTransform);
    }
    let content_type = response.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let declared = content_type.and_then(charset::of_content_type);
    if declared.is_some_and(|label| !charset::is_like_ascii(label)) {
        return Err(Outcome::Charset);
    }
    let mut codings = response.get_all(CONTENT_ENCODING).iter();
    let coding = codings
        .next()
        .map(|coding| coding.as_bytes().trim_ascii().to_ascii_lowercase());
    match (coding.as_deref(), codings.next()) {
        (None | Some(b"identity" | b""), None) => Ok(Coding::Identity),
        (Some(b"gzip" | b"x-gzip"), None) => Ok(Coding::Gzip),
        _ => Err(Outcome::Encoding),
    }
}

#[cfg(test)]
mod tests;
