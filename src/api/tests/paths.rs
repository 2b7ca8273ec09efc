//! Tests of paths: which ones are the sidecar's own.

use http::{Method, StatusCode};

use super::support::{Site, member};
use crate::api::{ApiPath, Operation};

const OWN: [&str; 14] = [
    "/api/communities/42/visitors",
    "/api/communities/42/visitors/count",
    "/api/communities/42/visitors/stats",
    "/api/communities/42/visitors/live",
    "/api/communities/0190aaaa-0000-7000-8000-000000000001/visitors",
    "/api/communities/a%2Fb/visitors",
    "/api/visitors/count",
    "/api/visitors/online",
    "/api/visitors/users",
    "/api/visitors/counts",
    "/api/visitors/live",
    "/api/visits",
    "/api/visitors/openapi.json",
    "/api/visitors/widget.js",
];

#[tokio::test]
async fn the_apis_paths_are_its_own_with_and_without_trailing_slash() {
    let api = Site::new().api;
    for path in OWN {
        assert!(api.parse(path).is_some(), "{path}");
        assert!(api.parse(&format!("{path}/")).is_some(), "{path}/");
    }
}

#[tokio::test]
async fn every_other_path_is_the_apps() {
    let api = Site::new().api;
    for path in [
        "/",
        "",
        "/api",
        "/api/",
        "/api/communities/",
        "/api/communities/42",
        "/api/communities/42/",
        "/api/communities//visitors",
        "/api/communities/visitors",
        "/api/communities/4/2/visitors",
        "/api/communities/42/visitors//",
        "/api/communities/42//visitors",
        "/api/communities/42/visitorsx",
        "/api/communities/42/visitors/count/x",
        "/api/communities/42/Visitors",
        "/api/communities/42/visitors%2Fcount",
        "/api/communities/42/%76isitors",
        "/api/communities/42/visitors?limit=1",
        "/apix/communities/42/visitors",
        "/xapi/communities/42/visitors",
        "//api/communities/42/visitors",
        "/communities/42/visitors",
        "/api/visitors",
        "/api/visitors/user",
        "/api/communities/{community}",
    ] {
        assert!(api.parse(path).is_none(), "{path}");
    }
}

#[tokio::test]
async fn what_is_switched_off_is_the_apps() {
    let lives = ["/api/communities/42/visitors/live", "/api/visitors/live"];
    let without = Site::with(|settings| settings.live = false).api;
    assert!(lives.iter().all(|path| without.parse(path).is_none()));
    assert!(without.parse("/api/visits").is_some());
    let without = Site::with(|settings| settings.beacon = false).api;
    assert!(lives.iter().all(|path| without.parse(path).is_some()));
    assert!(without.parse("/api/visits").is_none());
}

#[tokio::test]
async fn a_disabled_api_owns_nothing() {
    let api = Site::with(|settings| settings.enabled = false).api;
    for path in OWN {
        assert!(api.parse(path).is_none(), "{path}");
    }
}

#[tokio::test]
async fn the_prefix_is_configurable_with_or_without_slashes() {
    for (prefix, path) in [
        ("/presence/v1/", "/presence/v1/communities/42/visitors/count"),
        ("presence", "/presence/communities/42/visitors/count"),
        ("/", "/communities/42/visitors/count"),
        ("", "/communities/42/visitors/count"),
        ("/{odd}", "/%7Bodd%7D/communities/42/visitors/count"),
    ] {
        let site = Site::with(|settings| settings.prefix = prefix.into());
        if prefix.contains('{') {
            // Only has to be harmless: a raw path never has braces.
            assert!(site.api.parse(path).is_none());
            continue;
        }
        assert!(site.api.parse(path).is_some(), "{prefix}");
        assert_eq!(site.get(path).await.status, StatusCode::OK, "{prefix}");
    }
}

#[tokio::test]
async fn every_own_path_has_a_handler() {
    let site = Site::new();
    for path in OWN {
        for path in [path.to_owned(), format!("{path}/")] {
            let answer = site.send(Method::DELETE, &path, member()).await;
            assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        }
    }
}

#[tokio::test]
async fn a_communitys_segment_is_decoded_once() {
    let api = Site::new().api;
    for (segment, community) in [
        ("42", Some("42")),
        ("%34%32", Some("42")),
        ("%2542", Some("%42")),
        ("a%2Fb", Some("a/b")),
        ("%C3%A9", Some("\u{e9}")),
        ("a+b%20c", Some("a+b c")),
        ("42%", Some("42%")),
        ("%FF", None),
    ] {
        let community = community.map(String::from);
        for (end, operation) in [
            ("", Operation::List),
            ("/count", Operation::Count),
            ("/stats/", Operation::Stats),
            ("/live", Operation::Live),
        ] {
            let path = api.parse(&format!("/api/communities/{segment}/visitors{end}"));
            let community = community.clone();
            let finer = None;
            let expected = ApiPath {
                operation,
                community,
                user: Some(String::new()),
                finer,
            };
            assert_eq!(path, Some(expected), "{segment}{end}");
        }
    }
}
