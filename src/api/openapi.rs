//! The contract: an `OpenAPI` 3.1 document generated from the handlers and the answers' types. `site` adds what
//! depends on the site's configuration, `servers` what holds for API keys.

mod servers;
mod site;

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use serde_json::Value;
use utoipa::OpenApi;

use super::paths::Paths;
use super::problem::{Problem, ProblemDocument};
use super::problem_responses::FileProblems;
use super::query;
use super::{ApiState, Body, SiteSettings};
use crate::config;
use crate::routes::FinerKind;

/// The API as the handlers declare it, without the configured prefix.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Visitors",
        description = "Who is in which community right now. Every path also answers with a trailing slash, and \
                       those that are read, but for the live ones, to HEAD. Query parameters that are not described are refused, \
                       and so is each that is given twice. Requests that are no HTTP, or larger than the site's limits, \
                       are answered 400, 408, 413 or 431 whatever the path. Answers may be read by pages of the site, and of \
                       the origins that the site allows, with the visitor's cookies (CORS)."
    ),
    tags(
        (name = "visitors", description = "Who is here now, and how many."),
        (name = "site", description = "Who is on the whole site now, and how many."),
        (name = "statistics", description = "Numbers over days."),
        (name = "live", description = "Counts, each time they change."),
        (name = "reports", description = "Page views that no proxy can see."),
        (name = "widget", description = "A count in a page."),
        (name = "contract", description = "This document."),
    ),
    paths(
        super::visitors::list,
        super::visitors::count,
        super::stats::stats,
        super::history::history,
        super::history::history_of_one,
        super::live::live,
        super::finer::list,
        super::finer::count,
        super::live::finer_live,
        super::site::count,
        super::site::online,
        super::site::users,
        super::visitors::counts,
        super::live::live_of_many,
        super::reports::report,
        super::widget::script,
        contract
    ),
    components(schemas(ProblemDocument, query::AskedKey, query::AskedUser))
)]
struct Declared;

/// This document
#[utoipa::path(
    get,
    path = "/visitors/openapi.json",
    tag = "contract",
    operation_id = "contract",
    responses(
        (status = 200, description = "The contract", content_type = "application/json", body = Object),
        (status = 400, description = "Query parameters are not accepted.", content_type = "application/problem+json",
            body = ProblemDocument),
        (status = 404, description = "Another `format` than JSON is asked for.",
            content_type = "application/problem+json", body = ProblemDocument),
        FileProblems
    )
)]
pub(super) fn contract(shared: &ApiState, query: Option<&str>) -> Result<Response<Body>, Problem> {
    query::none(query)?;
    let mut response = Response::new(Body::Bytes(shared.contract.document(shared)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    Ok(response)
}

/// The document, rendered once for the routes in use.
pub(super) struct Contract {
    site: SiteSettings,
    rendered: Mutex<Option<(Vec<FinerKind>, Bytes)>>,
}

impl Contract {
    /// Of a site with these settings.
    pub(super) fn new(site: SiteSettings) -> Self {
        Self {
            site,
            rendered: Mutex::default(),
        }
    }

    fn document(&self, shared: &ApiState) -> Bytes {
        let routes = shared.intake.routes.load();
        let kinds = routes.finer_kinds();
        // Nothing panics while it holds the lock.
        let mut rendered = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        match &*rendered {
            Some((of, document)) if of == kinds => document.clone(),
            _ => {
                let document = render(&shared.paths, &shared.settings, &self.site, kinds);
                *rendered = Some((kinds.to_vec(), document.clone()));
                document
            }
        }
    }
}

fn render(paths: &Paths, settings: &config::Api, site: &SiteSettings, kinds: &[FinerKind]) -> Bytes {
    let mut document = Declared::openapi();
    // The API is the site's; the crate's licence says nothing about it.
    document.info.license = None;
    // The document is plain data: serialising it does not fail.
    let mut document = serde_json::to_value(document).unwrap_or(Value::Null);
    site::fit(&mut document, paths, settings, site, kinds);
    site::leave_out(&mut document, site.session_facts);
    serde_json::to_vec(&document).unwrap_or_default().into()
}
