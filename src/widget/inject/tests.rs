//! Tests of the headers of requests and responses.

use super::*;
use crate::ids::CommunityId;
use crate::routes::{CommunityRef, EventForm, Route, RouteHandles, Track};

type Pairs = &'static [(&'static str, &'static str)];

const HTML: (&str, &str) = ("content-type", "text/html; charset=utf-8");
const NAVIGATION: (&str, &str) = ("accept", "text/html,*/*;q=0.8");

fn injector() -> Injector {
    Injector::new(
        &config::Widget::default(),
        "/api/visitors/widget.js".into(),
        "/api/communities/{community}/visitors/live".into(),
        true,
    )
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn route(widget: bool, community: Option<&str>) -> RouteMatch {
    RouteMatch {
        route: Arc::new(Route {
            name: "community".into(),
            page_type: "community".into(),
            track: Track::Page,
            search_param: None,
            widget,
            grants: None,
            event: EventForm::default(),
            handles: RouteHandles::default(),
        }),
        community: community.map(|id| CommunityRef::Id(id.into())),
        finer: Arc::default(),
        is_communitys_own: true,
        captures: Vec::new(),
    }
}

fn decided(request: &[(&'static str, &str)], status: u16, response: &[(&'static str, &str)]) -> Decision {
    let page = Page {
        tls: true,
        authority: Some("site.test".into()),
        prefix: String::new(),
    };
    let status = StatusCode::from_u16(status).unwrap();
    injector().decide(
        &headers(request),
        status,
        &headers(response),
        Some(CommunityId::from("42").into()),
        page,
    )
}

#[track_caller]
fn left(status: u16, response: &[(&'static str, &str)]) -> Option<Outcome> {
    match decided(&[], status, response) {
        Decision::Leave(outcome) => outcome,
        Decision::Revalidated(_) | Decision::Rewrite(..) => {
            panic!("{status} {response:?} does not pass as it came")
        }
    }
}

#[track_caller]
fn rewritten(response: &[(&'static str, &str)]) -> HeaderMap {
    let Decision::Rewrite(edits, _) = decided(&[], 200, response) else {
        panic!("{response:?} passes as it came");
    };
    let mut headers = headers(response);
    edits.apply(&mut headers);
    headers
}

/// The headers that are the injector's business, of a candidate's request to the app.
fn asked(pairs: &[(&'static str, &str)]) -> [Option<String>; 3] {
    let mut request = headers(pairs);
    injector().request(&request).apply(&mut request);
    [ACCEPT_ENCODING, IF_NONE_MATCH, IF_MODIFIED_SINCE]
        .map(|name| request.get(name).map(|value| value.to_str().unwrap().to_owned()))
}

#[test]
fn v11_whole_pages_are_candidates_however_they_are_asked_for() {
    const BROWSERS_OWN: (&str, &str) = ("accept", "text/html,application/xml;q=0.9,*/*;q=0.8");
    let is = |mode, dest, more: &[(&'static str, &str)]| {
        let mut request = headers(&[("sec-fetch-mode", mode), ("sec-fetch-dest", dest)]);
        request.extend(headers(more));
        injector().is_candidate(&Method::GET, &request, Some(&route(true, Some("42"))), true)
    };
    let turbo = ("x-turbo-request-id", "1");
    // By service workers.
    assert!(is("navigate", "empty", &[BROWSERS_OWN]));
    assert!(is("same-origin", "empty", &[BROWSERS_OWN]));
    // Ahead.
    assert!(is(
        "navigate",
        "document",
        &[BROWSERS_OWN, ("sec-purpose", "prefetch;prerender")]
    ));
    assert!(is(
        "no-cors",
        "empty",
        &[BROWSERS_OWN, ("sec-purpose", "prefetch")]
    ));
    // By Turbo Drive, which takes heads, too.
    assert!(is("cors", "empty", &[NAVIGATION, turbo]));
    assert!(is(
        "cors",
        "empty",
        &[NAVIGATION, turbo, ("x-sec-purpose", "prefetch")]
    ));
    assert!(!is("cors", "empty", &[NAVIGATION, turbo, ("turbo-frame", "f")]));
    // htmx does not.
    assert!(!is("cors", "empty", &[("accept", "*/*"), ("hx-boosted", "true")]));
    assert!(!is("no-cors", "empty", &[BROWSERS_OWN]));
}

#[test]
fn a_candidate_is_a_navigation_to_a_page_of_a_community() {
    let is = |method: Method, request: Pairs, route: Option<RouteMatch>| {
        injector().is_candidate(&method, &headers(request), route.as_ref(), true)
    };
    let page = || Some(route(true, Some("42")));
    assert!(is(Method::GET, &[NAVIGATION], page()));
    assert!(is(
        Method::GET,
        &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")],
        page()
    ));
    assert!(!is(Method::HEAD, &[NAVIGATION], page()));
    assert!(!is(Method::POST, &[NAVIGATION], page()));
    assert!(!is(Method::GET, &[("accept", "*/*")], page()));
    assert!(!is(
        Method::GET,
        &[NAVIGATION, ("sec-fetch-mode", "cors")],
        page()
    ));
    assert!(!is(
        Method::GET,
        &[NAVIGATION, ("sec-fetch-dest", "iframe")],
        page()
    ));
    assert!(!is(
        Method::GET,
        &[NAVIGATION, ("x-requested-with", "XMLHttpRequest")],
        page()
    ));
    assert!(!is(Method::GET, &[NAVIGATION], None));
    assert!(!is(Method::GET, &[NAVIGATION], Some(route(true, None))));
    assert!(!is(Method::GET, &[NAVIGATION], Some(route(false, Some("42")))));
}

#[test]
fn who_is_not_signed_in_has_no_use_for_it_unless_everybody_may_ask() {
    let page = route(true, Some("42"));
    let is = |injector: &Injector| {
        injector.is_candidate(&Method::GET, &headers(&[NAVIGATION]), Some(&page), false)
    };
    let mut injector = injector();
    assert!(!is(&injector));
    injector.needs_session = false;
    assert!(is(&injector));
}

#[test]
fn pages_that_are_not_tracked_are_left_out() {
    let mut page = route(true, Some("42"));
    let track = |track| {
        Arc::new(Route {
            track,
            ..(*route(true, None).route).clone()
        })
    };
    for (tracked, expected) in [(Track::Page, true), (Track::Request, true), (Track::None, false)] {
        page.route = track(tracked);
        let found = injector().is_candidate(&Method::GET, &headers(&[NAVIGATION]), Some(&page), true);
        assert_eq!(found, expected, "{tracked:?}");
    }
}

#[test]
fn who_goes_on_with_a_download_is_no_candidate() {
    let page = route(true, Some("42"));
    for more in [("range", "bytes=5-"), ("Range", "bytes=0-5, 7-")] {
        let request = headers(&[NAVIGATION, more, ("if-range", "\"v1\"")]);
        assert!(!injector().is_candidate(&Method::GET, &request, Some(&page), true));
    }
}

#[test]
fn only_what_can_be_unpacked_is_asked_for() {
    let coding = |accepted: &'static str| asked(&[("accept-encoding", accepted)])[0].clone().unwrap();
    for accepted in [
        "gzip, deflate, br, zstd",
        "br;q=1, GZIP;q=0.1",
        "*",
        "br, *;q=0.5",
    ] {
        assert_eq!(coding(accepted), "gzip", "{accepted}");
    }
    for accepted in ["br", "gzip;q=0", "gzip; q=0.000, *", "identity", "", "*;q=0"] {
        assert_eq!(coding(accepted), "identity", "{accepted}");
    }
    assert_eq!(asked(&[])[0], None);
}

#[test]
fn the_app_is_asked_about_its_own_tags_and_times() {
    let tag = |response: &[(&'static str, &str)]| rewritten(response)["etag"].to_str().unwrap().to_owned();
    let strong = tag(&[HTML, ("etag", "\"v1\"")]);
    let weak = tag(&[HTML, ("etag", "W/\"v1\"")]);
    let time = "Sun, 23 Nov 2025 08:00:00 GMT";
    let timed = tag(&[HTML, ("last-modified", time)]);
    assert!([&strong, &weak, &timed].iter().all(|tag| tag.starts_with("W/\"")));

    let conditions = |sent: &str| {
        let [_, none_match, since] = asked(&[("if-none-match", sent), ("if-modified-since", time)]);
        (none_match, since)
    };
    assert_eq!(conditions(&strong), (Some("\"v1\"".into()), None));
    assert_eq!(conditions(&weak), (Some("W/\"v1\"".into()), None));
    assert_eq!(conditions(&timed), (None, Some(time.into())));
    // Of a page without the widget.
    assert_eq!(conditions("\"v1\""), (None, None));
    assert_eq!(asked(&[("if-modified-since", time)])[2], None);
}

#[test]
fn a_page_gets_a_head_that_fits_its_new_body() {
    let head = rewritten(&[
        HTML,
        ("content-length", "100"),
        ("accept-ranges", "bytes"),
        ("content-md5", "Q2hlY2sgSW50ZWdyaXR5IQ=="),
        ("digest", "sha-256=x"),
        ("content-digest", "sha-256=:x:"),
        ("repr-digest", "sha-256=:x:"),
        ("etag", "not a tag"),
        ("vary", "Cookie"),
    ]);
    assert_eq!(
        head,
        headers(&[
            HTML,
            ("accept-ranges", "none"),
            ("transfer-encoding", "chunked"),
            ("vary", "Cookie")
        ])
    );
}

#[test]
fn a_page_that_the_browser_has_keeps_its_tag() {
    let Decision::Revalidated(edits) = decided(&[], 304, &[("etag", "\"v1\"")]) else {
        panic!("a 304");
    };
    let mut head = headers(&[("etag", "\"v1\"")]);
    edits.apply(&mut head);
    assert_eq!(head["etag"], rewritten(&[HTML, ("etag", "\"v1\"")])["etag"]);
}

#[test]
fn what_is_no_page_passes_as_it_came() {
    for status in [201, 203, 204, 206, 301, 302, 400, 404, 500] {
        assert_eq!(left(status, &[HTML]), None);
    }
    for content_type in [
        "application/json",
        "text/plain",
        "application/xhtml+xml",
        "text/htmlx",
        "",
    ] {
        assert_eq!(
            left(200, &[("content-type", content_type)]),
            None,
            "{content_type}"
        );
    }
    assert_eq!(left(200, &[]), None);
    assert_eq!(left(200, &[HTML, ("content-length", "0")]), None);
    let download = ("content-disposition", "Attachment; filename=a.html");
    assert_eq!(left(200, &[HTML, download]), None);
}

#[test]
fn what_forbids_it_is_told() {
    assert_eq!(
        left(200, &[HTML, ("cache-control", "private, No-Transform")]),
        Some(Outcome::NoTransform)
    );
    let asked_for = decided(&[("cache-control", "no-transform")], 200, &[HTML]);
    assert!(matches!(asked_for, Decision::Leave(Some(Outcome::NoTransform))));
    for coding in ["br", "zstd", "deflate", "gzip, br"] {
        assert_eq!(
            left(200, &[HTML, ("content-encoding", coding)]),
            Some(Outcome::Encoding),
            "{coding}"
        );
    }
    let twice = [HTML, ("content-encoding", "gzip"), ("content-encoding", "gzip")];
    assert_eq!(left(200, &twice), Some(Outcome::Encoding));
    let wide = ("content-type", "text/html; charset=UTF-16LE");
    assert_eq!(left(200, &[wide]), Some(Outcome::Charset));
    let policy = |policy: &'static str| left(200, &[HTML, ("content-security-policy", policy)]);
    assert_eq!(policy("script-src 'none'"), Some(Outcome::ScriptBlocked));
    assert_eq!(
        policy("default-src 'self'; connect-src 'none'"),
        Some(Outcome::ConnectionBlocked)
    );
}

#[test]
fn what_caches_give_to_everybody_has_it_only_where_everybody_may_ask() {
    let mut everybody = injector();
    everybody.needs_session = false;
    let page = || Page {
        tls: true,
        authority: None,
        prefix: String::new(),
    };
    for caching in ["public", "max-age=60, Public", "s-maxage=60", "S-MaxAge = 60"] {
        let response = [HTML, ("cache-control", caching)];
        assert_eq!(left(200, &response), Some(Outcome::SharedCache), "{caching}");
        let (request, response) = (HeaderMap::new(), headers(&response));
        let decision = everybody.decide(
            &request,
            StatusCode::OK,
            &response,
            Some(CommunityId::from("42").into()),
            page(),
        );
        assert!(matches!(decision, Decision::Rewrite(..)), "{caching}");
    }
}

#[test]
fn what_does_not_forbid_it_does_not() {
    for more in [
        ("content-encoding", "GZIP"),
        ("content-encoding", "identity"),
        ("content-security-policy-report-only", "script-src 'none'"),
        ("content-disposition", "inline"),
        ("cache-control", "no-store"),
        ("cache-control", "private, max-age=60"),
    ] {
        rewritten(&[HTML, more]);
    }
    rewritten(&[("content-type", "TEXT/HTML")]);
}

#[test]
fn a_page_of_a_community_that_is_not_known_passes() {
    let page = Page {
        tls: false,
        authority: None,
        prefix: String::new(),
    };
    let decision = injector().decide(&HeaderMap::new(), StatusCode::OK, &headers(&[HTML]), None, page);
    assert!(matches!(
        decision,
        Decision::Leave(Some(Outcome::UnknownCommunity))
    ));
}
