//! The table of what browsers send, as the tests read it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use http::HeaderMap;
use serde::Deserialize;

/// Headers that are compared; others say nothing of what a request is for, or are of one version of a browser.
const HEADERS: [&str; 15] = [
    "sec-fetch-mode",
    "sec-fetch-dest",
    "sec-purpose",
    "x-sec-purpose",
    "purpose",
    "x-purpose",
    "x-moz",
    "x-requested-with",
    "x-turbo-request-id",
    "turbo-frame",
    "hx-request",
    "hx-boosted",
    "hx-preloaded",
    "hx-history-restore-request",
    "service-worker-navigation-preload",
];
const COUNTED: &str = "counted";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    #[serde(rename = "row")]
    pub rows: Vec<Row>,
}

/// One case as some browsers do it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub case: String,
    does: String,
    browsers: Vec<String>,
    sends: BTreeMap<String, String>,
    https: Option<String>,
    http: Option<String>,
    only: Option<String>,
    #[serde(default)]
    pub shown: bool,
    why: String,
}

impl Table {
    pub fn read() -> Self {
        toml::from_str(include_str!("fetch_metadata.toml")).expect("the table")
    }

    /// The rows of what a browser does over a scheme.
    pub fn of(&self, browser: &str, scheme: &str) -> Vec<Row> {
        let is_of = |row: &&Row| {
            row.browsers.iter().any(|name| name == browser)
                && row.verdict(scheme).is_some()
                && row.only.as_deref().is_none_or(|only| only == scheme)
        };
        self.rows.iter().filter(is_of).cloned().collect()
    }

    /// As it stands in the manual.
    pub fn markdown(&self) -> String {
        let mut text =
            "| what happens | browsers | request | https | http | |\n|---|---|---|---|---|---|\n".to_owned();
        for row in &self.rows {
            let browsers = if row.browsers.len() == 3 {
                "all".to_owned()
            } else {
                row.browsers.join(", ")
            };
            let sends: Vec<_> = row
                .sends
                .iter()
                .map(|(name, value)| format!("`{name}: {value}`"))
                .collect();
            let verdict = |verdict: &Option<String>| match verdict.as_deref() {
                None => "—".to_owned(),
                Some(COUNTED) => "**counted**".to_owned(),
                Some(reason) => format!("`{reason}`"),
            };
            let _ = writeln!(
                text,
                "| {} | {browsers} | {} | {} | {} | {} |",
                row.does,
                sends.join(" "),
                verdict(&row.https),
                verdict(&row.http),
                row.why
            );
        }
        text
    }
}

impl Row {
    /// `counted`, or why not; `None` where the case cannot be.
    pub fn verdict(&self, scheme: &str) -> Option<&str> {
        let verdict = if scheme == "https" {
            &self.https
        } else {
            &self.http
        };
        verdict.as_deref()
    }

    pub fn is_counted(&self, scheme: &str) -> bool {
        self.verdict(scheme) == Some(COUNTED)
    }

    /// What a browser sends over a scheme.
    pub fn sends(&self, scheme: &str) -> BTreeMap<String, String> {
        let mut sends = self.sends.clone();
        sends.retain(|name, _| scheme == "https" || !name.starts_with("sec-fetch-"));
        sends
    }
}

/// What a request has of the headers that are compared, in the table's words.
pub fn sent(request: &HeaderMap) -> BTreeMap<String, String> {
    let text = |name: &str| {
        let value = request.get(name)?.to_str().ok()?;
        Some(if name == "x-turbo-request-id" { "*" } else { value })
    };
    let accept = text("accept").unwrap_or_default();
    let kind = match (accept.contains("text/html"), accept.contains("application/xml")) {
        (true, true) => "page",
        (true, false) => "html",
        (false, _) => "other",
    };
    let pairs = HEADERS.iter().filter_map(|name| Some((*name, text(name)?)));
    pairs
        .chain([("accept", kind)])
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}
