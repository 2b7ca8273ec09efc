//! Tests with requests of real browsers, row by row of the table that is recorded from them.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

const TABLE: &str = include_str!("../../../tests/integration/browsers/fetch_metadata.toml");

#[derive(Deserialize)]
struct Table {
    row: Vec<Row>,
}

/// The columns of a row that matter here.
#[derive(Deserialize)]
struct Row {
    case: String,
    browsers: Vec<String>,
    sends: BTreeMap<String, String>,
    https: Option<String>,
    http: Option<String>,
}

/// The kinds of `Accept` in the table: of Chromium, Firefox and `WebKit`, Turbo, htmx and jQuery.
fn accepts(kind: &str) -> &'static [&'static str] {
    match kind {
        "page" => &[
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/jxl,image/avif,image/webp,image/apng,*/*;q=0.8,\
             application/signed-exchange;v=b3;q=0.7",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        ],
        "html" => &[
            "text/html",
            "text/html, application/xhtml+xml",
            "text/vnd.turbo-stream.html, text/html, application/xhtml+xml",
            "text/html, */*; q=0.01",
        ],
        "other" => &[
            "*/*",
            "image/webp,image/avif,video/*;q=0.8,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5",
        ],
        other => panic!("there is no kind {other} of Accept"),
    }
}

#[test]
fn v10_each_row_of_what_browsers_send_is_decided_as_it_says() {
    let table: Table = toml::from_str(TABLE).unwrap();
    for row in &table.row {
        for (scheme, verdict) in [("https", &row.https), ("http", &row.http)] {
            let Some(verdict) = verdict else { continue };
            for accept in accepts(&row.sends["accept"]) {
                let mut asks = old_page().asks("accept", accept);
                for (name, value) in row.sends.iter().filter(|(name, _)| *name != "accept") {
                    if scheme == "https" || !name.starts_with("sec-fetch-") {
                        asks = asks.asks(name, value);
                    }
                }
                let decided = asks.decide().map_or_else(NotCounted::label, |_| "counted");
                let (case, browsers) = (&row.case, &row.browsers);
                assert_eq!(
                    decided, verdict,
                    "{case} of {browsers:?} over {scheme}, Accept: {accept}"
                );
            }
        }
    }
}

#[test]
fn v11_scripts_that_use_the_ways_of_turbo_and_htmx_for_something_else_make_no_views() {
    let script = || {
        page()
            .asks("sec-fetch-mode", "cors")
            .asks("sec-fetch-dest", "empty")
    };
    for asks in [
        // Rails' `request.js` uses Turbo's `fetch`.
        script()
            .asks("x-turbo-request-id", "1")
            .asks("x-requested-with", "XMLHttpRequest"),
        script()
            .asks("x-turbo-request-id", "1")
            .asks("accept", "application/json"),
        script().asks("hx-boosted", "false"),
        old_page().asks("hx-request", "true"),
    ] {
        assert_eq!(asks.reason(), NotCounted::NotNavigation);
    }
    let answered = script().asks("x-turbo-request-id", "1");
    let answered = answered.answers("content-type", "text/vnd.turbo-stream.html");
    assert_eq!(answered.reason(), NotCounted::NotHtml);
}
