//! Tests of servers that ask with a key: what it shows them, how often, and where it is refused.

mod operations;

use http::{HeaderMap, Method, Request, StatusCode};
use serde_json::json;

use super::support::{Answer, Site, anonymous, call, member, with_header};
use crate::api::Caller;
use crate::config::{Access, Api, ApiKey, KeyHash, KeyScope};
use crate::store::PastVisitor;

const COUNTS: &str = "hc_counts-counts-counts-counts-counts-c";
const NAMES: &str = "hc_names-names-names-names-names-names-";
const BOTH: &str = "hc_both-both-both-both-both-both-both-b";
const LIMITED: &str = "hc_limited-limited-limited-limited-limi";
const UNKNOWN: &str = "hc_unknown-unknown-unknown-unknown-unkn";

const COUNT: &str = "/api/communities/42/visitors/count";
const LIST: &str = "/api/communities/42/visitors";

fn api_key(name: &str, key: &str, scopes: &[KeyScope]) -> ApiKey {
    ApiKey {
        name: name.into(),
        sha256: KeyHash::of(key.as_bytes()),
        scopes: scopes.to_vec(),
        rate: 1,
        burst: 50,
        not_after: None,
        communities: None,
    }
}

fn keys(settings: &mut Api) {
    let limited = ApiKey {
        communities: Some(vec!["42".into()]),
        ..api_key("limited", LIMITED, &KeyScope::ALL)
    };
    settings.key = vec![
        api_key("counts", COUNTS, &[KeyScope::Counts]),
        api_key("names", NAMES, &[KeyScope::Identities]),
        api_key("both", BOTH, &KeyScope::ALL),
        limited,
    ];
}

fn site() -> Site {
    let site = Site::with(keys);
    site.visitor("42", "7", 5);
    site.store.community("43");
    site
}

/// A server's caller, as the proxy would make it: with a session's cookie, too, it has none.
fn server(site: &Site, path: &str, headers: &HeaderMap) -> Caller {
    let path = site.api.parse(path.split('?').next().unwrap()).unwrap();
    Caller {
        key: site.api.key_of(&path, headers, super::support::now()),
        ..anonymous()
    }
}

async fn ask_with(site: &Site, method: Method, path: &str, key: &str, more: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "site.test");
    request = request.header("authorization", format!("Bearer {key}"));
    for (name, value) in more {
        request = request.header(*name, *value);
    }
    let request = request.body(()).unwrap();
    let caller = server(site, path, request.headers());
    call(&site.api, request, caller).await
}

async fn ask(site: &Site, path: &str, key: &str) -> Answer {
    ask_with(site, Method::GET, path, key, &[]).await
}

fn by_key(site: &Site, key: &str, outcome: &str) -> Option<f64> {
    let line = format!("headcount_api_key_requests_total{{key=\"{key}\",outcome=\"{outcome}\"}} ");
    let text = site.registry.render();
    let value = text
        .lines()
        .find_map(|shown| shown.strip_prefix(&line).map(str::to_owned));
    value.map(|value| value.parse().unwrap())
}

/// A key decides alone: neither the rule for visitors nor the app is asked, and it sees what exists.
#[tokio::test]
async fn a14_a_key_sees_every_community_that_exists_whatever_visitors_may_see() {
    for access in [Access::Visited, Access::Session, Access::Backend, Access::Public] {
        let site = Site::with(|settings| {
            keys(settings);
            settings.access = access;
        });
        site.visitor("42", "7", 5);
        let count = ask(&site, COUNT, COUNTS).await;
        assert_eq!(
            (count.status, count.json()["current_visitors"].clone()),
            (StatusCode::OK, json!(1))
        );
        let list = ask(&site, LIST, NAMES).await.json();
        assert_eq!(list["visitors"][0]["user_id"], 7, "{access:?}");
        // The whole site, too, whatever `api.site_identities` says of visitors.
        let online = ask(&site, "/api/visitors/users?ids=7,8", NAMES).await;
        assert_eq!(online.status, 200, "{access:?}: {online:?}");
        let absent = ask(&site, "/api/communities/404/visitors/count", COUNTS).await;
        assert_eq!(absent.status, 404, "{access:?}");
        assert_eq!(site.backend.times_asked(), 0);
    }
}

#[tokio::test]
async fn a14_a_limited_key_sees_its_own_communities_and_no_others() {
    let site = site();
    for (path, status) in [
        (COUNT, 200),
        ("/api/communities/43/visitors/count", 404),
        (LIST, 200),
        ("/api/visitors/count", 403),
        ("/api/visitors/online", 403),
        ("/api/visitors/users?ids=7", 403),
    ] {
        assert_eq!(ask(&site, path, LIMITED).await.status, status, "{path}");
    }
    let counts = ask(&site, "/api/visitors/counts?communities=43,42,404", LIMITED)
        .await
        .json();
    assert_eq!(
        counts["counts"],
        json!([{"community_id": 42, "current_visitors": 1}])
    );
    let other = ask(&site, "/api/communities/43/visitors/count", LIMITED).await;
    let absent = ask(&site, "/api/communities/404/visitors/count", LIMITED).await;
    assert_eq!(other.body, absent.body);
    // Each spelling of an id is that id.
    assert_eq!(
        ask(&site, "/api/communities/042/visitors/count", LIMITED)
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a13_without_configured_keys_such_a_token_is_the_sites_own() {
    let site = Site::new();
    let caller = with_header(
        member(),
        "authorization",
        "Bearer hc_counts-counts-counts-counts-counts-c",
    );
    let headers = caller.headers.clone();
    let path = site.api.parse(COUNT).unwrap();
    assert!(!site.api.key_of(&path, &headers, super::support::now()).is_some());
    assert_eq!(site.get_as(caller, COUNT).await.status, 200);
}

#[tokio::test]
async fn a15_each_answer_to_a_key_says_what_is_left_and_one_too_many_when_to_come_back() {
    let site = Site::with(|settings| {
        keys(settings);
        settings.key[0].burst = 3;
    });
    let field = |answer: &Answer, name: &str| answer.headers[name].to_str().unwrap().to_owned();
    let says = |answer: &Answer| -> (u32, u32) {
        let field = field(answer, "ratelimit");
        let numbers = field
            .strip_prefix("\"key\";r=")
            .unwrap()
            .split_once(";t=")
            .unwrap();
        (numbers.0.parse().unwrap(), numbers.1.parse().unwrap())
    };
    for (path, left, status) in [
        (COUNT, 2, 200),
        ("/api/communities/404/visitors/count", 1, 404),
        ("/api/visitors/counts", 0, 400),
    ] {
        let answer = ask(&site, path, COUNTS).await;
        assert_eq!(answer.status, status);
        assert_eq!(field(&answer, "ratelimit-policy"), "\"key\";q=3;w=180");
        let (says, full_in) = says(&answer);
        assert_eq!(says, left, "{path}");
        assert!((1..=(3 - left) * 60).contains(&full_in), "{path}: {full_in}");
    }
    let refused = ask(&site, COUNT, COUNTS).await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.detail(), "The key asks too often. Try again later.");
    let wait: u32 = field(&refused, "retry-after").parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(says(&refused).0, 0);
    assert_eq!(by_key(&site, "counts", "too_many"), Some(1.0));
    assert_eq!(ask(&site, COUNT, BOTH).await.status, 200, "each has its own");
    // A server that asks for an event stream is no browser: it is told the status.
    let accept = [("accept", "text/event-stream")];
    let live = ask_with(
        &site,
        Method::GET,
        "/api/communities/42/visitors/live",
        COUNTS,
        &accept,
    )
    .await;
    assert_eq!(live.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn a16_a_key_in_a_page_of_another_origin_is_refused_also_of_an_allowed_one() {
    let site = Site::with_live(
        keys,
        crate::config::Live {
            allowed_origins: vec!["https://app.example.org".into()],
            ..crate::config::Live::default()
        },
    );
    for (headers, status) in [
        (&[][..], 200),
        (&[("origin", "http://site.test")], 200),
        (&[("sec-fetch-site", "same-origin")], 200),
        (&[("sec-fetch-site", "cross-site")], 403),
        (&[("origin", "https://evil.test")], 403),
        (&[("origin", "null")], 403),
        (&[("origin", "https://app.example.org")], 403),
    ] {
        let answer = ask_with(&site, Method::GET, COUNT, COUNTS, headers).await;
        assert_eq!(answer.status, status, "{headers:?}");
        let readable = answer.headers.contains_key("access-control-allow-origin");
        assert_eq!(
            readable,
            headers.contains(&("origin", "https://app.example.org")),
            "{headers:?}"
        );
    }
    // A page of an origin that is not allowed is not told that it might send one.
    for (origin, allowed) in [("https://evil.test", false), ("https://app.example.org", true)] {
        let preflight = Request::builder()
            .method(Method::OPTIONS)
            .uri(COUNT)
            .header("host", "site.test")
            .header("origin", origin)
            .header("access-control-request-method", "GET")
            .header("access-control-request-headers", "authorization");
        let answer = call(&site.api, preflight.body(()).unwrap(), anonymous()).await;
        let says = answer.headers.contains_key("access-control-allow-headers");
        assert_eq!(says, allowed, "{origin}");
    }
}

/// `api.pages` is about visitors.
#[tokio::test]
async fn a28_a_server_is_told_of_all_pages() {
    let site = Site::with(|settings| {
        keys(settings);
        settings.pages = crate::config::Pages::None;
    });
    site.store.profile("7");
    *site.store.past.lock().unwrap() = vec![PastVisitor {
        user_id: "7".into(),
        page_views: 1,
        visit_count: 1,
        first_visit: super::support::now(),
        last_visit: super::support::now(),
        pages: vec![("/c/42/secret-report/7/".into(), 1)],
    }];
    let history = format!("{LIST}/history");
    let told = ask(&site, &history, NAMES).await.json();
    assert_eq!(
        told["visitors"][0]["pages"][0]["url"], "/c/42/secret-report/7/",
        "{told}"
    );
    let told = site.get(&history).await.json();
    assert_eq!(told["visitors"][0]["pages"], json!([]), "{told}");
}
