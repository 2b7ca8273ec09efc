//! Tests of the rules for page views: one per trap, by number.

mod browsers;
mod exchanges;
mod recorded;
mod verdicts;

use http::header::ACCEPT;

use self::exchanges::{Page, call, old_page, page, started_at};
use super::*;
use crate::metrics::LabelValue as _;
use crate::routes::Track;

#[test]
fn v1_a_navigation_that_gets_html_is_a_view() {
    for page in [
        page(),
        old_page(),
        page().asks("sec-fetch-dest", "Document"),
        page().without("sec-fetch-dest"),
        page().without("sec-fetch-mode"),
        page().answers("content-type", "application/xhtml+xml"),
        page().answers("content-type", "TEXT/HTML"),
        // The browser's own metadata takes precedence over the guess.
        page().asks("accept", "*/*"),
        page().asks("x-requested-with", "XMLHttpRequest"),
        // An Android web view sends its app's name with every request.
        old_page().asks("x-requested-with", "com.example.app"),
        page().status(304),
        page().status(304).silent(),
        old_page().status(304).silent(),
        page().at("/v1.2/").status(304).silent(),
        page().at("/index.html").status(304).silent(),
        page().at("/.png/").status(304).silent(),
    ] {
        assert_eq!(page.decide().err(), None);
    }
}

#[test]
fn v1_what_scripts_and_subresources_fetch_is_not_a_view() {
    for page in [
        page()
            .asks("sec-fetch-mode", "cors")
            .asks("sec-fetch-dest", "empty"),
        page()
            .asks("sec-fetch-mode", "no-cors")
            .asks("sec-fetch-dest", "image"),
        page().asks("sec-fetch-mode", "same-origin"),
        page().asks("sec-fetch-dest", "empty").without("sec-fetch-mode"),
        page().asks("sec-fetch-dest", "style").status(304).silent(),
        old_page().asks("accept", "*/*"),
        old_page().asks("accept", "application/json"),
        old_page().asks("accept", "image/webp,*/*").status(304).silent(),
        old_page().without("accept"),
        old_page().asks("x-requested-with", "XMLHttpRequest"),
    ] {
        assert_eq!(page.reason(), NotCounted::NotNavigation);
    }
    let mut garbage = old_page();
    garbage
        .request
        .insert(ACCEPT, HeaderValue::from_bytes(b"text/html\xff").unwrap());
    assert_eq!(garbage.reason(), NotCounted::NotNavigation);
}

#[test]
fn v2_what_is_not_a_page_is_not_a_view() {
    for (page, reason) in [
        (page().method(Method::HEAD), NotCounted::Method),
        (page().method(Method::POST), NotCounted::Method),
        (page().method(Method::OPTIONS), NotCounted::Method),
        (page().status(206), NotCounted::Partial),
        (page().status(301), NotCounted::Redirect),
        (page().status(302), NotCounted::Redirect),
        (page().status(307), NotCounted::Redirect),
        (page().status(403), NotCounted::Error),
        (page().status(404), NotCounted::Error),
        (page().status(500), NotCounted::Error),
        (page().status(504), NotCounted::Error),
        (page().status(201), NotCounted::Status),
        (page().status(204), NotCounted::Status),
        (page().status(101), NotCounted::Upgrade),
        (page().asks("upgrade", "WebSocket"), NotCounted::Upgrade),
        (page().asks("sec-fetch-dest", "iframe"), NotCounted::Frame),
        (page().asks("sec-fetch-dest", "frame"), NotCounted::Frame),
        (page().asks("sec-fetch-dest", "embed"), NotCounted::Frame),
        (
            page().asks("sec-fetch-dest", "iframe").status(304),
            NotCounted::Frame,
        ),
        (
            page().answers("content-type", "text/event-stream"),
            NotCounted::EventStream,
        ),
        (
            page().answers("content-disposition", "Attachment; filename=a.html"),
            NotCounted::Download,
        ),
        (
            page().answers("content-type", "application/pdf"),
            NotCounted::NotHtml,
        ),
        (
            page().answers("content-type", "text/htmlish"),
            NotCounted::NotHtml,
        ),
        (page().silent(), NotCounted::NotHtml),
        (
            page().status(304).answers("content-type", "text/css"),
            NotCounted::NotHtml,
        ),
        // Open in a tab, and looked at again.
        (
            page().at("/media/cat.PNG").status(304).silent(),
            NotCounted::NotHtml,
        ),
        (old_page().at("/a.pdf").status(304).silent(), NotCounted::NotHtml),
        (
            Page {
                is_of_a_file: true,
                ..page().status(304).silent()
            },
            NotCounted::NotHtml,
        ),
    ] {
        assert_eq!(page.reason(), reason);
    }
    assert!(page().answers("content-disposition", "inline").counts());
    assert!(page().asks("upgrade-insecure-requests", "1").counts());
}

#[test]
fn v3_prefetch_and_prerender_are_not_views() {
    for (name, value) in [
        ("sec-purpose", "prefetch"),
        ("sec-purpose", "prefetch;prerender"),
        ("sec-purpose", "prefetch;anonymous-client-ip"),
        ("sec-purpose", "Prefetch; prerender"),
        ("sec-purpose", "prerender"),
        ("purpose", "prefetch"),
        ("purpose", "preview"),
        ("x-purpose", "preview"),
        ("x-purpose", "Prefetch"),
        ("x-moz", "prefetch"),
        ("x-sec-purpose", "prefetch"),
        ("x-sec-purpose", "Prefetch;x"),
        ("hx-preloaded", "true"),
    ] {
        assert_eq!(
            page().asks(name, value).reason(),
            NotCounted::Prefetch,
            "{name}: {value}"
        );
        assert_eq!(
            call().asks(name, value).reason(),
            NotCounted::Prefetch,
            "{name}: {value}"
        );
    }
    assert!(page().asks("sec-purpose", "").asks("purpose", "reading").counts());
}

#[test]
fn v4_robots_excluded_routes_and_static_files_each_have_their_reason() {
    assert_eq!(
        page().asks("user-agent", "Googlebot/2.1").reason(),
        NotCounted::Bot
    );
    assert_eq!(page().without("user-agent").reason(), NotCounted::Bot);
    assert_eq!(call().asks("user-agent", "curl/8.5.0").reason(), NotCounted::Bot);
    assert_eq!(page().tracked(Track::None).reason(), NotCounted::RouteExcluded);
    assert_eq!(
        page().answers("content-type", "text/css").reason(),
        NotCounted::NotHtml
    );
    let mut anonymous = page();
    anonymous.has_token = false;
    assert_eq!(anonymous.reason(), NotCounted::NoCookie);
    // Only of what would be a page view otherwise: so many visitors are not recognised.
    anonymous.status = 302;
    assert_eq!(anonymous.reason(), NotCounted::Redirect);
    let mut unmatched = page();
    unmatched.route = None;
    let view = unmatched.decide().unwrap();
    assert_eq!((view.route, view.page_type, view.community), (None, None, None));
    unmatched.policy.unmatched = false;
    assert_eq!(unmatched.reason(), NotCounted::Unmatched);
}

#[test]
fn v5_a_reported_view_counts_by_who_looks() {
    let script = page().asks("accept", "*/*").asks("sec-fetch-mode", "cors");
    let beacon = Beacon {
        path: "/communities/42/members",
        query: Some("token=secret"),
        referrer: Some(b"https://site.example/communities/42/?token=secret"),
        request: &script.request,
        route: script.route.as_ref(),
        has_token: true,
        client_ip: None,
        at: started_at(),
    };
    let view = PageView::from_beacon(&beacon, &script.policy).unwrap();
    assert_eq!(view.url, "/communities/42/members");
    assert_eq!(
        view.referrer.as_deref(),
        Some("https://site.example/communities/42/")
    );
    assert_eq!((view.status, view.duration_ms), (200, 0));
    let anonymous = Beacon {
        has_token: false,
        ..beacon
    };
    assert_eq!(
        PageView::from_beacon(&anonymous, &script.policy),
        Err(NotCounted::NoCookie)
    );
    let excluded = page().tracked(Track::None);
    let beacon = Beacon {
        route: excluded.route.as_ref(),
        ..beacon
    };
    assert_eq!(
        PageView::from_beacon(&beacon, &excluded.policy),
        Err(NotCounted::RouteExcluded)
    );
}

#[test]
fn v6_the_responses_cookies_change_nothing() {
    let login = page().answers("set-cookie", "session_id=new");
    let logout = page().answers("set-cookie", "session_id=; max-age=0");
    assert_eq!(login.decide(), page().decide());
    assert_eq!(logout.decide(), page().decide());
}

#[test]
fn v7_the_response_head_alone_decides() {
    // No length, or one that may never arrive in full.
    assert!(page().answers("transfer-encoding", "chunked").counts());
    assert!(page().answers("content-length", "1000000000").counts());
}

#[test]
fn v8_what_another_sidecar_counts_is_not_counted_again() {
    for mut page in [page(), call()] {
        page.counted_elsewhere = true;
        assert_eq!(page.reason(), NotCounted::CountedElsewhere);
    }
}

#[test]
fn where_requests_are_tracked_every_200_counts() {
    assert!(call().counts());
    assert!(call().silent().counts());
    assert!(call().answers("content-disposition", "attachment").counts());
    assert_eq!(call().status(304).reason(), NotCounted::Status);
    assert_eq!(call().status(206).reason(), NotCounted::Partial);
    assert_eq!(call().method(Method::POST).reason(), NotCounted::Method);
    assert_eq!(
        call().answers("content-type", "text/event-stream").reason(),
        NotCounted::EventStream
    );
    let mut anonymous = call();
    anonymous.has_token = false;
    assert_eq!(anonymous.reason(), NotCounted::NoCookie);
}

#[test]
fn every_reason_has_a_label_of_its_own() {
    let labels: std::collections::BTreeSet<_> = NotCounted::ALL.iter().map(|reason| reason.label()).collect();
    assert_eq!(labels.len(), NotCounted::ALL.len());
}
