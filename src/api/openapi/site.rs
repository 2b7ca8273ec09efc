//! Adapts the contract to the site's configuration. Pure.
//! That is: operations and their paths, bounds of parameters, and authentication. Also adds what holds for every
//! operation, instead of repeating it at each.

use serde_json::{Map, Value, json};

use super::servers;

use crate::api::paths::{Operation, Paths, SCOPE, SCOPES};
use crate::api::{SiteSettings, cursor, query};
use crate::communities;
use crate::config::{self, Access, Jwt, SessionFacts};
use crate::ids::Finer;
use crate::routes::FinerKind;

/// Names of the security schemes.
const SESSION: &str = "session";
const AUTHORIZATION: &str = "authorization";
const BEARER: &str = "bearerAuth";

/// Adapts the document that the handlers declare to a site with these settings.
pub(super) fn fit(
    document: &mut Value,
    paths: &Paths,
    settings: &config::Api,
    site: &SiteSettings,
    kinds: &[FinerKind],
) {
    let mut declared = match document["paths"].take() {
        Value::Object(declared) => declared,
        _ => Map::new(),
    };
    let mut fitted = Map::new();
    for operation in paths.operations() {
        // The other paths are the app's.
        let Some(mut item) = declared.remove(operation.template()) else {
            continue;
        };
        for described in item.as_object_mut().into_iter().flat_map(Map::values_mut) {
            complete(described, operation, settings, &site.jwt);
        }
        let template = operation.template();
        if template.contains(SCOPES) {
            for kind in kinds {
                let path = of_kind(template, kind);
                fitted.insert(paths.documented(&path), of_this_kind(&item, kind));
            }
        } else {
            fitted.insert(paths.documented(template), item);
        }
    }
    document["paths"] = fitted.into();
    document["components"]["securitySchemes"] = schemes(settings, site);
}

/// Removes the fields that answers do not have, because the app keeps no such values.
pub(super) fn leave_out(document: &mut Value, facts: SessionFacts) {
    let fields = [
        (facts.started_at, "Visitor", &["started_at"][..]),
        (facts.pages_visited, "Visitor", &["pages_visited"]),
        (
            facts.durations,
            "CommunityStats",
            &[
                "avg_session_duration",
                "ended_sessions",
                "avg_community_session_duration",
                "ended_community_sessions",
            ],
        ),
    ];
    for (is_kept, schema, fields) in fields {
        if is_kept {
            continue;
        }
        let schema = &mut document["components"]["schemas"][schema];
        if let Some(properties) = schema["properties"].as_object_mut() {
            properties.retain(|name, _| !fields.contains(&name.as_str()));
        }
        if let Some(required) = schema["required"].as_array_mut() {
            required.retain(|name| name.as_str().is_none_or(|name| !fields.contains(&name)));
        }
    }
}

/// The path of an operation about things finer than communities, of one kind.
pub(in crate::api) fn of_kind(template: &str, kind: &FinerKind) -> String {
    let key = format!("{{{}}}", kind.kind);
    template.replace(SCOPES, &kind.segment).replace(SCOPE, &key)
}

/// The same operation, with its name and the name of its parameter.
fn of_this_kind(item: &Value, kind: &FinerKind) -> Value {
    let mut item = item.clone();
    for described in item.as_object_mut().into_iter().flat_map(Map::values_mut) {
        if let Some(id) = described["operationId"].as_str() {
            described["operationId"] = format!("{id}_of_{}", kind.kind).into();
        }
        for parameter in described["parameters"].as_array_mut().into_iter().flatten() {
            if parameter["in"] == "path" && parameter["name"] == "scope" {
                parameter["name"] = (&*kind.kind).into();
                parameter["schema"]["maxLength"] = Finer::MAX_CHARS.into();
                parameter["schema"]["pattern"] = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$".into();
            }
        }
    }
    item
}

fn complete(described: &mut Value, operation: Operation, settings: &config::Api, jwt: &Jwt) {
    described["security"] = security(operation, settings, jwt);
    if let Some(scope) = servers::scope(operation, settings) {
        servers::describe(described, scope);
    }
    if !described["parameters"].is_array() {
        described["parameters"] = json!([]);
    }
    if let Some(parameters) = described["parameters"].as_array_mut() {
        for parameter in &mut *parameters {
            bound(parameter, operation, settings);
        }
        if operation != Operation::Widget {
            parameters.push(format());
        }
        if operation.is_live() && jwt.is_on() && !jwt.query_parameter.is_empty() {
            parameters.push(jwt_parameter(&jwt.query_parameter));
        }
    }
    let allow = operation.methods();
    let Some(responses) = described["responses"].as_object_mut() else {
        return;
    };
    for (status, response) in responses {
        match &**status {
            "405" => {
                response["description"] = format!("Only these methods are possible: {allow}.").into();
                response["headers"]["Allow"] = json!({
                    "description": "The methods that are possible.",
                    "required": true,
                    "schema": {"type": "string", "const": allow},
                });
            }
            "200" if operation.is_live() => {
                response["content"]["text/event-stream"]["schema"] = event();
            }
            "401" => response["headers"]["Retry-After"] = retry_after(false),
            "429" | "503" => response["headers"]["Retry-After"] = retry_after(true),
            _ => {}
        }
    }
}

/// Bounds of parameters that are configured, or that are constants elsewhere.
fn bound(parameter: &mut Value, operation: Operation, settings: &config::Api) {
    let schema = match parameter["name"].as_str() {
        Some("community") => json!({"maxLength": communities::MAX_LENGTH}),
        Some("limit") => {
            let (max, default) = query::limits(settings);
            json!({"maximum": max, "default": default})
        }
        Some("days") => {
            let (max, default) = query::days_limits(settings);
            json!({"maximum": max, "default": default})
        }
        Some("cursor") if operation == Operation::History => json!({"pattern": cursor::past::PATTERN}),
        Some("cursor") => json!({"pattern": cursor::PATTERN}),
        Some("sort") => json!({"enum": query::SORTS.map(|(name, _)| name), "default": query::SORTS[0].0}),
        Some("ids") => json!({"minItems": 1, "maxItems": query::MAX_USERS}),
        Some("communities") => json!({"minItems": 1, "maxItems": query::MAX_COMMUNITIES}),
        _ => return,
    };
    let (Value::Object(more), Some(schema)) = (schema, parameter["schema"].as_object_mut()) else {
        return;
    };
    schema.extend(more);
}

/// The `format` parameter of Django REST framework.
fn format() -> Value {
    json!({
        "name": "format",
        "in": "query",
        "required": false,
        "description": "Means nothing: answers have one format. Taken from clients of Django REST framework.",
        "schema": {"type": "string", "enum": query::FORMATS},
    })
}

/// The parameter that a JWT may come in.
fn jwt_parameter(name: &str) -> Value {
    json!({
        "name": name,
        "in": "query",
        "required": false,
        "description": "A JWT, for clients that can send no `Authorization`, such as a browser's event stream.",
        "schema": {"type": "string"},
    })
}

/// An event of a stream: the fields of its lines; `data` holds a message.
fn event() -> Value {
    json!({
        "type": "object",
        "required": ["data"],
        "properties": {
            "id": {"type": "string", "description": "The count's `seq`."},
            "retry": {"type": "integer", "description": "Milliseconds to wait before reconnecting."},
            "data": {
                "type": "string",
                "contentMediaType": "application/json",
                "contentSchema": {"$ref": "#/components/schemas/LiveMessage"},
            },
        },
    })
}

fn retry_after(always: bool) -> Value {
    json!({
        "description": "Seconds until the same request may be answered.",
        "required": always,
        "schema": {"type": "integer", "minimum": 1},
    })
}

/// Any one of the list suffices.
fn security(operation: Operation, settings: &config::Api, jwt: &Jwt) -> Value {
    let mut any_of = vec![json!({SESSION: []})];
    if is_bearer(jwt) {
        any_of.push(json!({BEARER: []}));
    }
    match operation {
        Operation::Widget | Operation::Contract => any_of.clear(),
        // Whatever the access is: a view needs a visitor.
        Operation::Visits => {}
        // The app decides about communities only.
        Operation::SiteCount | Operation::Online | Operation::UsersOnline
            if settings.access != Access::Public => {}
        _ => match settings.access {
            Access::Public => any_of = vec![json!({})],
            Access::Visited | Access::Session => {}
            // The app may let everyone see a community.
            Access::Backend => any_of.extend([json!({AUTHORIZATION: []}), json!({})]),
        },
    }
    if let Some(scope) = servers::scope(operation, settings) {
        any_of.push(servers::requirement(scope));
    }
    if any_of == [json!({})] {
        any_of.clear();
    }
    any_of.into()
}

/// Whether a JWT may come as the scheme of that name.
fn is_bearer(jwt: &Jwt) -> bool {
    let mut schemes = jwt.header_types.iter();
    jwt.is_on() && schemes.any(|scheme| scheme.eq_ignore_ascii_case("Bearer"))
}

fn schemes(settings: &config::Api, site: &SiteSettings) -> Value {
    let mut schemes = json!({
        SESSION: {
            "type": "apiKey",
            "in": "cookie",
            "name": site.session_cookie,
            "description": "The site's own session cookie.",
        },
    });
    if is_bearer(&site.jwt) {
        schemes[BEARER] = json!({
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "The site's own access token. A `WebSocket` may send it as a subprotocol.",
        });
    }
    if settings.access == Access::Backend {
        schemes[AUTHORIZATION] = json!({
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "Passed on to the app, which decides who may see a community.",
        });
    }
    servers::add_scheme(&mut schemes, settings);
    schemes
}
