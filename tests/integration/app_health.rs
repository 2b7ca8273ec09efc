//! The app stops, hangs, or loses one of its servers: `/readyz`, metrics, dashboard and log say so, and say when it is
//! back; and a flood of failing requests is a few lines.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;

use crate::support::backend::{Backend, Settings};
use crate::support::chromium::Chromium;
use crate::support::fake_upstream::{FakeUpstream, Heard, OK, Reply};
use crate::support::redis::eventually;
use crate::support::service::free_port;
use crate::support::sidecar::Sidecar;
use crate::support::wire::exchange;
use crate::support::world::{Wanted, World};

/// Probes come at once.
const OFTEN: &str = "health_interval = \"50ms\"\nconnect_timeout = \"500ms\"";
/// No probe comes after the first: requests tell alone.
const NEVER: &str = "health_interval = \"1h\"";

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n")
}

async fn status(sidecar: &Sidecar) -> u16 {
    exchange(sidecar.port, get("/"), false).await.status
}

fn in_front_of(servers: &[&str], upstream: &str) -> Sidecar {
    let embedded = "[database]\nurl = \"sqlite:///nowhere/app.db\"\n[record]\nevents = false\n";
    Sidecar::start(&format!(
        "[upstream]\nservers = {servers:?}\n{upstream}\n{embedded}"
    ))
}

async fn readyz(sidecar: &Sidecar) -> (u16, String) {
    let answer = reqwest::get(sidecar.admin_url("/readyz"))
        .await
        .expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("text"))
}

/// Waits until `/readyz` says this, or no longer does.
async fn says(sidecar: &Sidecar, what: &str, is_said: bool) -> (u16, String) {
    let last = std::cell::RefCell::default();
    eventually(async || {
        last.replace(readyz(sidecar).await);
        last.borrow().1.contains(what) == is_said
    })
    .await;
    last.into_inner()
}

async fn is_up(sidecar: &Sidecar, server: &str) -> f64 {
    sidecar.metric(&up(server)).await
}

fn up(server: &str) -> String {
    format!("headcount_upstream_up{{server=\"{server}\"}}")
}

async fn dashboard(sidecar: &Sidecar) -> Value {
    let answer = reqwest::get(sidecar.admin_url("/dashboard.json")).await;
    answer.expect("an answer").json().await.expect("JSON")
}

fn lines(log: &str, what: &str) -> usize {
    log.lines().filter(|line| line.contains(what)).count()
}

/// Without a request: the probes tell.
#[tokio::test]
async fn h1_an_app_that_is_killed_and_started_again_is_told_by_probes() {
    let world = World::shared().await;
    let (variant, settings) = (
        Wanted::usual().variant,
        Settings {
            port: Some(free_port()),
            ..Settings::default()
        },
    );
    let start = || Backend::start(variant, &world.database.url(), settings);
    let app = start();
    let server = format!("127.0.0.1:{}", app.port());
    let sidecar = in_front_of(&[&server], OFTEN);
    sidecar.wait_for_metric(&up(&server), |up| up == 1.0).await;
    says(&sidecar, "the app", false).await;
    assert_eq!(dashboard(&sidecar).await["app"]["state"], "up");

    let browser = Chromium::start().await;
    browser.open(&sidecar.admin_url("/")).await;
    let shows = |tile: &str, level: &str| {
        format!(
            "document.querySelector('#app dd').textContent === '{tile}' && \
             document.querySelector('#app').dataset.level === '{level}'"
        )
    };
    browser.wait_for(&shows("Answers", "ok")).await;

    drop(app);
    let told = format!("degraded: the app does not answer ({server}: connection refused)\n");
    let (code, _) = says(&sidecar, &told, true).await;
    assert_eq!(
        code, 200,
        "the sidecar stays in rotation: see `upstream.readiness`"
    );
    assert_eq!(is_up(&sidecar, &server).await, 0.0);
    let report = dashboard(&sidecar).await;
    assert_eq!(report["app"]["state"], "down");
    assert_eq!(report["state"], "ok");
    browser.wait_for(&shows("Away", "bad")).await;
    browser
        .wait_for("document.querySelector('#freshness').dataset.level === 'warn'")
        .await;
    browser
        .wait_for("document.querySelector('#health').textContent.includes('The app does not answer')")
        .await;

    let _app = start();
    says(&sidecar, "the app", false).await;
    assert_eq!(is_up(&sidecar, &server).await, 1.0);
    browser.wait_for(&shows("Answers", "ok")).await;
    let log = sidecar.says("a server of the app answers again");
    assert_eq!(lines(&log, "a server of the app does not answer"), 1, "{log}");
    assert_eq!(lines(&log, "a server of the app answers again"), 1, "{log}");
}

/// With no probe meanwhile: requests tell, each at once.
#[tokio::test]
async fn h1_requests_tell_at_once_that_the_app_is_gone_and_that_it_is_back() {
    let app = FakeUpstream::answering(|_| OK).await;
    let server = app.address();
    let sidecar = in_front_of(&[&server], NEVER);
    assert_eq!(status(&sidecar).await, 200);
    assert_eq!(is_up(&sidecar, &server).await, 1.0);
    drop(app);
    assert_eq!(status(&sidecar).await, 502);
    assert_eq!(is_up(&sidecar, &server).await, 0.0);
    assert!(readyz(&sidecar).await.1.contains("connection refused"));
    let _app = FakeUpstream::answering_at(&server, |_| OK).await;
    assert_eq!(status(&sidecar).await, 200);
    assert_eq!(is_up(&sidecar, &server).await, 1.0);
    assert!(!readyz(&sidecar).await.1.contains("the app"));
}

#[tokio::test]
async fn h1_why_it_does_not_answer_is_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("app.sock");
    for (server, reason) in [
        (format!("unix:{}", socket.display()), "the socket does not exist"),
        (
            "no-such-name.invalid:8000".into(),
            "the name cannot be resolved (",
        ),
    ] {
        let sidecar = in_front_of(&[&server], OFTEN);
        let told = format!("degraded: the app does not answer ({server}: {reason}");
        says(&sidecar, &told, true).await;
        assert_eq!(is_up(&sidecar, &server).await, 0.0);
        assert_eq!(status(&sidecar).await, 502);
        // Neither rounds of probes nor requests repeat the line.
        let log = sidecar.says("a server of the app does not answer");
        assert_eq!(lines(&log, "a server of the app does not answer"), 1, "{log}");
    }
}

#[tokio::test]
async fn h2_whether_an_app_that_is_away_makes_the_sidecar_unready_is_a_setting() {
    let app = FakeUpstream::answering(|_| OK).await;
    let server = app.address();
    let sidecar = in_front_of(&[&server], &format!("readiness = true\n{OFTEN}"));
    eventually(async || readyz(&sidecar).await.0 == 200).await;
    drop(app);
    eventually(async || readyz(&sidecar).await.0 == 503).await;
    let (_, text) = readyz(&sidecar).await;
    assert!(
        text.starts_with("the app does not answer\ndegraded: the app does not answer ("),
        "{text}"
    );
    assert_eq!(dashboard(&sidecar).await["state"], "the app does not answer");
    let alive = reqwest::get(sidecar.admin_url("/livez"))
        .await
        .expect("an answer");
    assert_eq!(alive.status(), 200, "a restart of the sidecar helps nobody");
    let _app = FakeUpstream::answering_at(&server, |_| OK).await;
    eventually(async || readyz(&sidecar).await.0 == 200).await;
}

#[tokio::test]
async fn h3_one_of_several_servers_that_dies_is_named_and_left_out() {
    let (alive, dying) = (
        FakeUpstream::answering(|_| OK).await,
        FakeUpstream::answering(|_| OK).await,
    );
    let (one, other) = (alive.address(), dying.address());
    let sidecar = in_front_of(&[&one, &other], NEVER);
    for _ in 0..4 {
        assert_eq!(status(&sidecar).await, 200);
    }
    assert_eq!(
        (is_up(&sidecar, &one).await, is_up(&sidecar, &other).await),
        (1.0, 1.0)
    );
    drop(dying);
    for _ in 0..20 {
        assert_eq!(status(&sidecar).await, 200);
    }
    assert_eq!(
        (is_up(&sidecar, &one).await, is_up(&sidecar, &other).await),
        (1.0, 0.0)
    );
    let told = format!(
        "degraded: a server of the app does not answer, the others do ({other}: connection refused)\n"
    );
    let (code, text) = readyz(&sidecar).await;
    assert!(
        code == 200 && text.contains(&told) && !text.contains("degraded: the app"),
        "{text}"
    );
    assert_eq!(dashboard(&sidecar).await["app"]["state"], "up");
    drop(alive);
    assert_eq!(status(&sidecar).await, 502);
    let (_, text) = readyz(&sidecar).await;
    assert!(
        text.contains("degraded: the app does not answer (") && text.contains(&one),
        "{text}"
    );
    // While none is known to be up all are tried, the one that was left out too.
    let _back = FakeUpstream::answering_at(&other, |_| OK).await;
    eventually(async || status(&sidecar).await == 200).await;
    assert_eq!(
        (is_up(&sidecar, &one).await, is_up(&sidecar, &other).await),
        (0.0, 1.0)
    );
}

/// The kernel takes connections for it: only what is sent and not answered tells.
#[tokio::test]
async fn h4_a_server_that_takes_connections_and_answers_nothing_is_down() {
    let hung = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).await;
    let hung = hung.expect("a free port");
    let server = hung.local_addr().expect("an address").to_string();
    let sidecar = in_front_of(&[&server], OFTEN);
    sidecar.wait_for_metric(&up(&server), |up| up == 1.0).await;
    let request = tokio::spawn({
        let url = sidecar.url("/");
        async move { reqwest::get(url).await }
    });
    let told =
        format!("degraded: the app does not answer ({server}: it takes connections and answers nothing");
    says(&sidecar, &told, true).await;
    assert_eq!(is_up(&sidecar, &server).await, 0.0);
    // It closes its connections instead: no answer, either.
    drop(hung);
    says(&sidecar, "connection refused", true).await;
    request.abort();
    let _app = FakeUpstream::answering_at(&server, |_| OK).await;
    says(&sidecar, "the app", false).await;
}

/// A slow page is no outage as long as the server answers others, or a probe.
#[tokio::test]
async fn h4_a_server_with_one_slow_answer_is_up() {
    let slow = |request: &Heard| {
        if request.head.starts_with("GET /slow") {
            Reply::Early("", Duration::from_secs(3_600), "")
        } else {
            OK
        }
    };
    let app = FakeUpstream::answering(slow).await;
    let server = app.address();
    let sidecar = in_front_of(&[&server], "health_interval = \"50ms\"\nconnect_timeout = \"2s\"");
    let request = tokio::spawn(reqwest::get(sidecar.url("/slow")));
    // Asked because the slow one is silent, and answered.
    eventually(async || app.probes() > 0).await;
    let (_, text) = readyz(&sidecar).await;
    assert!(!text.contains("the app does not answer"), "{text}");
    assert_eq!(is_up(&sidecar, &server).await, 1.0);
    assert!(!request.is_finished());
    request.abort();
}

#[tokio::test]
async fn h5_an_error_of_the_app_is_an_answer_and_a_sick_health_path_is_told_as_such() {
    let app = FakeUpstream::answering(|_| {
        Reply::Keep("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
    })
    .await;
    let server = app.address();
    let sidecar = in_front_of(&[&server], OFTEN);
    assert_eq!(status(&sidecar).await, 503);
    assert_eq!(is_up(&sidecar, &server).await, 1.0);
    assert!(!readyz(&sidecar).await.1.contains("the app"));

    let sick = |request: &Heard| {
        if request.head.starts_with("GET /healthz") {
            Reply::Keep("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
        } else {
            OK
        }
    };
    let app = FakeUpstream::answering(sick).await;
    let server = app.address();
    let sidecar = in_front_of(&[&server], &format!("health_path = \"/healthz\"\n{OFTEN}"));
    says(
        &sidecar,
        &format!("({server}: its health path answers 503)"),
        true,
    )
    .await;
    // It is the only one, and tried all the same; its answers do not make it well.
    assert_eq!(status(&sidecar).await, 200);
    assert_eq!(is_up(&sidecar, &server).await, 0.0);
}

#[tokio::test]
async fn h6_a_thousand_failing_requests_are_a_few_lines_and_all_are_counted() {
    let servers = [
        format!("127.0.0.1:{}", free_port()),
        format!("127.0.0.1:{}", free_port()),
    ];
    let sidecar = in_front_of(&[&servers[0], &servers[1]], OFTEN);
    let client = reqwest::Client::new();
    for _ in 0..20 {
        let requests = (0..50).map(|_| client.get(sidecar.url("/")).send());
        for answer in futures_util::future::join_all(requests).await {
            assert_eq!(answer.expect("an answer").status(), 502);
        }
    }
    let failed = "headcount_upstream_failures_total{reason=\"connect\"}";
    assert_eq!(sidecar.metric(failed).await, 1_000.0);
    let log = sidecar.log();
    // Of each server, and of the requests once a minute.
    let about = log
        .lines()
        .filter(|line| line.contains("WARN") || line.contains("ERROR"))
        .filter(|line| servers.iter().any(|server| line.contains(server)) || line.contains("proxied"));
    assert!((3..=5).contains(&about.count()), "{log}");
    assert!(
        !log.contains("Backend {") && !log.contains("becomes unhealthy"),
        "{log}"
    );
}

/// The process may open no more files: each connection to the app fails for a reason of its own.
#[tokio::test]
async fn h3_a_process_without_files_says_so_and_not_that_the_app_is_down() {
    let app = FakeUpstream::answering(|_| OK).await;
    let server = app.address();
    let sidecar = in_front_of(&[&server], OFTEN);
    sidecar.wait_for_metric(&up(&server), |up| up == 1.0).await;
    let limit = |files: &str| {
        let pid = sidecar.process().pid().to_string();
        let done = Command::new("prlimit").args(["--pid", &pid, files]).status();
        assert!(done.expect("prlimit runs").success());
    };
    limit("--nofile=8:");
    sidecar.says("this process cannot connect to the app");
    limit("--nofile=1024:");
    sidecar.says("this process can connect to the app again");
    let log = sidecar.log();
    assert!(log.contains("Too many open files"), "{log}");
    assert_eq!(lines(&log, "a server of the app does not answer"), 0, "{log}");
    assert_eq!(status(&sidecar).await, 200);
}
