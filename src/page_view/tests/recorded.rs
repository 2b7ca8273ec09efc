//! Tests of what a page view records, and of what it leaves out.

use http::header::{COOKIE, HeaderName};
use proptest::prelude::*;

use super::exchanges::{FIREFOX, TOKEN};
use super::*;
use crate::routes::Route;

#[test]
fn a_page_view_says_what_was_seen() {
    let view = page().decide().unwrap();
    assert_eq!(view.url, "/communities/42/");
    assert_eq!(view.route.as_deref(), Some("community"));
    assert_eq!(view.page_type.as_deref(), Some("home"));
    assert_eq!(view.community, Some(CommunityRef::Id(Arc::from("42"))));
    assert_eq!((view.status, view.duration_ms), (200, 12));
    assert_eq!(view.client_ip, "203.0.113.9".parse().ok());
    assert_eq!(&*view.user_agent, FIREFOX);
    assert_eq!(&*view.device.browser, "Firefox 128.0");
    assert_eq!((view.referrer, view.search_query), (None, None));
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
        (&*view.user_agent, view.referrer, view.client_ip),
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
