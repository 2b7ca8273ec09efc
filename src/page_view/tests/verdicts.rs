//! Tests of what an answer says about who may see a community.

use super::*;
use crate::browser_session::CookieChange;
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
    for status in [201, 204, 206, 300, 305, 400, 405, 429, 500, 502, 503] {
        assert_eq!(page().status(status).says(), None, "{status}");
    }
}

#[test]
fn a8_only_the_communitys_own_page_says_that_it_was_refused() {
    for status in [401, 403, 404, 410] {
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

/// The app may not have known the user.
#[test]
fn a29_an_answer_that_changes_the_cookie_takes_nothing_away() {
    let to_sign_in = || page().status(302).answers("location", "/login/");
    assert_eq!(to_sign_in().says(), Some(REFUSED));
    for change in [CookieChange::Replaced, CookieChange::Deleted] {
        for status in [401, 403, 404, 410] {
            assert_eq!(
                page().status(status).changing(change).says(),
                None,
                "{status} {change:?}"
            );
        }
        assert_eq!(to_sign_in().changing(change).says(), None, "{change:?}");
    }
    assert_eq!(page().changing(CookieChange::Replaced).says(), Some(SHOWN));
    assert_eq!(page().changing(CookieChange::Deleted).says(), None);
    let again = |change| page().status(304).changing(change).says();
    assert_eq!(again(CookieChange::Replaced), Some(News::StillShown));
    assert_eq!(again(CookieChange::Deleted), None);
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

/// A page that grants takes away as well.
#[test]
fn a25_a_refusal_of_each_page_that_grants_takes_away_what_it_gave() {
    for status in [401, 403, 404, 410] {
        let below = || page().below().status(status);
        assert_eq!(below().granting(Some(true)).says(), Some(REFUSED), "{status}");
        assert_eq!(below().granting(Some(false)).says(), None, "{status}");
        let cached = below().granting(Some(true)).answers("age", "30");
        assert_eq!(cached.says(), None, "{status}");
    }
    let of_a_list = || page().below().granting(Some(true));
    let mut missing_part = of_a_list().status(404);
    missing_part.query = Some("page=999".into());
    assert_eq!(missing_part.says(), None);
    for status in [500, 502, 503] {
        assert_eq!(of_a_list().status(status).says(), None, "{status}");
    }
}

#[test]
fn a25_a_redirect_to_another_page_is_a_refusal_and_one_to_the_same_is_none() {
    let to = |location: &str| page().of("/communities/42").answers("location", location);
    for status in [301, 302, 303, 307, 308] {
        for elsewhere in [
            "/accounts/login/?next=/communities/42/",
            "/tickets/",
            "/communities/42/join/",
            "/communities/43/",
            "https://site.example/",
            "join/",
            "/c/rust/",
        ] {
            let says = to(elsewhere).status(status).tells().expect(elsewhere);
            assert_eq!(says.community, Some(REFUSED), "{status} {elsewhere}");
            // Another community by its key or slug, as far as is known without the app's table.
            assert_eq!(
                says.unless.is_some(),
                matches!(elsewhere, "/communities/43/" | "/c/rust/"),
                "{elsewhere}"
            );
        }
        for same in [
            "/communities/42/",
            "https://www.site.example/communities/42",
            "//other.example/communities/42/",
            "/communities/42/rust/?page=1",
            "/communities/42?tab=new#top",
            "?tab=new",
        ] {
            assert_eq!(to(same).status(status).tells(), None, "{status} {same}");
        }
        assert_eq!(
            page().status(status).says(),
            Some(REFUSED),
            "{status}: to nowhere"
        );
        assert_eq!(page().below().status(status).says(), None, "{status}");
        assert_eq!(
            page().granting(Some(false)).status(status).says(),
            None,
            "{status}"
        );
        assert_eq!(
            page().status(status).method(Method::POST).says(),
            None,
            "{status}"
        );
        assert_eq!(
            page().status(status).answers("x-cache", "HIT").says(),
            None,
            "{status}"
        );
    }
    // A slug may be another spelling: only the app's table says so.
    let moved = page()
        .of("/c/rust")
        .status(301)
        .answers("location", "/c/rust-lang/");
    let says = moved.tells().expect("a refusal");
    assert_eq!(says.community, Some(REFUSED));
    assert_eq!(says.unless, Some(CommunityRef::Slug("rust-lang".into())));
}

#[test]
fn a26_a_page_of_something_finer_says_who_may_see_who_is_there() {
    let post = || page().of("/communities/42/posts/7");
    let by_slug = || page().of("/c/rust/posts/7");
    for (status, news) in [
        (200, SHOWN),
        (304, News::StillShown),
        (403, REFUSED),
        (404, REFUSED),
        (302, REFUSED),
    ] {
        let says = post().status(status).tells().expect("something");
        assert_eq!((says.community, says.finer), (Some(news), Some(news)), "{status}");
        // Its route does not grant the community.
        let says = by_slug().status(status).tells().expect("something");
        assert_eq!((says.community, says.finer), (None, Some(news)), "{status}");
        assert_eq!(
            by_slug().granting(Some(false)).status(status).tells(),
            None,
            "{status}"
        );
        assert_eq!(
            by_slug().tracked(Track::None).status(status).tells(),
            None,
            "{status}"
        );
        // The community's own page says nothing of what is in it.
        let own = page()
            .of("/communities/42/")
            .status(status)
            .tells()
            .expect("something");
        assert_eq!((own.community, own.finer), (Some(news), None), "{status}");
    }
    // A post that was merged into another is gone, and its community is not.
    let merged = post().status(301).answers("location", "/communities/42/posts/8/");
    let says = merged.tells().expect("something");
    assert_eq!((says.community, says.finer), (None, Some(REFUSED)));
    let slash = post().status(301).answers("location", "/communities/42/posts/7/");
    assert_eq!(slash.tells(), None);
    assert_eq!(post().route.unwrap().finer[0], Finer::new("post", "7").unwrap());
}

#[test]
fn a25_what_a_page_embeds_takes_nothing_away() {
    for status in [401, 403, 404, 410] {
        let answered = |what: &str| page().asks("sec-fetch-dest", what).status(status).says();
        for embedded in ["image", "script", "style", "object", "video"] {
            assert_eq!(answered(embedded), None, "{status} {embedded}");
        }
        for opened in ["document", "iframe", "empty"] {
            assert_eq!(answered(opened), Some(REFUSED), "{status} {opened}");
        }
    }
}

#[test]
fn a25_a_redirect_within_the_community_leaves_it_to_the_page_that_it_leads_to() {
    let led = |page: Page, to: &str| page.status(302).answers("location", to);
    let own = || page().of("/communities/42/");
    // That page says by itself who may see the community.
    assert_eq!(led(own(), "/communities/42/posts/7/").tells(), None);
    // Of one that says nothing it takes a query to be no refusal.
    let to_join = |page: Page| led(page, "/communities/42/join/");
    assert_eq!(to_join(own()).says(), Some(REFUSED));
    let mut asks = own();
    asks.query = Some("goto=unread".into());
    assert_eq!(to_join(asks).tells(), None);
    // The post is not shown; its community may be.
    let hidden = led(page().of("/communities/42/posts/7/"), "/communities/42/")
        .tells()
        .unwrap();
    assert_eq!((hidden.community, hidden.finer), (None, Some(REFUSED)));
    // Another community says nothing of this one.
    assert_eq!(led(own(), "/communities/43/").says(), Some(REFUSED));
}
