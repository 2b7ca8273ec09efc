//! Tests of the `OpenAPI` document and the API's metrics.

use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};

use super::support::{Site, anonymous, member};
use crate::config;

#[tokio::test]
async fn the_contract_describes_every_operation_below_the_configured_prefix() {
    let site = Site::with(|settings| settings.prefix = "/v1".into());
    let answer = site.get("/v1/visitors/openapi.json").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.headers["cache-control"], "public, max-age=300");
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    let document = answer.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut paths: Vec<_> = document["paths"].as_object().unwrap().keys().collect();
    paths.sort();
    assert_eq!(
        paths,
        [
            "/v1/communities/{community}/visitors",
            "/v1/communities/{community}/visitors/count",
            "/v1/communities/{community}/visitors/history",
            "/v1/communities/{community}/visitors/history/{user}",
            "/v1/communities/{community}/visitors/live",
            "/v1/communities/{community}/visitors/stats",
            "/v1/visitors/count",
            "/v1/visitors/counts",
            "/v1/visitors/live",
            "/v1/visitors/online",
            "/v1/visitors/openapi.json",
            "/v1/visitors/users",
            "/v1/visitors/widget.js",
            "/v1/visits",
        ]
    );
    for path in &paths {
        assert!(
            site.api
                .parse(&path.replace("{community}", "42").replace("{user}", "7"))
                .is_some(),
            "{path}"
        );
    }
}

#[tokio::test]
async fn the_contract_describes_problems_and_answers_by_schemas_that_exist() {
    let document = Site::new().get("/api/visitors/openapi.json").await.json();
    let responses = &document["paths"]["/api/communities/{community}/visitors"]["get"]["responses"];
    for status in ["400", "401", "404", "405", "500", "503"] {
        let schema = &responses[status]["content"]["application/problem+json"]["schema"];
        assert_eq!(schema["$ref"], "#/components/schemas/Problem", "{status}");
    }
    let mut references = Vec::new();
    collect_references(&document, &mut references);
    assert!(references.len() > 10);
    for reference in references {
        let place = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(place).is_some(), "{reference}");
    }
}

async fn document(site: &Site) -> Value {
    site.get("/api/visitors/openapi.json").await.json()
}

/// Every operation of a document, with its path.
fn operations(document: &Value) -> Vec<(&String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, item)| item.as_object().unwrap().values().map(move |one| (path, one)))
        .collect()
}

#[tokio::test]
async fn a5_the_bounds_of_parameters_are_those_of_the_configuration() {
    let site = Site::with(|settings| (settings.max_limit, settings.max_days) = (20, 90));
    let document = document(&site).await;
    let schema = |path: &str, name: &str| {
        let parameters = &document["paths"][format!("/api{path}")]["get"]["parameters"];
        let parameters = parameters.as_array().unwrap().iter();
        let found: Vec<_> = parameters.filter(|parameter| parameter["name"] == name).collect();
        assert_eq!(found.len(), 1, "{path} {name}");
        found[0]["schema"].clone()
    };
    let list = "/communities/{community}/visitors";
    for (path, name, bounds) in [
        (list, "community", json!({"minLength": 1, "maxLength": 64})),
        (list, "limit", json!({"minimum": 1, "maximum": 20, "default": 20})),
        (list, "cursor", json!({"pattern": crate::api::cursor::PATTERN})),
        (list, "format", json!({"enum": ["json", ""]})),
        (
            "/communities/{community}/visitors/stats",
            "days",
            json!({"minimum": 1, "maximum": 90, "default": 30}),
        ),
        (
            "/visitors/counts",
            "communities",
            json!({"minItems": 1, "maxItems": 100}),
        ),
        (
            "/visitors/live",
            "communities",
            json!({"minItems": 1, "maxItems": 100}),
        ),
    ] {
        let schema = schema(path, name);
        for (bound, value) in bounds.as_object().unwrap() {
            assert_eq!(&schema[bound], value, "{path} {name} {bound}");
        }
    }
}

#[tokio::test]
async fn a5_the_document_says_how_callers_say_who_they_are() {
    let own = [json!({"session": []})];
    let whoever = json!({});
    let app = json!({"authorization": []});
    for (access, expected) in [
        (config::Access::Session, own.to_vec()),
        (config::Access::Backend, [&own[..], &[app, whoever]].concat()),
        (config::Access::Public, Vec::new()),
    ] {
        let document = document(&Site::with_access(access)).await;
        let schemes = &document["components"]["securitySchemes"];
        assert_eq!(schemes["session"]["in"], "cookie");
        assert_eq!(schemes["session"]["name"], "session_id");
        assert_eq!(
            schemes["authorization"].is_object(),
            access == config::Access::Backend
        );
        for (path, operation) in operations(&document) {
            let expected = match &**path {
                "/api/visitors/openapi.json" | "/api/visitors/widget.js" => &[],
                "/api/visits" => &own[..],
                // The app decides about communities only.
                "/api/visitors/count" | "/api/visitors/online" | "/api/visitors/users"
                    if access == config::Access::Backend =>
                {
                    &own[..]
                }
                _ => &expected,
            };
            assert_eq!(operation["security"], json!(expected), "{access:?} {path}");
        }
    }
}

#[tokio::test]
async fn a5_the_document_says_that_callers_may_bring_a_jwt() {
    let site = Site::with_site_settings(|site_settings| {
        site_settings.jwt.algorithms = vec![config::Algorithm::HS256];
        site_settings.jwt.query_parameter = "access_token".into();
    });
    let document = document(&site).await;
    let bearer = &document["components"]["securitySchemes"]["bearerAuth"];
    assert_eq!(
        (&bearer["type"], &bearer["scheme"]),
        (&json!("http"), &json!("bearer"))
    );
    for (path, operation) in operations(&document) {
        let is_open = matches!(&**path, "/api/visitors/openapi.json" | "/api/visitors/widget.js");
        let expected = if is_open {
            json!([])
        } else {
            json!([{"session": []}, {"bearerAuth": []}])
        };
        assert_eq!(operation["security"], expected, "{path}");
        let mut parameters = operation["parameters"].as_array().unwrap().iter();
        let takes_it = parameters.any(|parameter| parameter["name"] == "access_token");
        assert_eq!(takes_it, path.ends_with("/live"), "{path}");
    }
}

#[tokio::test]
async fn a5_operations_have_names_of_their_own_and_described_tags() {
    let document = document(&Site::new()).await;
    let tags: Vec<_> = document["tags"].as_array().unwrap().iter().collect();
    let mut names = std::collections::BTreeSet::new();
    for (path, operation) in operations(&document) {
        let name = operation["operationId"].as_str().unwrap();
        assert!(names.insert(name), "{path}: {name}");
        let tag = operation["tags"].as_array().unwrap();
        assert_eq!(tag.len(), 1, "{path}");
        assert!(tags.iter().any(|described| described["name"] == tag[0]), "{path}");
        assert!(
            !name.contains(':') && !tag[0].as_str().unwrap().contains(':'),
            "{path}"
        );
    }
}

/// Of each operation: what it takes is what `Allow` says, in the document and in the answer.
#[tokio::test]
async fn a2_a_refused_method_is_told_the_possible_ones() {
    let site = Site::new();
    let document = document(&site).await;
    for (path, operation) in operations(&document) {
        let allow = &operation["responses"]["405"]["headers"]["Allow"];
        assert_eq!(allow["required"], true, "{path}");
        let allow = allow["schema"]["const"].as_str().unwrap();
        let path = path.replace("{community}", "42");
        for method in [
            "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY",
        ] {
            let answer = site.send(method.parse().unwrap(), &path, member()).await;
            let is_refused = answer.status == StatusCode::METHOD_NOT_ALLOWED;
            assert_eq!(
                is_refused,
                !allow.split(',').any(|one| one == method),
                "{method} {path}"
            );
            if is_refused {
                assert_eq!(answer.headers["allow"], allow, "{method} {path}");
            }
        }
    }
}

/// What the proxy refuses on a path of the API looks like what the API refuses.
#[tokio::test]
async fn a2_what_is_refused_before_it_is_looked_at_has_the_same_form() {
    let api = Site::new().api;
    for status in [400, 405, 408, 413, 429, 500, 503, 508] {
        let status = StatusCode::from_u16(status).unwrap();
        let path = api.parse("/api/communities/42/visitors").unwrap();
        let response = api.refuse(&path, &HeaderMap::new(), status);
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.headers()["cache-control"], "no-store");
        let retries = response.headers().contains_key("retry-after");
        assert_eq!(retries, matches!(status.as_u16(), 429 | 503));
        let is_405 = status == StatusCode::METHOD_NOT_ALLOWED;
        assert_eq!(response.headers().contains_key("allow"), is_405);
        let document: Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(document["status"], status.as_u16());
        assert!(!document["detail"].as_str().unwrap().is_empty());
    }
}

/// Fields that may be null are there all the same.
#[tokio::test]
async fn the_contract_requires_every_field() {
    let document = Site::new().get("/api/visitors/openapi.json").await.json();
    for schema in [
        "CommunityCount",
        "CommunityStats",
        "Counts",
        "CountOf",
        "Problem",
        "Visitor",
    ] {
        let schema = &document["components"]["schemas"][schema];
        let required = schema["required"].as_array().unwrap().len();
        assert_eq!(
            required,
            schema["properties"].as_object().unwrap().len(),
            "{schema:#}"
        );
    }
}

fn collect_references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                found.push(reference.clone());
            }
            fields.values().for_each(|value| collect_references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| collect_references(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn requests_are_counted_by_operation_and_status_class_from_zero_on() {
    let site = Site::new();
    let rendered = site.registry.render();
    for operation in [
        "visitors",
        "count",
        "stats",
        "live",
        "finer_visitors",
        "finer_count",
        "finer_live",
        "site_count",
        "online",
        "users_online",
        "counts",
        "live_of_many",
        "visits",
        "widget",
        "openapi",
    ] {
        for class in ["1xx", "2xx", "3xx", "4xx", "5xx"] {
            let line =
                format!("headcount_api_requests_total{{operation=\"{operation}\",status=\"{class}\"}} 0");
            assert!(rendered.contains(&line), "{line}");
        }
    }
    site.get("/api/communities/42/visitors").await;
    site.get("/api/communities/42/visitors/").await;
    site.get_as(anonymous(), "/api/communities/42/visitors").await;
    site.send(Method::POST, "/api/visitors/counts", member()).await;
    let rendered = site.registry.render();
    for line in [
        "headcount_api_requests_total{operation=\"visitors\",status=\"2xx\"} 2",
        "headcount_api_requests_total{operation=\"visitors\",status=\"4xx\"} 1",
        "headcount_api_requests_total{operation=\"counts\",status=\"4xx\"} 1",
    ] {
        assert!(rendered.contains(line), "{line}");
    }
    assert_eq!(rendered.matches("headcount_api_requests_total{").count(), 85);
}

/// What the app keeps of no session is in no answer, and the contract has no field for it.
#[tokio::test]
async fn i16_answers_and_contract_leave_out_what_the_app_does_not_keep() {
    let site = Site::with_site_settings(|settings| {
        settings.session_facts = config::Schema::default().session_facts(config::SessionKind::Django);
    });
    site.visitor("42", "7", 0);
    let list = site.get("/api/communities/42/visitors").await.json();
    let stats = site.get("/api/communities/42/visitors/stats").await.json();
    let document = document(&site).await;
    for (answer, schema, left_out) in [
        (
            &list["visitors"][0],
            "Visitor",
            &["started_at", "pages_visited"][..],
        ),
        (
            &stats,
            "CommunityStats",
            &[
                "avg_session_duration",
                "ended_sessions",
                "avg_community_session_duration",
                "ended_community_sessions",
            ],
        ),
    ] {
        let described = &document["components"]["schemas"][schema];
        let answered: Vec<_> = answer.as_object().unwrap().keys().collect();
        let mut fields: Vec<_> = described["properties"].as_object().unwrap().keys().collect();
        fields.sort();
        let mut sorted = answered.clone();
        sorted.sort();
        assert_eq!(sorted, fields, "{schema}");
        for field in left_out {
            assert!(!answered.iter().any(|name| name == field), "{field}");
            let required = described["required"].as_array().unwrap();
            assert!(!required.iter().any(|name| name == field), "{field}");
        }
    }
}
