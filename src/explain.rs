//! Explains one URL: which route, which community, counted or why not. For `headcount routes test` and the admin
//! listener.

use std::fmt::Write as _;
use std::time::Duration;

use chrono::Utc;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::api::is_own_path;
use crate::config;
use crate::metrics::LabelValue as _;
use crate::page_view::{Exchange, NotCounted, PageView, Policy};
use crate::routes::{CommunityRef, Explanation, PAGE_VIEW, RouteMatch, RouteTable, Track, decode_path};

/// What was asked about is no request.
#[derive(Debug, thiserror::Error)]
pub enum NoRequest {
    /// The text is not a request method.
    #[error("\"{0}\" is not a request method")]
    Method(String),
    /// The text is neither a path nor a URL.
    #[error("\"{0}\" is no path: give one that begins with /, or a whole URL, such as /communities/42/")]
    Path(String),
}

/// Explains, in a few lines of text, how a signed-in member's request would be counted if the app answered it with a
/// page.
pub fn explain(
    table: &RouteTable,
    policy: &Policy,
    api: &config::Api,
    url: &str,
    method: &str,
) -> Result<String, NoRequest> {
    let method: Method = method.parse().map_err(|_| NoRequest::Method(method.into()))?;
    if !url.starts_with('/') && !url.contains("://") {
        return Err(NoRequest::Path(url.into()));
    }
    if is_own_path(api, table, path_of(url)) {
        return Ok("answered by the sidecar itself: the visitors API (see [api])\n".into());
    }
    let explanation = table.explain(url);
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "path       {}", explanation.path);
    write_route(&mut text, &explanation);
    if let Some(page_type) = &explanation.page_type {
        let _ = writeln!(text, "page type  {page_type}");
    }
    let community = match &explanation.community {
        // Of a number or a UUID nobody needs to be told.
        Some(CommunityRef::Id(id)) if is_usual_key(id) => id.to_string(),
        Some(CommunityRef::Id(id)) => {
            format!(
                "the one with key \"{id}\" (where keys are numbers or UUIDs, the view is not counted; if it is a slug, call the group community_slug)"
            )
        }
        Some(CommunityRef::Slug(slug)) => format!("the one with slug \"{slug}\""),
        Some(CommunityRef::Lookup(lookup, key)) => {
            format!("that of {lookup} \"{key}\" (looked up as [schema.lookup.{lookup}] says)")
        }
        None => "none".into(),
    };
    let _ = writeln!(text, "community  {community}");
    if let Some(found) = table
        .find(&explanation.path)
        .filter(|found| found.community.is_some())
    {
        write_access(&mut text, api.access, &found, &method);
    }
    let counted = counted(table, policy, url, &method);
    let _ = match &counted {
        Ok(_) => writeln!(
            text,
            "counted    yes, when a signed-in member's browser gets it as a page (status 200, HTML)"
        ),
        Err(reason) => writeln!(text, "counted    no: {}", reason.label()),
    };
    if let Ok(view) = counted {
        write_event(&mut text, &view);
        write_presence(&mut text, table, &view);
    }
    Ok(text)
}

/// Whether it looks like a key that the database makes.
fn is_usual_key(id: &str) -> bool {
    (!id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit())) || uuid::Uuid::try_parse(id).is_ok()
}

/// The route, and those that match as well.
fn write_route(text: &mut String, explanation: &Explanation) {
    let mut matching = explanation.tried.iter().filter(|tried| tried.matched);
    let source = matching.next().map(|tried| &*tried.source);
    let _ = match &explanation.route {
        Some(name) => writeln!(text, "route      {name}  ({})", source.unwrap_or_default()),
        None => writeln!(text, "route      none matches"),
    };
    let shadowed: Vec<&str> = matching.map(|tried| &*tried.route).collect();
    if !shadowed.is_empty() {
        let _ = writeln!(text, "also match {}  (first match wins)", shadowed.join(", "));
    }
}

/// Whether the app's answers say who may see the community, and what is finer in it, and why.
fn write_access(text: &mut String, access: config::Access, found: &RouteMatch, method: &Method) {
    if access != config::Access::Visited {
        return;
    }
    let grants = found.route.grants;
    let why_not = if method != Method::GET {
        Some("only the answers to a GET do")
    } else if found.route.track == Track::None {
        Some("track = \"none\"")
    } else if grants == Some(false) {
        Some("grants = false")
    } else {
        None
    };
    let (says, why) = match why_not {
        Some(why) => (false, why),
        None if grants == Some(true) => (true, "grants = true"),
        None if found.is_communitys_own => (
            true,
            "it is the community's own page; grants = false if anybody gets it",
        ),
        None if matches!(found.community, Some(CommunityRef::Lookup(..))) => (
            false,
            "the community is looked up; grants = true if the app shows the page to those alone who may see the community",
        ),
        None => (
            false,
            "it is below the community; grants = true if the app checks that the visitor may see the community",
        ),
    };
    let _ = if says {
        writeln!(
            text,
            "access     a 200 lets its visitor see who is in the community; 401, 403, 404 (but for a query), 410 and a redirect to another page \
             take that away: {why}"
        )
    } else {
        writeln!(
            text,
            "access     answers say nothing about who may see the community: {why}"
        )
    };
    for finer in found.finer.iter().filter(|_| why_not.is_none()) {
        let _ = writeln!(
            text,
            "access     a 200 lets its visitor see who is at {} {:?}; 401, 403, 404 (but for a query), 410 and a redirect to another page take \
             that away: presence names it",
            finer.kind(),
            finer.key()
        );
    }
}

/// What the event of a page view has that not every event has the same.
fn write_event(text: &mut String, view: &PageView) {
    let event = &view.event;
    let _ = writeln!(
        text,
        "event type {}",
        event.event_type.as_deref().unwrap_or(PAGE_VIEW)
    );
    for (key, value) in &event.metadata {
        let _ = writeln!(text, "metadata   {key} = {value:?}");
    }
    if let Some(description) = &event.description {
        let _ = writeln!(text, "describes  {description}");
    }
}

/// In what finer things than the community its visitor is counted, and where the API tells of them.
fn write_presence(text: &mut String, table: &RouteTable, view: &PageView) {
    for finer in &*view.finer {
        let kind = table
            .finer_kinds()
            .iter()
            .find(|kind| *kind.kind == *finer.kind());
        let segment = kind.map_or("", |kind| &kind.segment);
        let _ = writeln!(
            text,
            "presence   {} {:?}  (…/{segment}/{{{}}}/visitors)",
            finer.kind(),
            finer.key(),
            finer.kind()
        );
    }
}

fn counted(table: &RouteTable, policy: &Policy, url: &str, method: &Method) -> Result<PageView, NotCounted> {
    let path = decode_path(url.as_bytes());
    let found = table.find(&path);
    let (request, response) = navigation();
    let exchange = Exchange {
        method,
        path: &path,
        query: query_of(url),
        request: &request,
        status: StatusCode::OK,
        response: &response,
        route: found.as_ref(),
        is_of_a_file: false,
        has_token: true,
        counted_elsewhere: false,
        client_ip: None,
        started_at: Utc::now(),
        duration: Duration::ZERO,
    };
    PageView::from_exchange(&exchange, policy)
}

/// Headers of a browser's navigation, and of the app's page.
fn navigation() -> (HeaderMap, HeaderMap) {
    let mut request = HeaderMap::new();
    request.insert("sec-fetch-mode", HeaderValue::from_static("navigate"));
    request.insert("sec-fetch-dest", HeaderValue::from_static("document"));
    request.insert(header::ACCEPT, HeaderValue::from_static("text/html"));
    request.insert(
        header::USER_AGENT,
        HeaderValue::from_static("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    );
    let mut response = HeaderMap::new();
    response.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
    (request, response)
}

/// The raw query of a URL or of a path, if it has one.
fn query_of(url: &str) -> Option<&str> {
    let (before_fragment, _) = url.split_once('#').unwrap_or((url, ""));
    before_fragment.split_once('?').map(|(_, query)| query)
}

/// The raw path of a URL or of a path, without the query.
fn path_of(url: &str) -> &str {
    let rest = match url.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => url,
    };
    rest.split(['?', '#']).next().unwrap_or(rest)
}
