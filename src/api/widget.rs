//! Serves the widget's script. It is the same for all visitors, and needs no session.

use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, VARY,
};
use http::{Response, StatusCode};

use super::problem_responses::FileProblems;
use super::{Body, Shared};
use crate::config::CommunityKey;
use crate::key_type::KeyType;
use crate::widget::{Script, accepts_gzip, etags};

/// Browsers revalidate after five minutes, and use their copy until then.
const CACHED_FOR: &str = "public, max-age=300, stale-while-revalidate=86400";

/// The script of the element `<live-visitors>`
///
/// `<script async src="…/visitors/widget.js"></script>` defines `<live-visitors community="42">`, which shows how many
/// are in the community, live. A query is taken and means nothing: it is there for caches.
#[utoipa::path(
    get,
    path = "/visitors/widget.js",
    tag = "widget",
    operation_id = "widget_script",
    responses(
        (status = 200, description = "The script", content_type = "text/javascript", body = String),
        (status = 304, description = "The browser has it"),
        FileProblems
    )
)]
pub(super) fn script(shared: &Shared, request: &HeaderMap) -> Response<Body> {
    let script = shared.script();
    let version = script.version();
    let mut conditions = request
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let is_known = conditions.any(|condition| etags::any_is(condition, version));
    let mut response = Response::new(Body::default());
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(CACHED_FOR));
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    // Weak: it identifies the text, compressed or not. Hexadecimal: always a value.
    if let Ok(tag) = HeaderValue::try_from(format!("W/\"{version}\"")) {
        headers.insert(ETAG, tag);
    }
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/javascript; charset=utf-8"),
    );
    let packed = script.packed().filter(|_| accepts_gzip(request));
    if packed.is_some() {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    *response.body_mut() = Body::Bytes(packed.unwrap_or_else(|| script.text()));
    response
}

impl Shared {
    /// Until the key types are known, spellings that may mean the same are treated as the same.
    fn script(&self) -> &Script {
        if self.settings.community_key == CommunityKey::Slug {
            return &self.script_of_text_keys;
        }
        match self.store.keys().get().map(|types| types.community) {
            Some(KeyType::Text(_) | KeyType::LooseText(_)) => &self.script_of_text_keys,
            Some(KeyType::Integer(..) | KeyType::Uuid) | None => &self.script,
        }
    }
}
