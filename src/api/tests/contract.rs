//! The `OpenAPI` document and the metrics.

use http::{Method, StatusCode};
use serde_json::Value;

use super::support::{Site, anonymous, member};

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
            "/v1/communities/{community}/visitors/live",
            "/v1/communities/{community}/visitors/stats",
            "/v1/visitors/counts",
            "/v1/visitors/live",
            "/v1/visitors/openapi.json",
            "/v1/visitors/widget.js",
            "/v1/visits",
        ]
    );
    for path in &paths {
        assert!(site.api.owns(&path.replace("{community}", "42")), "{path}");
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
    let rendered = site.metrics.render();
    for operation in [
        "visitors",
        "count",
        "stats",
        "live",
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
    site.get("/not/owned").await;
    let rendered = site.metrics.render();
    for line in [
        "headcount_api_requests_total{operation=\"visitors\",status=\"2xx\"} 2",
        "headcount_api_requests_total{operation=\"visitors\",status=\"4xx\"} 1",
        "headcount_api_requests_total{operation=\"counts\",status=\"4xx\"} 1",
    ] {
        assert!(rendered.contains(line), "{line}");
    }
    assert_eq!(rendered.matches("headcount_api_requests_total{").count(), 45);
}
