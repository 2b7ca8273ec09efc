//! `headcount upgrade`, as operators and systemd call it, and what systemd is told.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;

use super::{configure, still_serves};
use crate::support::process::{self, Process};
use crate::support::service::{LONGEST_WAIT, wait_until};
use crate::support::sidecar::{self, Sidecar, WAITING};
use crate::support::world::{Wanted, World};

/// A stand-in for systemd's end of the socket.
struct Systemd {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Systemd {
    fn listening(sidecar: &Sidecar) -> Self {
        let path = sidecar.folder().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(LONGEST_WAIT)).expect("a timeout");
        Self { socket, path }
    }

    /// The environment of a process that systemd starts.
    fn environment(&self) -> [(&str, String); 1] {
        [("NOTIFY_SOCKET", self.path.display().to_string())]
    }

    fn hears(&self) -> String {
        let mut message = [0; 256];
        let length = self.socket.recv(&mut message).expect("a message in time");
        String::from_utf8_lossy(&message[..length]).into_owned()
    }

    /// Hears of a process that serves; returns its id.
    fn hears_of_a_process(&self) -> u32 {
        let message = self.hears();
        let pid = message.strip_prefix("READY=1\nMAINPID=");
        pid.and_then(|pid| pid.parse().ok()).expect(&message)
    }
}

/// A process that no guard of ours has started.
pub(super) struct Orphan(pub(super) u32);

impl Orphan {
    pub(super) fn signal(&self, name: &str) -> bool {
        let kill = Command::new("kill")
            .args([&format!("-{name}"), &self.0.to_string()])
            .output();
        kill.expect("kill runs").status.success()
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        self.signal("KILL");
    }
}

pub(super) async fn running() -> Sidecar {
    World::shared().await.another_sidecar(&Wanted::usual())
}

fn upgrade(sidecar: &Sidecar, pid: u32, environment: &[(&str, String)]) -> Process {
    let (pid, config) = (pid.to_string(), sidecar.config());
    let arguments = ["upgrade", "--pid", &pid, "--config", &config];
    Process::start(&sidecar.folder(), &arguments, environment)
}

#[tokio::test]
async fn one_command_replaces_the_running_process() {
    let mut sidecar = running().await;
    let systemd = Systemd::listening(&sidecar);
    let mut command = upgrade(&sidecar, sidecar.process().pid(), &systemd.environment());
    let new = Orphan(systemd.hears_of_a_process());
    assert_eq!(command.wait_for_end(), Some(0), "{}", command.log());
    let old = sidecar.process().pid();
    command.says(&format!("process {} serves; process {old} ends", new.0));
    assert_eq!(sidecar.wait_for_end(), Some(0), "{}", sidecar.log());
    still_serves(&sidecar).await;
    assert!(new.signal("TERM"));
    assert_eq!(systemd.hears(), "STOPPING=1");
    wait_until("the ends of both", || {
        sidecar.log().matches(" ended").count() == 2
    });
}

#[tokio::test]
async fn its_exit_code_is_that_of_the_new_process_and_the_old_one_serves_on() {
    let sidecar = running().await;
    configure(&sidecar, "thread = 2");
    let mut command = upgrade(&sidecar, sidecar.process().pid(), &[]);
    assert_eq!(command.wait_for_end(), Some(64), "{}", command.log());
    let log = command.log();
    assert!(log.contains("unknown field `thread`"), "{log}");
    assert!(
        log.contains("headcount: the new process did not take over"),
        "{log}"
    );
    still_serves(&sidecar).await;
}

#[tokio::test]
async fn a_process_that_is_not_there_is_named() {
    let sidecar = running().await;
    let mut ended = sidecar.newcomer();
    ended.says(WAITING);
    let pid = ended.pid();
    ended.signal("TERM");
    assert_eq!(ended.wait_for_end(), Some(0));
    for pid in [pid, i32::MAX.unsigned_abs()] {
        let mut command = upgrade(&sidecar, pid, &[]);
        assert_eq!(command.wait_for_end(), Some(1), "{}", command.log());
        let message = format!("headcount: process {pid} cannot be signalled");
        assert!(command.log().contains(&message), "{}", command.log());
    }
    still_serves(&sidecar).await;
}

#[tokio::test]
async fn the_unit_in_deploy_says_nothing_that_the_binary_does_not_know() {
    let sidecar = running().await;
    let unit = include_str!("../../../deploy/headcount.service");
    let value = |key: &str| {
        let mut values = unit
            .lines()
            .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        values.next().unwrap_or_else(|| panic!("no {key}"))
    };
    let told = |key: &str, config: &str| {
        let command = value(key)
            .replace("$MAINPID", &i32::MAX.to_string())
            .replace("/etc/headcount/headcount.toml", config);
        let arguments: Vec<_> = command.split(' ').skip(1).collect();
        process::run(&arguments, &[])
    };
    let start = told("ExecStart", "/nonexistent.toml");
    assert!(
        start.err.contains("/nonexistent.toml: cannot be read"),
        "{start:?}"
    );
    let reload = told("ExecReload", &sidecar.config());
    assert!(reload.err.contains("cannot be signalled"), "{reload:?}");
    let (variable, path) = value("Environment").split_once('=').expect("a variable");
    let check = ["check", "--offline", "--config", &sidecar.config()];
    let check = process::run(&check, &[(variable, path)]);
    assert_eq!(check.code, Some(0), "{check:?}");
}

#[tokio::test]
async fn systemd_is_told_when_a_process_serves_and_when_it_stops() {
    let mut sidecar = running().await;
    sidecar.kill();
    let systemd = Systemd::listening(&sidecar);
    let config = sidecar.config();
    let mut process = Process::start(
        &sidecar.folder(),
        &["run", "--config", &config],
        &systemd.environment(),
    );
    assert_eq!(systemd.hears_of_a_process(), process.pid());
    still_serves(&sidecar).await;
    process.signal("TERM");
    assert_eq!(systemd.hears(), "STOPPING=1");
    assert_eq!(process.wait_for_end(), Some(0));
}

#[test]
fn a_process_that_is_no_sidecar_is_not_signalled() {
    let mut other = Command::new("sleep").arg("60").spawn().expect("it starts");
    let told = upgrade_of(other.id());
    let lives = other.try_wait().expect("it can be asked").is_none();
    let _ = other.kill();
    let _ = other.wait();
    assert!(lives, "it was left alone");
    assert_eq!(told.code, Some(1), "{told:?}");
    assert!(told.err.contains("is sleep, no headcount"), "{told:?}");
}

#[test]
fn a_process_that_has_ended_is_named_at_once() {
    let mut ended = Command::new("true").spawn().expect("it starts");
    let stat = format!("/proc/{}/stat", ended.id());
    // It stays until it is waited for.
    while !std::fs::read_to_string(&stat)
        .expect("its state")
        .contains(") Z ")
    {}
    let told = upgrade_of(ended.id());
    ended.wait().expect("it has ended");
    assert_eq!(told.code, Some(1), "{told:?}");
    assert!(told.err.contains("it has ended"), "{told:?}");
}

/// The file that the first process runs is shown to nobody else, its name is.
#[test]
fn the_first_process_of_the_machine_is_not_signalled() {
    let told = upgrade_of(1);
    assert_eq!(told.code, Some(1), "{told:?}");
    let is_named = told.err.contains(", no headcount; --pid names");
    assert!(is_named || told.err.contains("cannot be signalled"), "{told:?}");
}

/// Tries to replace a process by a sidecar that cannot serve.
fn upgrade_of(pid: u32) -> process::Told {
    let directory = tempfile::tempdir().expect("a folder");
    let config = "[upstream]\nservers = [\"127.0.0.1:9\"]\n[database]\nurl = \"sqlite:///nowhere/app.db\"\n";
    let config = sidecar::write_config(directory.path(), config, "");
    let pid = pid.to_string();
    let config = config.to_str().expect("UTF-8");
    process::run(&["upgrade", "--pid", &pid, "--config", config], &[])
}

/// Changes where the sidecar's database is, as from its next start.
fn with_database(sidecar: &Sidecar, change: impl Fn(&str) -> String) {
    let path = sidecar.config();
    let text = std::fs::read_to_string(&path).expect("a configuration");
    let url = text.split("[database]\nurl = \"").nth(1).expect("a URL");
    let url = url.split('"').next().expect("its end");
    std::fs::write(path, text.replace(url, &change(url))).expect("a configuration");
}

#[tokio::test]
async fn d11_a_configuration_that_does_not_fit_the_database_replaces_nothing() {
    let sidecar = running().await;
    let pid = sidecar.process().pid();
    let before = std::fs::read_to_string(sidecar.config()).expect("a configuration");
    let refused = async |message: &str| {
        let mut command = upgrade(&sidecar, pid, &[]);
        assert_eq!(command.wait_for_end(), Some(64), "{}", command.log());
        let log = command.log();
        assert!(log.contains(message), "{log}");
        assert!(log.contains("the running sidecar is not replaced"), "{log}");
        still_serves(&sidecar).await;
        std::fs::write(sidecar.config(), &before).expect("a configuration");
    };
    configure(&sidecar, "[schema.session.columns]\nsession_id = \"nowhere\"");
    refused("has no column nowhere: set schema.session.columns.session_id").await;
    configure(&sidecar, "[schema.profile]\ntable = \"nobody\"");
    refused("there is no table nobody: set schema.profile.table").await;
    // The database answers, that it is another.
    with_database(&sidecar, |url| format!("{url}_of_another"));
    refused("does not exist").await;
    let systemd = Systemd::listening(&sidecar);
    let mut command = upgrade(&sidecar, pid, &systemd.environment());
    let _new = Orphan(systemd.hears_of_a_process());
    assert_eq!(command.wait_for_end(), Some(0), "{}", command.log());
}

#[tokio::test]
async fn d11_a_database_that_does_not_answer_prevents_no_upgrade() {
    let sidecar = running().await;
    with_database(&sidecar, |_| "postgres://postgres@127.0.0.1:9/site".into());
    let systemd = Systemd::listening(&sidecar);
    let mut command = upgrade(&sidecar, sidecar.process().pid(), &systemd.environment());
    let new = Orphan(systemd.hears_of_a_process());
    assert_eq!(command.wait_for_end(), Some(0), "{}", command.log());
    assert!(
        command.log().contains("the tables are taken over unchecked"),
        "{}",
        command.log()
    );
    let page = reqwest::get(sidecar.url("/about/")).await.expect("an answer");
    assert_eq!(page.status(), 200);
    drop(new);
}
