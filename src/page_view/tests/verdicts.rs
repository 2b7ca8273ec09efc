//! Tests of what an answer says about who may see a community.

use super::*;
use crate::presence::grants::{News, Verdict};

/// What the app has answered.
const SHOWN: News = News::Answer(Verdict::Shown);
const REFUSED: News = News::Answer(Verdict::Refused);

#[test]
fn a7_a_page_or_data_that_was_answered_200_says_that_the_community_was_shown() {
    assert_eq!(page().says(), Some(SHOWN));
    // Whoever asks, and whether or not it counts as a view.
    let by_script = page()
        .without("sec-fetch-mode")
        .without("sec-fetch-dest")
        .asks("accept", "*/*");
    assert!(!by_script.counts());
    assert_eq!(by_script.says(), Some(SHOWN));
    assert_eq!(page().asks("user-agent", "Googlebot/2.1").says(), Some(SHOWN));
    assert_eq!(page().asks("sec-purpose", "prefetch").says(), Some(SHOWN));
    for media_type in ["application/json", "application/hal+json; charset=utf-8"] {
        assert_eq!(page().answers("content-type", media_type).says(), Some(SHOWN));
    }
    let anything = || page().answers("content-type", "application/cbor");
    assert_eq!(anything().says(), None);
    assert_eq!(anything().tracked(Track::Request).says(), Some(SHOWN));
}

#[test]
fn a7_what_many_may_have_says_nothing() {
    for media_type in ["image/png", "text/css", "text/javascript", "application/pdf"] {
        assert_eq!(
            page().answers("content-type", media_type).says(),
            None,
            "{media_type}"
        );
    }
    let download = page().answers("content-disposition", "attachment");
    assert_eq!(download.says(), None);
    assert_eq!(page().silent().says(), None);
    for method in [Method::HEAD, Method::OPTIONS, Method::POST, Method::PUT] {
        assert_eq!(page().method(method.clone()).says(), None, "{method}");
        assert_eq!(page().method(method.clone()).status(404).says(), None, "{method}");
    }
    assert_eq!(page().tracked(Track::None).says(), None);
    let mut unmatched = page();
    unmatched.route = None;
    assert_eq!(unmatched.says(), None);
    let mut of_nobody = page();
    of_nobody.route.as_mut().unwrap().community = None;
    assert_eq!(of_nobody.says(), None);
    for status in [201, 204, 206, 301, 302, 303, 307, 400, 401, 429, 500, 502, 503] {
        assert_eq!(page().status(status).says(), None, "{status}");
    }
}

#[test]
fn a8_only_the_communitys_own_page_says_that_it_was_refused() {
    for status in [403, 404, 410] {
        assert_eq!(page().status(status).says(), Some(REFUSED), "{status}");
        assert_eq!(page().below().status(status).says(), None, "{status}");
    }
}

/// A page for everybody, such as one that asks to join, can be left out.
#[test]
fn a7_a_route_can_say_that_its_pages_show_nothing() {
    let page = page().granting(Some(false));
    assert_eq!(page.says(), None);
    assert_eq!(page.status(404).says(), None);
}

/// The path of a topic may name any community beside it, where the app goes by the topic alone.
#[test]
fn a7_a_page_below_the_community_shows_it_only_where_its_route_says_so() {
    for (status, shown) in [(200, SHOWN), (304, News::StillShown)] {
        let below = || page().below().status(status);
        assert_eq!(below().says(), None, "{status}");
        assert_eq!(below().tracked(Track::Request).says(), None, "{status}");
        assert_eq!(below().granting(Some(false)).says(), None, "{status}");
        assert_eq!(below().granting(Some(true)).says(), Some(shown), "{status}");
    }
    // An app may show a row, such as a private conversation, to those who may not see its community.
    let topic = || {
        let mut topic = page().below();
        topic.route.as_mut().unwrap().community = Some(CommunityRef::Lookup("topic".into(), "7".into()));
        topic
    };
    assert_eq!(topic().says(), None);
    assert_eq!(topic().granting(Some(true)).says(), Some(SHOWN));
    assert_eq!(topic().status(404).says(), None);
}

/// A page of a list that there is not, such as `?page=999`.
#[test]
fn a8_a_missing_page_with_a_query_takes_nothing_away() {
    let asked = |query: &str| {
        let mut page = page();
        page.query = Some(query.into());
        page
    };
    assert_eq!(asked("page=999").status(404).says(), None);
    assert_eq!(asked("").status(404).says(), Some(REFUSED));
    for status in [403, 410] {
        assert_eq!(asked("page=9").status(status).says(), Some(REFUSED), "{status}");
    }
    assert_eq!(asked("page=2").says(), Some(SHOWN));
}

/// As from an app that goes by the time of the last change before it looks at who asks.
#[test]
fn a20_a_page_that_the_browser_has_already_prolongs_what_was_shown_and_shows_nothing() {
    assert_eq!(page().status(304).silent().says(), Some(News::StillShown));
    assert_eq!(page().status(304).silent().method(Method::HEAD).says(), None);
    assert_eq!(page().status(304).silent().granting(Some(false)).says(), None);
    assert_eq!(call().status(304).says(), None);
}

#[test]
fn a20_what_a_cache_answers_says_nothing() {
    let of_a_cache = [
        ("age", "30"),
        ("x-cache", "HIT"),
        ("x-cache", "Hit from cloudfront"),
        ("x-cache", "MISS, HIT"),
        ("x-cache", "TCP_HIT from proxy.example:3128"),
        ("x-cache-status", "STALE"),
        ("x-proxy-cache", "UPDATING"),
        ("cf-cache-status", "REVALIDATED"),
        ("cache-status", "ExampleCache; hit"),
        ("cache-status", "Origin; fwd=miss, Edge; hit=?1; ttl=30"),
    ];
    let of_the_app = [
        ("age", "0"),
        ("age", "none"),
        ("x-cache", "MISS"),
        ("x-cache-status", "BYPASS"),
        ("cf-cache-status", "DYNAMIC"),
        ("cache-status", "hit.example; fwd=uri-miss; stored"),
        ("cache-status", "Edge; hit=?0"),
    ];
    for status in [200, 304, 404] {
        for (name, value) in of_a_cache {
            let page = page().status(status).answers(name, value);
            assert_eq!(page.says(), None, "{status} {name}: {value}");
            assert_eq!(page.granting(Some(true)).says(), None, "{status} {name}: {value}");
        }
        for (name, value) in of_the_app {
            let page = page().status(status).answers(name, value);
            assert!(page.says().is_some(), "{status} {name}: {value}");
        }
    }
}
