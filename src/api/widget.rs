//! Serves the widget's script. It is the same for all visitors, and needs no session.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderMap, IF_NONE_MATCH, VARY};

use super::Shared;
use super::responses::FileProblems;
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
pub(super) async fn script(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let script = shared.script();
    let version = script.version();
    let mut conditions = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let is_known = conditions.any(|condition| etags::any_is(condition, version));
    // Weak: it identifies the text, compressed or not.
    let caching = [
        (CACHE_CONTROL, CACHED_FOR.to_owned()),
        (ETAG, format!("W/\"{version}\"")),
        (VARY, "Accept-Encoding".to_owned()),
    ];
    if is_known {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    let kind = [(CONTENT_TYPE, "text/javascript; charset=utf-8")];
    let packed = script.packed().filter(|_| accepts_gzip(&headers));
    match packed {
        Some(packed) => (kind, [(CONTENT_ENCODING, "gzip")], caching, packed).into_response(),
        None => (kind, caching, script.text()).into_response(),
    }
}

impl Shared {
    /// Until the key types are known, spellings that may mean the same are treated as the same.
    fn script(&self) -> &Script {
        match self.store.keys().get().map(|types| types.community) {
            Some(KeyType::Text(_) | KeyType::LooseText(_)) => &self.script_of_text_keys,
            Some(KeyType::Integer(..) | KeyType::Uuid) | None => &self.script,
        }
    }
}
