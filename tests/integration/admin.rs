//! The admin listener: metrics as Prometheus reads them, health, and the explanation of a URL.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::sidecar::Sidecar;
use crate::support::world::World;

/// A sidecar without app, database and Redis: what the admin listener says of that.
fn lonely() -> Sidecar {
    Sidecar::start(
        "[upstream]\nservers = [\"127.0.0.1:9\"]\n[database]\nurl = \"sqlite:///nowhere/app.db\"\n",
    )
}

/// Metrics as in the text format: families with their type, and samples with their labels.
#[derive(Debug, Default)]
struct Scrape {
    helped: BTreeSet<String>,
    types: BTreeMap<String, String>,
    /// Sample name, and labels as name and value.
    samples: Vec<(String, Vec<(String, String)>)>,
}

impl Scrape {
    fn parse(text: &str) -> Self {
        let mut scrape = Self::default();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a help text");
                assert!(
                    !help.is_empty() && scrape.helped.insert(name.to_owned()),
                    "{line}"
                );
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a type");
                assert!(
                    scrape.types.insert(name.to_owned(), kind.to_owned()).is_none(),
                    "{line}"
                );
            } else {
                let (series, value) = line.rsplit_once(' ').expect("a value");
                value.parse::<f64>().unwrap_or_else(|_| panic!("{line}"));
                let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
                let labels = labels.strip_suffix('}').expect("labels end");
                let labels = labels.split_terminator(',').map(|label| {
                    let (name, value) = label.split_once('=').expect("a label");
                    (name.to_owned(), value.trim_matches('"').to_owned())
                });
                scrape.samples.push((name.to_owned(), labels.collect()));
            }
        }
        scrape
    }

    /// Family of a sample: a histogram's samples have suffixes.
    fn family<'a>(&self, sample: &'a str) -> &'a str {
        ["_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|suffix| sample.strip_suffix(suffix))
            .find(|name| self.types.get(*name).is_some_and(|kind| kind == "histogram"))
            .unwrap_or(sample)
    }

    /// Values of one label of a metric.
    fn values(&self, metric: &str, label: &str) -> BTreeSet<&str> {
        self.samples
            .iter()
            .filter(|(name, _)| name == metric)
            .flat_map(|(_, labels)| labels)
            .filter(|(name, _)| name == label)
            .map(|(_, value)| value.as_str())
            .collect()
    }
}

async fn scrape(sidecar: &Sidecar) -> (String, Scrape) {
    let response = reqwest::get(sidecar.admin_url("/metrics")).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(
        response.headers()["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let text = response.text().await.unwrap();
    let scrape = Scrape::parse(&text);
    (text, scrape)
}

/// What must be there, with its type.
const METRICS: &[(&str, &str)] = &[
    ("headcount_requests_total", "counter"),
    ("headcount_request_duration_seconds", "histogram"),
    ("headcount_upstream_duration_seconds", "histogram"),
    ("headcount_page_views_counted_total", "counter"),
    ("headcount_page_views_not_counted_total", "counter"),
    ("headcount_recorder_queue_views", "gauge"),
    ("headcount_recorder_dropped_total", "counter"),
    ("headcount_presence_dropped_total", "counter"),
    ("headcount_batch_rows", "histogram"),
    ("headcount_apply_duration_seconds", "histogram"),
    ("headcount_last_apply_timestamp_seconds", "gauge"),
    ("headcount_apply_retries_total", "counter"),
    ("headcount_session_lookups_total", "counter"),
    ("headcount_spool_bytes", "gauge"),
    ("headcount_spool_oldest_age_seconds", "gauge"),
    ("headcount_dead_letters", "gauge"),
    ("headcount_presence_touches_total", "counter"),
    ("headcount_presence_touches_coalesced_total", "counter"),
    ("headcount_presence_sweep_lag_seconds", "gauge"),
    ("headcount_redis_errors_total", "counter"),
    ("headcount_connections", "gauge"),
    ("headcount_config_reloads_total", "counter"),
    ("headcount_config_last_reload_success_timestamp_seconds", "gauge"),
    ("headcount_build_info", "gauge"),
];

#[tokio::test]
async fn every_metric_has_name_type_and_help_as_prometheus_wants_them() {
    let world = World::usual().await;
    let alice = world.member("alice").await;
    alice.sees(&world.community("rust")).await;
    alice.json(&world.visitors("rust", "/count")).await;
    world.wait_for_views(1).await;
    let (text, scrape) = scrape(&world.sidecar).await;

    for (name, kind) in METRICS {
        assert_eq!(scrape.types.get(*name).map(String::as_str), Some(*kind), "{name}");
    }
    for (name, kind) in &scrape.types {
        assert!(scrape.helped.contains(name), "{name} has no help");
        assert!(name.starts_with("headcount_"), "{name}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
    }
    for (sample, _) in &scrape.samples {
        assert!(
            scrape.types.contains_key(scrape.family(sample)),
            "{sample} has no type"
        );
    }

    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed: tests/run does it");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
}

#[tokio::test]
async fn no_label_tells_of_a_user_a_path_or_a_community() {
    let world = World::usual().await;
    let alice = world.member("alice").await;
    for path in [
        &world.community("rust"),
        "/about/?secret=hunter2",
        "/nowhere/hunter2",
        "/c/rust/",
    ] {
        alice.visits(path).await;
    }
    alice.json(&world.visitors("rust", "")).await;
    alice.visits("/api/communities/hunter2/visitors").await;
    world.wait_for_views(3).await;
    let (text, scrape) = scrape(&world.sidecar).await;
    assert!(!text.contains("hunter2") && !text.contains("alice"), "{text}");
    // Routes by the names that the operator gave them, and nothing else.
    let routes = scrape.values("headcount_requests_total", "route");
    let known = [
        "community",
        "community-by-slug",
        "none",
        "visitors_api",
        "refused",
    ];
    assert!(routes.iter().all(|route| known.contains(route)), "{routes:?}");
    let user = world.seeded.user("alice");
    let community = world.seeded.community("rust");
    for (name, labels) in &scrape.samples {
        for (label, value) in labels.iter().filter(|(label, _)| label != "le") {
            assert!(
                *value != user && *value != community,
                "{name} {label}=\"{value}\""
            );
        }
    }
}

#[tokio::test]
async fn what_can_be_counted_starts_at_zero() {
    let sidecar = lonely();
    let (_, scrape) = scrape(&sidecar).await;
    for (metric, label, values) in [
        (
            "headcount_config_reloads_total",
            "outcome",
            &["failure", "success"][..],
        ),
        (
            "headcount_session_lookups_total",
            "outcome",
            &[
                "anonymous",
                "cached",
                "disabled",
                "found",
                "malformed",
                "no_profile",
                "nobody",
                "remembered",
                "unavailable",
                "unreadable",
            ],
        ),
        (
            "headcount_session_evictions_total",
            "reason",
            &["all_changed", "appeared", "changed", "gap", "overflow"],
        ),
        (
            "headcount_recorder_queue_views",
            "queue",
            &["lookups", "presence", "recorder", "writer"],
        ),
        (
            "headcount_apply_retries_total",
            "class",
            &["connection", "contention", "other", "read_only", "resources"],
        ),
        (
            "headcount_requests_refused_total",
            "reason",
            &[
                "body_size",
                "header_count",
                "header_size",
                "header_timeout",
                "host",
                "loop",
                "malformed",
                "method",
                "path",
            ],
        ),
    ] {
        assert_eq!(
            scrape.values(metric, label),
            values.iter().copied().collect(),
            "{metric}"
        );
    }
    let drops = scrape.values("headcount_recorder_dropped_total", "reason");
    assert!(
        drops.contains("recorder_queue_full") && drops.contains("shutdown"),
        "{drops:?}"
    );
    let reasons = scrape.values("headcount_page_views_not_counted_total", "reason");
    assert!(
        reasons.contains("bot") && reasons.contains("prefetch"),
        "{reasons:?}"
    );
    for (name, value) in sidecar.metrics().await {
        if name.contains("_total{") {
            assert_eq!(value, 0.0, "{name}");
        }
    }
}

#[tokio::test]
async fn it_is_ready_without_its_database_and_says_so() {
    let sidecar = lonely();
    sidecar
        .wait_for_metric("headcount_database_up", |up| up == 0.0)
        .await;
    // Its app does not answer, either, which the first probe tells.
    sidecar.says("a server of the app does not answer");
    let response = reqwest::get(sidecar.admin_url("/readyz")).await.unwrap();
    assert_eq!(response.status(), 200);
    let text = response.text().await.unwrap();
    let database = "degraded: the database does not answer; page views wait in the spool: database.url leads to \
                    /nowhere/app.db: ";
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[..2],
        [
            "ok",
            "degraded: the app does not answer (127.0.0.1:9: connection refused)"
        ]
    );
    assert!(lines.len() == 3 && lines[2].starts_with(database), "{text}");
}

#[tokio::test]
async fn health_is_answered_to_http_1_0() {
    let sidecar = lonely();
    for path in ["/livez", "/readyz"] {
        let mut connection = TcpStream::connect(("127.0.0.1", sidecar.admin)).await.unwrap();
        // No Host: HTTP/1.0 has none, and load balancers of that age send none.
        connection
            .write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
        assert!(answer.contains("\r\n\r\nok\n"), "{answer}");
    }
}

#[tokio::test]
async fn a_url_is_explained_as_on_the_command_line() {
    let sidecar = lonely();
    let ask = async |query: &str| {
        let response = reqwest::get(sidecar.admin_url(&format!("/routes/test?{query}")))
            .await
            .unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let config = sidecar.directory().join("headcount.toml");
    for (query, arguments) in [
        ("url=/communities/42/", &["/communities/42/"][..]),
        (
            "url=/communities/42/&method=POST",
            &["/communities/42/", "--method", "POST"],
        ),
        ("url=/c/caf%25C3%25A9", &["/c/caf%C3%A9"]),
    ] {
        let file = ["--config", config.to_str().unwrap()];
        let told = crate::support::process::run(&[&["routes", "test"], arguments, &file].concat(), &[]);
        assert_eq!(ask(query).await, (200, told.out), "{query}");
    }
    let (status, text) = ask("url=/&method=GET%20IT").await;
    assert_eq!((status, &*text), (400, "\"GET IT\" is not a request method\n"));
    assert_eq!(ask("method=GET").await.0, 400);
}

#[tokio::test]
async fn the_site_knows_nothing_of_the_admin_paths() {
    let world = World::usual().await;
    for path in [
        "/metrics",
        "/livez",
        "/readyz",
        "/routes/test?url=/",
        "/dashboard.json",
    ] {
        assert_eq!(world.stranger().get(path).await.status(), 404, "{path}");
    }
}
