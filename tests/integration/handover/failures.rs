//! Whatever goes wrong, the running process goes on serving, and both say why.

use std::fs::Permissions;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use headcount::config::Listen;
use headcount::handover::{NotHandedOver, UpgradeSocket, hand_over};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixListener;

use super::endings::{any_gate, get, open};
use super::{configure, reconfigure, still_serves};
use crate::support::process::Process;
use crate::support::redis::eventually;
use crate::support::sidecar::{SERVING, Sidecar, WAITING};
use crate::support::wire::Wire;
use crate::support::world::{Wanted, World};

/// A sidecar of its own, in front of the site that all share.
async fn sidecar() -> Sidecar {
    World::shared().await.another_sidecar(&Wanted::usual())
}

/// With little patience on both sides.
async fn impatient_sidecar() -> Sidecar {
    let mut sidecar = sidecar().await;
    configure(&sidecar, "upgrade_timeout = \"1s\"");
    sidecar.restart();
    sidecar
}

fn socket(sidecar: &Sidecar) -> PathBuf {
    sidecar.directory().join("upgrade.sock")
}

/// How often the running process has been asked for its sockets. Its log may tell of other things meanwhile.
fn asked(sidecar: &Sidecar) -> usize {
    sidecar.log().matches("SIGQUIT").count()
}

/// The new process has ended with a message; the running one was not even asked.
async fn is_refused(sidecar: &Sidecar, mut new: Process, code: i32, message: &str) {
    let before = asked(sidecar);
    assert_eq!(new.wait_for_end(), Some(code), "{}", new.log());
    let log = new.log();
    let messages: Vec<_> = log
        .lines()
        .filter(|line| line.starts_with("headcount: "))
        .collect();
    assert!(matches!(messages[..], [only] if only.contains(message)), "{log}");
    assert!(!socket(sidecar).exists());
    assert_eq!(asked(sidecar), before);
    still_serves(sidecar).await;
}

#[tokio::test]
async fn sigquit_with_nobody_waiting_is_said_and_ignored() {
    let sidecar = sidecar().await;
    for times in 1..=2 {
        sidecar.signal("QUIT");
        eventually(async || {
            sidecar
                .log()
                .matches("start `headcount run --upgrade` first")
                .count()
                == times
        })
        .await;
        still_serves(&sidecar).await;
    }
}

#[tokio::test]
async fn a_wrong_configuration_of_the_new_process_leaves_the_old_one_alone() {
    let sidecar = World::shared().await.another_sidecar(&Wanted {
        config: "[routes]\nwatch = false".into(),
        ..Wanted::usual()
    });
    configure(&sidecar, "thread = 2");
    is_refused(&sidecar, sidecar.newcomer(), 64, "unknown field `thread`").await;
    reconfigure(&sidecar, "thread = 2", "");
    let routes = sidecar.directory().join("routes.d/wrong.toml");
    std::fs::write(&routes, "[[route]]\nname = 1\n").expect("a route file");
    is_refused(&sidecar, sidecar.newcomer(), 64, "wrong.toml").await;
    reconfigure(
        &sidecar,
        "[listen]\nhttp = [",
        "[listen]\nhttp = [\"127.0.0.1:0\", ",
    );
    std::fs::remove_file(routes).expect("a route file");
    is_refused(
        &sidecar,
        sidecar.newcomer(),
        64,
        "127.0.0.1:0 cannot be taken over",
    )
    .await;
}

#[tokio::test]
async fn a_new_process_to_which_nobody_hands_over_gives_up() {
    let sidecar = impatient_sidecar().await;
    is_refused(&sidecar, sidecar.newcomer(), 1, "send SIGQUIT to the running one").await;
}

#[tokio::test]
async fn a_folder_that_others_can_write_to_is_refused() {
    let sidecar = sidecar().await;
    std::fs::set_permissions(sidecar.directory(), Permissions::from_mode(0o777)).expect("own folder");
    is_refused(&sidecar, sidecar.newcomer(), 64, "can be written to by others").await;
    sidecar.signal("QUIT");
    sidecar.process().says("can be written to by others");
    still_serves(&sidecar).await;
}

#[tokio::test]
async fn a_new_process_that_is_killed_while_it_waits_is_as_good_as_none() {
    let mut sidecar = sidecar().await;
    let killed = sidecar.newcomer();
    killed.says(WAITING);
    drop(killed);
    assert!(socket(&sidecar).exists());
    sidecar.signal("QUIT");
    sidecar.process().says("start `headcount run --upgrade` first");
    still_serves(&sidecar).await;
    let mut old = sidecar.hand_over();
    assert_eq!(old.wait_for_end(), Some(0));
    still_serves(&sidecar).await;
}

#[tokio::test]
async fn a_new_process_that_is_told_to_end_while_it_waits_ends() {
    let sidecar = sidecar().await;
    let mut new = sidecar.newcomer();
    new.says(WAITING);
    new.signal("TERM");
    assert_eq!(new.wait_for_end(), Some(0), "{}", new.log());
    assert!(!socket(&sidecar).exists());
    still_serves(&sidecar).await;
}

#[tokio::test]
async fn of_two_new_processes_the_second_is_refused() {
    let mut sidecar = sidecar().await;
    let first = sidecar.newcomer();
    first.says(WAITING);
    let mut second = sidecar.newcomer();
    assert_eq!(second.wait_for_end(), Some(64));
    assert!(
        second.log().contains("another new process waits there"),
        "{}",
        second.log()
    );
    sidecar.signal("QUIT");
    first.says(SERVING);
    let mut old = sidecar.replace_with(first);
    assert_eq!(old.wait_for_end(), Some(0));
    still_serves(&sidecar).await;
}

#[tokio::test]
async fn a_new_process_that_cannot_open_its_new_listener_refuses_with_the_reason() {
    let sidecar = sidecar().await;
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    reconfigure(
        &sidecar,
        "[listen]\nhttp = [",
        &format!("[listen]\nhttp = [\"{address}\", "),
    );
    let mut new = sidecar.newcomer();
    new.says(WAITING);
    sidecar.signal("QUIT");
    let reason = format!("{address} cannot be listened on");
    assert_eq!(new.wait_for_end(), Some(1));
    assert!(
        new.log().contains(&format!("headcount: {reason}")),
        "{}",
        new.log()
    );
    sidecar
        .process()
        .says(&format!("the new process refused: {reason}"));
    still_serves(&sidecar).await;
}

#[tokio::test]
async fn a_new_process_that_takes_the_sockets_and_dies_changes_nothing() {
    let sidecar = sidecar().await;
    let waits = UnixListener::bind(socket(&sidecar)).expect("a socket");
    sidecar.signal("QUIT");
    let (mut old, _) = waits.accept().await.expect("the old process");
    let mut greeting = [0; 64];
    assert!(old.read(&mut greeting).await.expect("a greeting") > 0);
    drop(old);
    sidecar.process().says("ended before it served");
    still_serves(&sidecar).await;
}

#[tokio::test]
async fn a_new_process_that_says_nothing_is_given_up() {
    let sidecar = impatient_sidecar().await;
    let waits = UnixListener::bind(socket(&sidecar)).expect("a socket");
    sidecar.signal("QUIT");
    let (mut old, _) = waits.accept().await.expect("the old process");
    let mut said = String::new();
    old.read_to_string(&mut said).await.expect("text");
    assert_eq!(said, "headcount hand-over 1 2\nkept\n");
    sidecar.process().says("did not serve within 1s");
    still_serves(&sidecar).await;
}

#[tokio::test]
async fn the_old_process_can_be_told_to_end_while_it_hands_over() {
    for signals in 1..=2 {
        let mut sidecar = sidecar().await;
        let waits = UnixListener::bind(socket(&sidecar)).expect("a socket");
        sidecar.signal("QUIT");
        let (old, _) = waits.accept().await.expect("the old process");
        // A request keeps it, if only one signal comes.
        let mut request = Wire::open(sidecar.port).await;
        let gate = any_gate();
        request.send(get(&format!("/gates/{gate}/wait"))).await;
        sidecar
            .wait_for_metric("headcount_connections", |connections| connections == 1.0)
            .await;
        sidecar.signal("TERM");
        sidecar.process().says("shutting down");
        if signals == 2 {
            sidecar.signal("TERM");
        }
        if signals == 1 {
            open(&gate).await;
            assert_eq!(request.answer().await.status, 204);
        }
        let code = sidecar.wait_for_end();
        assert_eq!(code, Some(signals - 1), "{}", sidecar.log());
        if signals == 2 {
            open(&gate).await;
        }
        drop(old);
    }
}

/// A new process, waiting, and sockets such as its running sidecar would have.
fn waiting_without_a_running_one(sidecar: &mut Sidecar) -> (Process, Vec<TcpListener>) {
    sidecar.kill();
    let bind = |port| TcpListener::bind(("127.0.0.1", port)).expect("a port of our own");
    let sockets = vec![bind(sidecar.port), bind(sidecar.admin)];
    let (folder, config) = (sidecar.folder(), sidecar.config());
    let arguments = ["run", "--upgrade", "--take-over-log", "--config", &config];
    let new = Process::start(&folder, &arguments, &[]);
    new.says(WAITING);
    (new, sockets)
}

/// Hands over as a process that dies at once.
fn give(sidecar: &Sidecar, sockets: &[TcpListener]) {
    let new = UnixStream::connect(socket(sidecar)).expect("the new process");
    let sockets: Vec<_> = sockets.iter().map(TcpListener::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&sockets)));
    let greeting = b"headcount hand-over 1 2\n";
    let sent = sendmsg(&new, &[IoSlice::new(greeting)], &mut control, SendFlags::empty());
    assert_eq!(sent.expect("the new process"), greeting.len());
}

fn place(sidecar: &Sidecar, patience: Duration) -> UpgradeSocket {
    UpgradeSocket::new(&Listen {
        upgrade_socket: Some(socket(sidecar)),
        upgrade_timeout: patience,
        ..Listen::default()
    })
}

#[tokio::test]
async fn the_sockets_of_an_old_process_that_dies_meanwhile_are_served_on() {
    let mut sidecar = sidecar().await;
    let (new, sockets) = waiting_without_a_running_one(&mut sidecar);
    give(&sidecar, &sockets);
    drop(sockets);
    new.says("the old process is gone");
    // It has nowhere else to log to.
    new.says("this process logs to the standard error that it was started with");
    new.says(SERVING);
    sidecar.adopt(new);
    still_serves(&sidecar).await;
}

#[tokio::test]
async fn a_new_process_ends_when_the_old_one_has_given_it_up_meanwhile() {
    let mut sidecar = sidecar().await;
    let (mut new, sockets) = waiting_without_a_running_one(&mut sidecar);
    // It answers when it is too late.
    new.signal("STOP");
    let impatient = place(&sidecar, Duration::from_millis(1));
    let kept = hand_over(&impatient, &sockets).await.unwrap_err();
    assert!(matches!(kept, NotHandedOver::Silent(_)), "{kept}");
    new.signal("CONT");
    assert_eq!(new.wait_for_end(), Some(1), "{}", new.log());
    let log = new.log();
    assert!(
        log.contains("headcount: the running sidecar keeps its sockets"),
        "{log}"
    );
    // They are as good as before.
    let client = TcpStream::connect(("127.0.0.1", sidecar.port)).expect("a connection");
    let (_, from) = sockets[0].accept().expect("the connection");
    assert_eq!(from, client.local_addr().expect("an address"));
}
