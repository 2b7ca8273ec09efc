//! Tests of CORS: pages of other origins.

use http::{Method, Request, StatusCode};

use super::support::{Answer, Site, anonymous, call, member};

const APP: &str = "https://app.example.org";
const READ: [&str; 8] = [
    "/api/communities/42/visitors",
    "/api/communities/42/visitors/count",
    "/api/communities/42/visitors/stats",
    "/api/communities/42/visitors/history",
    "/api/communities/42/visitors/history/7",
    "/api/communities/42/visitors/live",
    "/api/visitors/counts?communities=42",
    "/api/visitors/openapi.json",
];

fn site(allowed: &[&str]) -> Site {
    let allowed = allowed.iter().map(ToString::to_string).collect();
    Site::with_site_settings(|site_settings| site_settings.allowed_origins = allowed)
}

async fn ask(site: &Site, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    call(&site.api, request.body(()).unwrap(), member()).await
}

#[tokio::test]
async fn a4_a_page_of_an_allowed_origin_may_read_every_answer_with_its_visitors_cookies() {
    let site = site(&["https://other.example.org", APP]);
    for path in READ.into_iter().chain([
        "/api/communities/404/visitors",
        "/api/visitors/counts",
        "/api/visitors/counts?format=xml",
    ]) {
        for method in [Method::GET, Method::HEAD, Method::DELETE] {
            let answer = ask(&site, method, path, &[("origin", APP)]).await;
            assert_eq!(answer.headers["access-control-allow-origin"], APP, "{path}");
            assert_eq!(
                answer.headers["access-control-allow-credentials"], "true",
                "{path}"
            );
            assert_eq!(
                answer.headers["access-control-expose-headers"], "Retry-After",
                "{path}"
            );
        }
    }
    let request = Request::builder().uri(READ[0]).header("origin", APP);
    let answer = call(&site.api, request.body(()).unwrap(), anonymous()).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer.headers["access-control-allow-origin"], APP);
}

#[tokio::test]
async fn a4_no_other_page_may_read_an_answer() {
    for (allowed, origin) in [
        (&[APP][..], "https://evil.test"),
        (&[APP], "https://app.example.org.evil.test"),
        (&[APP], "http://app.example.org"),
        (&[APP], "null"),
        (&[APP], "*"),
        (&[], APP),
    ] {
        let site = site(allowed);
        for path in READ {
            for method in [Method::GET, Method::OPTIONS] {
                let headers = [("origin", origin), ("access-control-request-method", "GET")];
                let answer = ask(&site, method, path, &headers).await;
                let names = answer.headers.keys().map(http::HeaderName::as_str);
                let mut cors = names.filter(|name| name.starts_with("access-control-"));
                assert_eq!(cors.next(), None, "{origin} {path}");
            }
        }
    }
}

/// Or a cache would give one page what it had kept for another.
#[tokio::test]
async fn a4_answers_say_that_they_depend_on_the_origin() {
    let site = site(&[APP]);
    for headers in [&[][..], &[("origin", APP)], &[("origin", "https://evil.test")]] {
        for path in READ {
            let answer = ask(&site, Method::GET, path, headers).await;
            let vary = answer.headers["vary"].to_str().unwrap();
            assert!(vary.split(", ").any(|name| name == "Origin"), "{path}: {vary}");
            let is_public = path.ends_with("/openapi.json");
            assert_eq!(vary.contains("Cookie"), !is_public, "{path}: {vary}");
        }
    }
}

#[tokio::test]
async fn a4_a_preflight_is_answered() {
    let site = site(&[APP]);
    let headers = [
        ("origin", APP),
        ("access-control-request-method", "GET"),
        (
            "access-control-request-headers",
            "authorization, x-requested-with",
        ),
    ];
    for path in READ {
        let answer = ask(&site, Method::OPTIONS, path, &headers).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{path}");
        let methods = if path.ends_with("live") { "GET" } else { "GET,HEAD" };
        for (name, value) in [
            ("access-control-allow-origin", APP),
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-methods", methods),
            ("access-control-allow-headers", "authorization, x-requested-with"),
            ("access-control-max-age", "600"),
            (
                "vary",
                "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
            ),
        ] {
            assert_eq!(answer.headers[name], value, "{path} {name}");
        }
        assert!(!answer.headers.contains_key("content-length"), "{path}");
    }
    let simple = ask(&site, Method::OPTIONS, READ[0], &headers[..2]).await;
    assert!(!simple.headers.contains_key("access-control-allow-headers"));
    let no_preflight = ask(&site, Method::OPTIONS, READ[0], &headers[..1]).await;
    assert_eq!(no_preflight.status, StatusCode::METHOD_NOT_ALLOWED);
}

/// Views are reported by the site's own pages alone.
#[tokio::test]
async fn a4_a_page_of_another_origin_reports_no_views() {
    let site = site(&[APP]);
    let headers = [("origin", APP), ("access-control-request-method", "POST")];
    let answer = ask(&site, Method::OPTIONS, "/api/visits", &headers).await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(!answer.headers.contains_key("access-control-allow-origin"));
    let answer = ask(&site, Method::POST, "/api/visits", &headers).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(!answer.headers.contains_key("access-control-allow-origin"));
}
