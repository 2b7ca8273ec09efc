//! Health: problems that an operator must act on, as sentences, shared by `/readyz` and the dashboard.

use std::sync::atomic::Ordering;

use super::Admin;
use crate::printable::{counted, joined};
use crate::status::{Backlog, ComponentState, Status};

/// Whether the site is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    Ready,
    /// The listeners are open, but no server of the app answers: only where `upstream.readiness` is set.
    NoApp,
    Starting,
    HandedOver,
    ShuttingDown,
}

impl Readiness {
    pub(super) fn of(admin: &Admin) -> Self {
        if admin.shutdown.has_started() {
            Self::ShuttingDown
        } else if admin.handed_over.has_started() {
            Self::HandedOver
        } else if !admin.serving.load(Ordering::Relaxed) {
            Self::Starting
        } else if admin.settings.waits_for_the_app && admin.status.app.is_down() {
            Self::NoApp
        } else {
            Self::Ready
        }
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Ready => "ok",
            Self::NoApp => "the app does not answer",
            Self::Starting => "starting",
            Self::HandedOver => "handed over to another process",
            Self::ShuttingDown => "shutting down",
        }
    }
}

/// Problems that an operator must act on, one sentence each. A page view may wait on disk for `patience` seconds.
pub(super) fn degraded(status: &Status, patience: f64) -> Vec<String> {
    of_the_app(status)
        .chain(writing(status, patience))
        .chain(sign_outs(status))
        .chain(redis(status))
        .chain(own_lack(status))
        .chain(faulty_files(status))
        .chain(status.tables.condition().reasons)
        .chain(updates(status))
        .chain(status.recognition.condition().reasons)
        .chain(status.presence_settings.condition().reasons)
        .collect()
}

/// The sentences of those lines that hold.
fn holding<const N: usize>(lines: [(bool, String); N]) -> impl Iterator<Item = String> {
    let lines = lines.into_iter();
    lines.filter_map(|(holds, line)| holds.then_some(line))
}

/// Which of the app's servers do not answer.
fn of_the_app(status: &Status) -> impl Iterator<Item = String> {
    let app = status.app.condition();
    holding([
        (
            app.state == ComponentState::Down,
            format!("the app does not answer ({})", app.reasons.join("; ")),
        ),
        (
            status.app_servers.is_down(),
            format!(
                "a server of the app does not answer, the others do ({})",
                status.app_servers.condition().reasons.join("; ")
            ),
        ),
    ])
}

/// What keeps page views from being written, and those that wait.
fn writing(status: &Status, patience: f64) -> impl Iterator<Item = String> {
    let Backlog {
        bytes,
        limit_bytes,
        oldest_seconds: age,
        dead_letters: letters,
        ..
    } = status.backlog();
    let spool = status.spool.condition().state;
    holding([
        (
            status.database.is_down(),
            away(
                "the database does not answer; page views wait in the spool",
                &status.database.condition().reasons,
            ),
        ),
        (
            status.spool.is_down(),
            away(
                "the spool cannot be written; page views wait in memory (record.queue_bytes), then are dropped",
                &status.spool.condition().reasons,
            ),
        ),
        (
            spool != ComponentState::Off && bytes >= limit_bytes,
            "the spool is full; page views are dropped until the database takes them".to_owned(),
        ),
        (
            status.ledger.is_down(),
            away(
                "the ledger is not in order and page views wait; see `headcount check`",
                &status.ledger.condition().reasons,
            ),
        ),
        (
            status.writes.is_down(),
            away(
                "the database takes no page view and they wait; see the log",
                &status.writes.condition().reasons,
            ),
        ),
        (
            age > patience,
            format!("page views have waited for the database for {age:.0} s"),
        ),
        (
            letters > 0.0,
            format!(
                "the database refused {}; see `headcount dead-letters list`",
                counted(letters, "page view", "page views")
            ),
        ),
    ])
}

/// What keeps sign-outs from being noticed at once.
fn sign_outs(status: &Status) -> impl Iterator<Item = String> {
    let [listener, trigger] = [&status.session_listener, &status.session_trigger];
    let reasons = [listener.condition().reasons, trigger.condition().reasons];
    holding([(
        listener.is_down() || trigger.is_down(),
        away(
            "no notifications of session changes arrive; sign-outs are noticed within session.cache_ttl",
            &reasons.concat(),
        ),
    )])
}

/// What is wrong with Redis, and with which of its servers.
fn redis(status: &Status) -> impl Iterator<Item = String> {
    let (redis, partitions) = (status.redis.condition().state, status.partitions_down());
    let servers = status.redis_servers();
    let nodes = servers.down.join(", ");
    holding([
        (
            status.redis.is_down(),
            format!(
                "redis does not answer ({}); only visitors that this sidecar saw itself are known",
                servers.configured
            ),
        ),
        (
            status.presence.is_down() && redis == ComponentState::Up && partitions == 0,
            format!(
                "redis answers but refuses commands ({}), see the log; only visitors that this sidecar saw itself are \
                 known",
                servers.configured
            ),
        ),
        (
            partitions > 0 && redis == ComponentState::Up,
            format!(
                "the redis servers of {} do not answer ({nodes}); of the communities there only visitors that this sidecar \
                 saw itself are known",
                counted(partitions, "partition", "partitions")
            ),
        ),
    ])
}

/// What this process lacks for connections to the app.
fn own_lack(status: &Status) -> Vec<String> {
    let reasons = status.app_connections.condition().reasons;
    let line = |reason: &String| {
        format!(
            "this process cannot connect to the app, whose servers may be well: it lacks files, ports or memory ({reason}); \
             see its limits (LimitNOFILE, limits.max_connections)"
        )
    };
    reasons.iter().map(line).collect()
}

/// Files of which what was read before stays in use.
fn faulty_files(status: &Status) -> Vec<String> {
    let files = [
        (&status.routes, "the route files are faulty", "routes stay"),
        (
            &status.certificates,
            "a certificate of listen.https is faulty",
            "one stays",
        ),
        (
            &status.jwt_keys,
            "the file with the keys of JWTs is faulty",
            "ones stay",
        ),
        (
            &status.api_keys,
            "the file with the API keys is faulty",
            "ones stay",
        ),
    ];
    let faulty = files.into_iter().filter(|(file, ..)| file.is_down());
    let line = |(_, fault, good)| format!("{fault}, see the log; the last good {good} in use");
    faulty.map(line).collect()
}

/// What is left as it is beside the events that are written.
fn updates(status: &Status) -> Vec<String> {
    let reasons = status.updates.condition().reasons;
    let line = |reason: &String| format!("page views are written, but not {reason}");
    reasons.iter().map(line).collect()
}

/// A sentence with the reasons, where there are some yet: last, as they may end with statements that are to be pasted.
fn away(sentence: &str, reasons: &[String]) -> String {
    if reasons.is_empty() {
        sentence.to_owned()
    } else {
        format!("{sentence}: {}", joined(reasons))
    }
}
