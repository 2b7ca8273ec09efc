//! Tests of the rules for page views: one per trap, by number.

mod browsers;
mod verdicts;

use std::sync::LazyLock;

use http::header::{ACCEPT, CONTENT_TYPE, COOKIE, HeaderName};
use proptest::prelude::*;

use super::*;
use crate::metrics::LabelValue as _;
use crate::presence::grants::News;
use crate::routes::{EventForm, Route, RouteFile, RouteTable, Track};

const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";
const TOKEN: &str = "a8f5f167f44f4964e6c998dee827110c";

/// Compiling the list of robots takes a while.
static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let privacy = Privacy {
        query_allow: vec!["q".into()],
        ..Privacy::default()
    };
    Policy::new(&Record::default(), &privacy)
});

/// Where redirects lead.
static ROUTES: LazyLock<RouteTable> = LazyLock::new(|| {
    let file = RouteFile {
        path: "a.toml".into(),
        text: r#"
            [[route]]
            name = "join"
            pattern = '^/communities/(?P<community>\d+)/join/$'
            [[route]]
            name = "community"
            pattern = '^/communities/(?P<community>\d+)(/(?P<slug>[a-z-]+))?/?$'
            [[route]]
            name = "by-slug"
            pattern = '^/c/(?P<community_slug>[a-z-]+)/?$'
            [[route]]
            name = "post"
            pattern = '^/c/(?P<community_slug>[a-z-]+)/posts/(?P<post>\d+)/?$'
            presence = ["community_slug", "post"]
            [[route]]
            name = "checked-post"
            pattern = '^/communities/(?P<community>\d+)/posts/(?P<post>\d+)/?$'
            presence = ["community", "post"]
            grants = true
        "#
        .into(),
    };
    RouteTable::compile(&[file]).expect("routes")
});

/// A navigation of a signed-in member to a community's page, answered with HTML. Tests change one thing.
struct Page {
    method: Method,
    path: String,
    query: Option<String>,
    request: HeaderMap,
    status: u16,
    response: HeaderMap,
    route: Option<RouteMatch>,
    is_of_a_file: bool,
    has_token: bool,
    counted_elsewhere: bool,
    duration: Duration,
    policy: Policy,
}

fn page() -> Page {
    Page {
        method: Method::GET,
        path: "/communities/42/".into(),
        query: None,
        request: HeaderMap::new(),
        status: 200,
        response: HeaderMap::new(),
        route: Some(RouteMatch {
            route: Arc::new(Route {
                name: "community".into(),
                page_type: "home".into(),
                track: Track::Page,
                search_param: None,
                widget: true,
                grants: None,
                event: EventForm::default(),
            }),
            community: Some(CommunityRef::Id(Arc::from("42"))),
            finer: Arc::default(),
            is_communitys_own: true,
            captures: Vec::new(),
        }),
        is_of_a_file: false,
        has_token: true,
        counted_elsewhere: false,
        duration: Duration::from_millis(12),
        policy: POLICY.clone(),
    }
    .asks("sec-fetch-mode", "navigate")
    .asks("sec-fetch-dest", "document")
    .asks("accept", "text/html,application/xhtml+xml,*/*;q=0.8")
    .asks("user-agent", FIREFOX)
    .answers("content-type", "text/html; charset=utf-8")
}

/// The same from a browser that sends no fetch metadata, as over plain HTTP.
fn old_page() -> Page {
    page().without("sec-fetch-mode").without("sec-fetch-dest")
}

/// A call of a single-page app on a route with `track = "request"`.
fn call() -> Page {
    page()
        .asks("sec-fetch-mode", "cors")
        .asks("sec-fetch-dest", "empty")
        .asks("accept", "application/json")
        .answers("content-type", "application/json")
        .tracked(Track::Request)
}

impl Page {
    fn asks(mut self, name: &str, value: &str) -> Self {
        self.request
            .insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.request.remove(name);
        self
    }

    fn answers(mut self, name: &str, value: &str) -> Self {
        self.response
            .insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        self
    }

    fn at(mut self, path: &str) -> Self {
        self.path = path.into();
        self
    }

    fn silent(mut self) -> Self {
        self.response.remove(CONTENT_TYPE);
        self
    }

    fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    fn tracked(mut self, track: Track) -> Self {
        let matched = self.route.as_mut().unwrap();
        matched.route = Arc::new(Route {
            track,
            ..(*matched.route).clone()
        });
        self
    }

    fn decide(&self) -> Result<PageView, NotCounted> {
        PageView::from_exchange(&self.exchange(), &self.policy)
    }

    /// What it says of the community.
    fn says(&self) -> Option<News> {
        self.tells().and_then(|news| news.community)
    }

    /// What it says of access.
    fn tells(&self) -> Option<AccessNews> {
        verdict(&self.exchange(), &ROUTES)
    }

    /// Its path and route as the table has them.
    fn of(mut self, path: &str) -> Self {
        self.route = ROUTES.find(path);
        self.at(path)
    }

    fn granting(mut self, grants: Option<bool>) -> Self {
        let matched = self.route.as_mut().unwrap();
        matched.route = Arc::new(Route {
            grants,
            ..(*matched.route).clone()
        });
        self
    }

    /// A page below the community's own.
    fn below(mut self) -> Self {
        self.route.as_mut().unwrap().is_communitys_own = false;
        self
    }

    fn exchange(&self) -> Exchange<'_> {
        Exchange {
            method: &self.method,
            path: &self.path,
            query: self.query.as_deref(),
            request: &self.request,
            status: StatusCode::from_u16(self.status).unwrap(),
            response: &self.response,
            route: self.route.as_ref(),
            is_of_a_file: self.is_of_a_file,
            has_token: self.has_token,
            counted_elsewhere: self.counted_elsewhere,
            client_ip: "::ffff:203.0.113.9".parse().ok(),
            started_at: started_at(),
            duration: self.duration,
        }
    }

    fn reason(&self) -> NotCounted {
        self.decide().unwrap_err()
    }

    fn counts(&self) -> bool {
        self.decide().is_ok()
    }
}

fn started_at() -> DateTime<Utc> {
    "2026-01-31T23:59:59.999Z".parse().unwrap()
}

#[test]
fn a_page_view_says_what_was_seen() {
    let view = page().decide().unwrap();
    assert_eq!(view.url, "/communities/42/");
    assert_eq!(view.route.as_deref(), Some("community"));
    assert_eq!(view.page_type.as_deref(), Some("home"));
    assert_eq!(view.community, Some(CommunityRef::Id(Arc::from("42"))));
    assert_eq!((view.status, view.duration_ms), (200, 12));
    assert_eq!(view.client_ip, "203.0.113.9".parse().ok());
    assert_eq!(view.user_agent, FIREFOX);
    assert_eq!(&*view.device.browser, "Firefox 128.0");
    assert_eq!((view.referrer, view.search_query), (None, None));
}

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
fn v9_the_time_is_the_requests_start() {
    let mut slow = page();
    slow.duration = Duration::from_secs(90);
    let view = slow.decide().unwrap();
    assert_eq!((view.at, view.duration_ms), (started_at(), 90_000));
    slow.duration = Duration::MAX;
    assert_eq!(slow.decide().unwrap().duration_ms, u32::MAX);
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
fn w5_the_token_and_secrets_in_urls_are_not_kept() {
    let mut page = page()
        .asks("cookie", &format!("session_id={TOKEN}"))
        .asks("authorization", &format!("Bearer {TOKEN}"))
        .asks(
            "referer",
            &format!("https://u:{TOKEN}@site.example/a?t={TOKEN}#{TOKEN}"),
        );
    page.query = Some(format!("token={TOKEN}&tab=posts"));
    page.policy.query_allow = vec!["tab".into()];
    let view = page.decide().unwrap();
    assert!(page.request.contains_key(COOKIE));
    assert!(!format!("{view:?}").contains(TOKEN));
    assert!(!serde_json::to_string(&view).unwrap().contains(TOKEN));
    assert_eq!(view.url, "/communities/42/?tab=posts");
    assert_eq!(view.referrer.as_deref(), Some("https://site.example/a"));
}

#[test]
fn privacy_settings_leave_out_what_they_say() {
    let mut page = page().asks("referer", "https://site.example/a");
    page.policy.user_agent = false;
    page.policy.referrer = ReferrerPrecision::None;
    page.policy.ip_address = IpPrecision::None;
    let view = page.decide().unwrap();
    assert_eq!(
        (view.user_agent.as_str(), view.referrer, view.client_ip),
        ("", None, None)
    );
    assert_eq!(&*view.device.os, "Linux");
}

#[test]
fn v30_a_route_writes_type_metadata_and_description() {
    use crate::routes::{RouteFile, RouteNames, RouteTable};
    let text = r#"
[[route]]
name = "post"
pattern = '^/communities/(?P<community>\d+)/posts/(?P<post>[^/]+)/(?P<part>\w+)?'
event_type = "post_view"
metadata = { post_id = "post", part = "part", tab = "?tab" }
description = "Post {post}: {path} {?tab}"
"#;
    let names = RouteNames {
        parameters: ["tab".to_owned()].into(),
        ..RouteNames::default()
    };
    let path = "a.toml".into();
    let table = RouteTable::compile_with(
        &[RouteFile {
            path,
            text: text.into(),
        }],
        &names,
    )
    .unwrap();
    let mut page = page();
    page.path = "/communities/42/posts/a\0b/".into();
    page.route = table.find(&page.path);
    page.query = Some("tab=first&token=secret&tab=second%00".into());
    page.policy.query_allow = vec!["tab".into()];
    let event = page.decide().unwrap().event;
    let metadata: Vec<_> = event
        .metadata
        .iter()
        .map(|(key, value)| (&**key, &**value))
        .collect();
    // W2: no NUL; what the path does not have is left out.
    assert_eq!(metadata, [("post_id", "ab"), ("tab", "second")]);
    assert_eq!(event.event_type.as_deref(), Some("post_view"));
    assert_eq!(
        event.description.as_deref(),
        Some("Post ab: /communities/42/posts/ab/?tab=first&tab=second%00 second")
    );

    // A parameter that privacy strips stays stripped, whatever the table was compiled with.
    page.policy.query_allow.clear();
    let event = page.decide().unwrap().event;
    assert_eq!(event.metadata.get("tab"), None);
    assert_eq!(
        event.description.as_deref(),
        Some("Post ab: /communities/42/posts/ab/ ")
    );
}

#[test]
fn a_search_page_keeps_what_was_searched_for() {
    let mut page = page();
    let matched = page.route.as_mut().unwrap();
    matched.route = Arc::new(Route {
        search_param: Some("q".into()),
        ..(*matched.route).clone()
    });
    page.query = Some("q=rust+proxy&page=2".into());
    page.policy.query_allow.clear();
    let view = page.decide().unwrap();
    assert_eq!(view.search_query.as_deref(), Some("rust proxy"));
    // It is a field of its own; the URL keeps only what is allowed.
    assert_eq!(view.url, "/communities/42/");
}

#[test]
fn a_page_view_survives_the_spool() {
    let mut view = page().asks("referer", "https://site.example/a").decide().unwrap();
    for community in [
        None,
        Some(CommunityRef::Id(Arc::from("42"))),
        Some(CommunityRef::Slug("rust".into())),
    ] {
        view.community = community;
        let json = serde_json::to_string(&view).unwrap();
        assert_eq!(serde_json::from_str::<PageView>(&json).unwrap(), view);
    }
}

#[test]
fn every_reason_has_a_label_of_its_own() {
    let labels: std::collections::BTreeSet<_> = NotCounted::ALL.iter().map(|reason| reason.label()).collect();
    assert_eq!(labels.len(), NotCounted::ALL.len());
}

fn any_header() -> impl Strategy<Value = (String, Vec<u8>)> {
    let name = prop_oneof![
        "user-agent|referer|accept|sec-fetch-mode|sec-fetch-dest|sec-purpose|purpose|content-type",
        "[a-z-]{1,12}",
    ];
    let value = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..100),
        "(Mozilla/5.0|Firefox/|Windows NT |Version/|MSIE |DoCoMo/|KDDI-|[ ;()/.0-9é]){0,60}"
            .prop_map(String::into_bytes),
        "https?://[a-z@:.]{1,10}(/[a-zé\\x00-\\x1f]{0,9}){0,400}[?#]?".prop_map(String::into_bytes),
    ];
    (name, value)
}

fn insert_all(map: &mut HeaderMap, headers: Vec<(String, Vec<u8>)>) {
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(&value)) {
            map.insert(name, value);
        }
    }
}

proptest! {
    #[test]
    fn any_exchange_is_decided_without_panic_and_no_text_exceeds_its_bounds(
        path in any::<String>(),
        repeat in 1_usize..400,
        query in proptest::option::of(any::<String>()),
        request in proptest::collection::vec(any_header(), 0..6),
        response in proptest::collection::vec(any_header(), 0..2),
        status in 100_u16..600,
        track in prop_oneof![Just(Track::Page), Just(Track::Request)],
    ) {
        let mut page = page().tracked(track);
        page.path = path.repeat(repeat);
        page.query = query.map(|query| format!("q={query}&{query}=1"));
        // Most count as a view, so that their texts are checked.
        page.status = if status % 4 == 0 { status } else { 200 };
        insert_all(&mut page.request, request);
        insert_all(&mut page.response, response);
        if let Ok(view) = page.decide() {
            let texts = [Some(&view.url), view.referrer.as_ref(), view.search_query.as_ref()];
            for text in texts.into_iter().flatten() {
                prop_assert!(text.len() <= PageView::MAX_TEXT && !text.contains('\0'));
            }
            prop_assert!(view.user_agent.len() <= PageView::MAX_USER_AGENT);
            prop_assert!(!view.user_agent.contains('\0'));
            prop_assert!(view.weight() < 16 << 10);
            prop_assert!(serde_json::to_string(&view).is_ok());
        }
    }
}
