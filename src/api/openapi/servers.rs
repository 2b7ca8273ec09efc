//! What the contract says of servers that ask with a key. Pure.

use serde_json::{Value, json};

use crate::api::paths::{ForServers, Operation};
use crate::config::{Api, KeyScope};

/// Name of the security scheme.
const SERVER_KEY: &str = "serverKey";

/// The scope that a server's key needs for an operation, where servers have keys and it is for them.
pub(super) fn scope(operation: Operation, settings: &Api) -> Option<KeyScope> {
    match operation.for_servers() {
        ForServers::Scope(scope) if settings.takes_keys() => Some(scope),
        ForServers::Scope(_) | ForServers::Anybody | ForServers::Nobody => None,
    }
}

/// The key as one of an operation's alternatives.
pub(super) fn requirement(scope: KeyScope) -> Value {
    json!({SERVER_KEY: [scope.name()]})
}

/// Adds the security scheme, where servers have keys.
pub(super) fn add_scheme(schemes: &mut Value, settings: &Api) {
    if settings.takes_keys() {
        schemes[SERVER_KEY] = json!({
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "hc_…",
            "description": "A server's API key, with the scope that the operation names. It decides alone, and sees every \
                community, or those that it is limited to.",
        });
    }
}

/// Describes what an operation answers to a key that has this scope, or has not.
pub(super) fn describe(described: &mut Value, scope: KeyScope) {
    let name = scope.name();
    let responses = &mut described["responses"];
    for (status, says) in [
        (
            "403",
            format!("The server's key has not the scope `{name}`, or comes from a page of another origin."),
        ),
        ("429", "The server's key asks too often.".to_owned()),
    ] {
        let response = &mut responses[status];
        if let Some(before) = response["description"].as_str() {
            response["description"] = format!("{before} Or: {says}").into();
        } else {
            *response = json!({
                "description": says,
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            });
        }
    }
    for status in ["401", "403"] {
        responses[status]["headers"]["WWW-Authenticate"] = json!({
            "description": "To a server's key: what is wrong with it.",
            "schema": {"type": "string", "pattern": "^Bearer "},
        });
    }
    let Some(responses) = responses.as_object_mut() else {
        return;
    };
    for response in responses.values_mut() {
        for (header, pattern, description) in [
            (
                "RateLimit",
                r#"^"key";r=\d+;t=\d+$"#,
                "To a server's key: requests that it has left, and the seconds until it has all.",
            ),
            (
                "RateLimit-Policy",
                r#"^"key";q=\d+;w=\d+$"#,
                "To a server's key: so many requests in so many seconds.",
            ),
        ] {
            response["headers"][header] = json!({
                "description": description,
                "schema": {"type": "string", "pattern": pattern},
            });
        }
    }
}
