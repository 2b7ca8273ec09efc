//! Tests of targets × methods: whose each request is, and what is answered.

use http::Method;
use http::header::ALLOW;

use super::support::{Site, member};
use crate::metrics::StatusClass;

const METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::OPTIONS,
    Method::PATCH,
];

const READ: &str = "GET,HEAD";

/// A request's target, the label of its operation, the methods in `Allow`, and the status for each of [`METHODS`].
type Row = (&'static str, &'static str, &'static str, [u16; 7]);

const fn read(target: &'static str, label: &'static str, status: u16) -> Row {
    (target, label, READ, [status, status, 405, 405, 405, 405, 405])
}

const fn live(target: &'static str, label: &'static str, status: u16) -> Row {
    (target, label, "GET", [status, 405, 405, 405, 405, 405, 405])
}

/// Community 42 is there, and no other.
const OWN: &[Row] = &[
    read("/api/communities/42/visitors", "visitors", 200),
    read("/api/communities/42/visitors/", "visitors", 200),
    read("/api/communities/42/visitors?", "visitors", 200),
    read("/api/communities/42/visitors/?limit=1", "visitors", 200),
    read("/api/communities/42/visitors?limit=0", "visitors", 400),
    read("/api/communities/42/visitors?limit=%31", "visitors", 200),
    read("/api/communities/42/visitors?x", "visitors", 400),
    read("/api/communities/42/visitors?format=xml", "visitors", 404),
    read("/api/communities/43/visitors", "visitors", 404),
    read("/api/communities/%34%32/visitors", "visitors", 200),
    read("/api/communities/4%32/visitors/", "visitors", 200),
    read("/api/communities/%2534%2532/visitors", "visitors", 404),
    read("/api/communities/42%2F/visitors", "visitors", 404),
    read("/api/communities/42%20/visitors", "visitors", 404),
    read("/api/communities/42%00/visitors", "visitors", 404),
    read("/api/communities/42+/visitors", "visitors", 404),
    read("/api/communities/42%/visitors", "visitors", 404),
    read("/api/communities/%FF/visitors", "visitors", 404),
    read("/api/communities/%FF/visitors?limit=0", "visitors", 400),
    read("/api/communities/%C3%A9/visitors", "visitors", 404),
    read("/api/communities/\u{e9}/visitors", "visitors", 404),
    read("/api/communities/../visitors", "visitors", 404),
    read("/api/communities/42;v=1/visitors", "visitors", 404),
    read("/api/communities/{community}/visitors", "visitors", 404),
    read("/api/communities/visitors/visitors", "visitors", 404),
    read("/api/communities/42/visitors/count", "count", 200),
    read("/api/communities/42/visitors/count/", "count", 200),
    read("/api/communities/42/visitors/count?x=1", "count", 400),
    read("/api/communities/%34%32/visitors/count", "count", 200),
    read("/api/communities/%FF/visitors/count", "count", 404),
    read("/api/communities/42/visitors/stats", "stats", 200),
    read("/api/communities/42/visitors/stats/?days=3", "stats", 200),
    read("/api/communities/42/visitors/stats?days=0", "stats", 400),
    read("/api/communities/%FF/visitors/stats", "stats", 404),
    // Neither an event stream nor a `WebSocket` is asked for.
    live("/api/communities/42/visitors/live", "live", 406),
    live("/api/communities/42/visitors/live/", "live", 406),
    live("/api/communities/%FF/visitors/live?heartbeat=x", "live", 406),
    live("/api/visitors/live", "live_of_many", 406),
    live("/api/visitors/live/?communities=42", "live_of_many", 406),
    read("/api/visitors/counts", "counts", 400),
    read("/api/visitors/counts?communities=42,43", "counts", 200),
    read("/api/visitors/counts/?communities=%34%32", "counts", 200),
    read("/api/visitors/widget.js", "widget", 200),
    read("/api/visitors/widget.js/", "widget", 200),
    read("/api/visitors/widget.js?v=1", "widget", 200),
    read("/api/visitors/openapi.json", "openapi", 200),
    read("/api/visitors/openapi.json/", "openapi", 200),
    read("/api/visitors/openapi.json?x", "openapi", 400),
    // No page of the site says so.
    (
        "/api/visits",
        "visits",
        "POST",
        [405, 405, 403, 405, 405, 405, 405],
    ),
    (
        "/api/visits/",
        "visits",
        "POST",
        [405, 405, 403, 405, 405, 405, 405],
    ),
    (
        "/api/visits?x",
        "visits",
        "POST",
        [405, 405, 400, 405, 405, 405, 405],
    ),
];

#[tokio::test]
async fn every_own_target_is_answered_by_its_operation_and_for_its_methods() {
    let site = Site::new();
    for (target, label, allowed, statuses) in OWN {
        for (method, status) in METHODS.into_iter().zip(statuses) {
            let answers = || {
                let class = StatusClass::of(*status).unwrap();
                site.metrics.requests.of(label)[class].get()
            };
            let before = answers();
            let answer = site.send(method.clone(), target, member()).await;
            let about = format!("{method} {target}");
            assert_eq!(answer.status.as_u16(), *status, "{about}");
            assert_eq!(answers(), before + 1, "{about}");
            let allow = answer.headers.get(ALLOW).map(|methods| methods.to_str().unwrap());
            assert_eq!(allow, (*status == 405).then_some(*allowed), "{about}");
            let length: usize = answer.headers["content-length"]
                .to_str()
                .unwrap()
                .parse()
                .unwrap();
            assert!(length > 0, "{about}");
            let body = if method == Method::HEAD { 0 } else { length };
            assert_eq!(answer.body.len(), body, "{about}");
        }
    }
}
