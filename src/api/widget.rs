//! Serves the widget's script. It is the same for all visitors, and needs no session.

use std::sync::{Mutex, PoisonError};

use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, VARY,
};
use http::{Response, StatusCode};

use super::problem_responses::FileProblems;
use super::{ApiState, Body};
use crate::config::CommunityKey;
use crate::key_type::KeyType;
use crate::routes::FinerKind;
use crate::widget::{Script, accepts_gzip, etags};

/// Browsers revalidate after five minutes, and use their copy until then.
const CACHED_FOR: &str = "public, max-age=300, stale-while-revalidate=86400";

/// The script of the element `<live-visitors>`
///
/// `<script async src="…/visitors/widget.js"></script>` defines `<live-visitors community="42">`, which shows how many
/// are in the community, live; with `post="7"`, where a route counts its posts, those at the post, and with `site` instead of
/// a community those on the whole site. A query is taken and means nothing: it is there for caches.
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
pub(super) fn script(shared: &ApiState, request: &HeaderMap) -> Response<Body> {
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

/// The script, rendered once for each form of it that is asked for.
#[derive(Default)]
pub(super) struct Scripts(Mutex<Option<(Form, Script)>>);

/// What the script depends on and may change: whether keys are text, and the kinds of things finer than communities.
type Form = (bool, Vec<FinerKind>);

impl ApiState {
    fn script(&self) -> Script {
        let routes = self.intake.routes.load();
        let form = (self.keys_are_text(), routes.finer_kinds().to_vec());
        // Nothing panics while it holds the lock.
        let mut rendered = self.scripts.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*rendered {
            Some((of, script)) if *of == form => script.clone(),
            _ => {
                let script = Script::new(self.paths.prefix(), self.settings.max_limit, form.0, &form.1);
                *rendered = Some((form, script.clone()));
                script
            }
        }
    }

    /// Until the key types are known, spellings that may mean the same are treated as the same.
    fn keys_are_text(&self) -> bool {
        if self.settings.community_key == CommunityKey::Slug {
            return true;
        }
        let types = self.store.keys().get();
        matches!(
            types.map(|types| types.community),
            Some(KeyType::Text(_) | KeyType::LooseText(_))
        )
    }
}
