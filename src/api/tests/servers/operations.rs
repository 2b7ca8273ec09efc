//! Tests of each operation: what it needs of a server's key, by the contract and in its answers.

use http::Method;
use serde_json::json;

use super::{BOTH, COUNTS, NAMES, UNKNOWN, ask_with, by_key, keys, site};
use crate::api::paths::{ForServers, Operation};
use crate::api::tests::fakes::Mood;
use crate::api::tests::support::Site;
use crate::config::{Access, KeyScope};
use crate::metrics::LabelValue as _;

/// A key's scheme, what each operation needs of it, and what is answered to it; nothing of that where servers have none.
#[tokio::test]
async fn a14_the_contract_describes_what_servers_may_ask() {
    let document = site().get("/api/visitors/openapi.json").await.json();
    let without = Site::new().get("/api/visitors/openapi.json").await.json();
    assert_eq!(
        document["components"]["securitySchemes"]["serverKey"]["scheme"],
        "bearer"
    );
    assert_eq!(without["components"]["securitySchemes"]["serverKey"], json!(null));
    assert!(!without.to_string().contains("RateLimit"));
    for (operation, _) in &operations() {
        let path = format!("/api{}", operation.template());
        let item = document["paths"][&path]
            .as_object()
            .unwrap()
            .values()
            .next()
            .unwrap();
        let security = item["security"].as_array().unwrap();
        let needed = security.iter().find(|one| one.get("serverKey").is_some());
        let ForServers::Scope(scope) = operation.for_servers() else {
            assert_eq!(needed, None, "{path}");
            continue;
        };
        assert_eq!(needed, Some(&json!({"serverKey": [scope.name()]})), "{path}");
        assert!(security.contains(&json!({"session": []})), "{path}");
        for status in ["200", "401", "403", "404", "429", "503"] {
            let headers = &item["responses"][status]["headers"];
            assert!(
                headers["RateLimit"].is_object() && headers["RateLimit-Policy"].is_object(),
                "{path} {status}"
            );
        }
        for status in ["401", "403"] {
            let headers = &item["responses"][status]["headers"];
            assert!(headers["WWW-Authenticate"].is_object(), "{path} {status}");
        }
        assert_eq!(
            item["responses"]["429"]["headers"]["Retry-After"]["required"], true,
            "{path}"
        );
    }
    let public = Site::with(|settings| {
        keys(settings);
        settings.access = Access::Public;
    });
    let document = public.get("/api/visitors/openapi.json").await.json();
    let security = &document["paths"]["/api/visitors/counts"]["get"]["security"];
    assert_eq!(*security, json!([{}, {"serverKey": ["counts"]}]));
}

/// The paths of all operations that are no live connections, with what each needs.
fn operations() -> Vec<(Operation, String)> {
    // No route of this site names anything finer than communities.
    let is_asked = |operation: &&Operation| !operation.is_live() && !operation.template().contains("{scope}");
    let all = Operation::ALL.iter().filter(is_asked);
    let path = |operation: Operation| {
        let template = operation.template();
        let path = format!(
            "/api{}",
            template.replace("{community}", "42").replace("{user}", "7")
        );
        match operation {
            Operation::Counts => format!("{path}?communities=42"),
            Operation::UsersOnline => format!("{path}?ids=7"),
            _ => path,
        }
    };
    all.map(|operation| (*operation, path(*operation))).collect()
}

#[tokio::test]
async fn a14_each_operation_is_for_the_scope_that_it_names() {
    let site = site();
    for (operation, path) in operations() {
        let method = if operation.takes(&Method::POST) {
            Method::POST
        } else {
            Method::GET
        };
        for (key, scopes) in [
            (COUNTS, &[KeyScope::Counts][..]),
            (NAMES, &[KeyScope::Identities]),
            (BOTH, &KeyScope::ALL),
        ] {
            let answer = ask_with(&site, method.clone(), &path, key, &[]).await;
            let what = format!("{path} with {scopes:?}: {answer:?}");
            let challenge = answer.headers.get("www-authenticate");
            match operation.for_servers() {
                ForServers::Scope(scope) if scopes.contains(&scope) => {
                    // Nobody was ever there.
                    let is_absent = operation == Operation::HistoryOfOne;
                    assert_eq!(answer.status, if is_absent { 404 } else { 200 }, "{what}");
                }
                ForServers::Scope(scope) => {
                    assert_eq!(answer.status, 403, "{what}");
                    let says = format!("Bearer error=\"insufficient_scope\", scope=\"{}\"", scope.name());
                    assert_eq!(challenge.unwrap(), &*says, "{what}");
                    assert_eq!(
                        answer.detail(),
                        format!("The key needs the scope \"{}\".", scope.name())
                    );
                }
                ForServers::Nobody => {
                    assert_eq!(answer.status, 403, "{what}");
                    assert_eq!(answer.detail(), "Only visitors may do this, with a session.");
                }
                ForServers::Anybody => {
                    assert_eq!(answer.status, 200, "{what}");
                    assert!(!answer.headers.contains_key("ratelimit"), "{what}");
                }
            }
        }
    }
    assert_eq!(by_key(&site, "both", "answered"), Some(8.0));
    assert_eq!(by_key(&site, "counts", "forbidden"), Some(6.0));
    assert_eq!(by_key(&site, "names", "not_found"), Some(1.0));
}

#[tokio::test]
async fn a13_a_key_that_is_not_known_is_401_everywhere_and_no_fallback_to_what_else_there_is() {
    for access in [Access::Session, Access::Public, Access::Backend] {
        let site = Site::with(|settings| {
            keys(settings);
            settings.access = access;
        });
        // Whoever asked the database now would be answered 503.
        *site.store.mood.lock().unwrap() = Mood::Away;
        let mut bodies = Vec::new();
        for (operation, path) in operations() {
            if operation.for_servers() == ForServers::Anybody {
                continue;
            }
            for key in [UNKNOWN, "hc_", "hc_short", &format!("{COUNTS}x")] {
                let answer = ask_with(&site, Method::GET, &path, key, &[]).await;
                assert_eq!(answer.status, 401, "{path} {key}");
                assert_eq!(
                    answer.headers["www-authenticate"],
                    "Bearer error=\"invalid_token\""
                );
                assert_eq!(answer.detail(), "The key is not known, or no longer valid.");
                assert!(!answer.headers.contains_key("ratelimit"));
                bodies.push(answer.body);
            }
        }
        bodies.dedup();
        assert_eq!(bodies.len(), 1, "always the same");
        assert_eq!(site.backend.times_asked(), 0, "{access:?}");
    }
}
