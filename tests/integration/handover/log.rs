//! Where the log goes when `headcount upgrade` replaces the process that writes it.

use std::fs::OpenOptions;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Output};

use super::command::{Orphan, running};
use super::{configure, still_serves};
use crate::support::process::binary;
use crate::support::service::wait_until;
use crate::support::sidecar::Sidecar;

/// `headcount upgrade` as scripts call it that want to show what it said. The shell waits for the end of whatever has
/// its standard output or error.
fn upgrade_within_a_shell(sidecar: &Sidecar) -> Output {
    let script = r#"said=$("$@" 2>&1); code=$?; printf %s "$said"; exit $code"#;
    let (pid, config) = (sidecar.process().pid().to_string(), sidecar.config());
    let output = Command::new("timeout")
        .args(["60", "sh", "-c", script, "sh", &*binary()])
        .args(["upgrade", "--pid", &pid, "--config", &config])
        .output();
    output.expect("a shell")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Takes one connection, and writes what comes to a file.
fn collect(into: &Path) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let file = OpenOptions::new().create(true).append(true).open(into);
    let mut file = file.expect("a file");
    std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().expect("the sidecar");
        std::io::copy(&mut connection, &mut file)
    });
    port
}

/// The sidecar that is started by this line of shell logs to the file in the end, and so does the one that replaces it.
async fn goes_on(line: impl FnOnce(&Path) -> String) {
    let mut sidecar = running().await;
    let path = sidecar.folder().join("elsewhere");
    sidecar.restart_through(&line(&path));
    let log = || std::fs::read_to_string(&path).unwrap_or_default();
    wait_until("the log of the old process", || log().contains(" ready"));
    let old = sidecar.process().pid();
    let output = upgrade_within_a_shell(&sidecar);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let new = said
        .lines()
        .find_map(|line| {
            line.strip_prefix("process ")?
                .strip_suffix(&format!(" serves; process {old} ends when its connections have"))
        })
        .and_then(|pid| pid.parse().ok());
    let new = Orphan(new.expect(&said));
    assert!(said.contains("everything is prepared"), "{said}");
    assert!(!said.contains(" ready"), "{said}");
    assert_eq!(sidecar.wait_for_end(), Some(0));
    still_serves(&sidecar).await;
    assert!(new.signal("TERM"));
    // Of both the beginning and the end.
    for what in [" ready", " ended"] {
        wait_until(what, || log().matches(what).count() == 2);
    }
}

#[tokio::test]
async fn t7_the_log_of_the_new_process_is_the_file_of_the_old_one() {
    goes_on(|path| format!("exec \"$@\" 2>>'{}'", path.display())).await;
}

#[tokio::test]
async fn t7_the_log_of_the_new_process_is_the_pipe_of_the_old_one() {
    goes_on(|path| format!("exec \"$@\" 2> >(exec cat >>'{}')", path.display())).await;
}

/// As systemd's journal has it.
#[tokio::test]
async fn t7_the_log_of_the_new_process_is_the_socket_of_the_old_one() {
    goes_on(|path| format!("exec \"$@\" 2>/dev/tcp/127.0.0.1/{}", collect(path))).await;
}

#[tokio::test]
async fn t8_why_a_new_process_does_not_take_over_is_told_where_it_was_started() {
    let sidecar = running().await;
    configure(&sidecar, "thread = 2");
    let output = upgrade_within_a_shell(&sidecar);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("unknown field `thread`"), "{said}");
    assert!(!sidecar.log().contains("unknown field"), "{}", sidecar.log());
    still_serves(&sidecar).await;
}
