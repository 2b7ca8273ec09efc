//! Tests of a hand-over, with both sides in one process.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::{AwaitedPredecessor, NotHandedOver, NotTakenOver, UpgradeSocket, hand_over};

/// Longer than any test takes.
const PATIENT: Duration = Duration::from_secs(60);

fn socket(limit: Duration) -> (TempDir, UpgradeSocket) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("upgrade.sock");
    (folder, UpgradeSocket { path: socket, limit })
}

fn sockets(number: usize) -> Vec<TcpListener> {
    (0..number)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect()
}

fn ports(sockets: &[TcpListener]) -> Vec<u16> {
    sockets.iter().map(|s| s.local_addr().unwrap().port()).collect()
}

#[tokio::test]
async fn every_socket_arrives_in_order_and_the_old_process_learns_that_the_new_one_serves() {
    let (_folder, socket) = socket(PATIENT);
    let ours = sockets(20);
    let waiting = AwaitedPredecessor::at(socket.clone()).unwrap();
    assert_eq!(mode(&socket), 0o600);
    let (given, taken) = tokio::join!(hand_over(&socket, &ours), async {
        let (theirs, mut predecessor) = waiting.sockets().await.unwrap();
        let log = predecessor.take_over().await.unwrap();
        (theirs, log)
    });
    let (taken, log) = taken;
    assert_eq!(ports(&taken), ports(&ours));
    assert!(log.is_some(), "what the old process logs to comes along");
    given.unwrap().wait_until_settled().await;
    assert!(!socket.path.exists());
}

fn mode(socket: &UpgradeSocket) -> u32 {
    std::fs::metadata(&socket.path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn with_nobody_waiting_nothing_is_handed_over() {
    let (_folder, socket) = socket(PATIENT);
    let error = hand_over(&socket, &sockets(1)).await.unwrap_err();
    assert!(matches!(error, NotHandedOver::NoPeer { .. }), "{error}");
    // A file of an earlier process that was killed counts as none, for both sides.
    drop(UnixListener::bind(&socket.path).unwrap());
    let error = hand_over(&socket, &sockets(1)).await.unwrap_err();
    assert!(matches!(error, NotHandedOver::NoPeer { .. }), "{error}");
    assert!(AwaitedPredecessor::at(socket).is_ok());
}

#[tokio::test]
async fn only_one_new_process_waits() {
    let (_folder, socket) = socket(PATIENT);
    let first = AwaitedPredecessor::at(socket.clone()).unwrap();
    let second = AwaitedPredecessor::at(socket.clone()).unwrap_err();
    assert!(second.to_string().contains("another new process"), "{second}");
    // A connection that only checks whether a process waits; it is no old process.
    let ours = sockets(1);
    let (given, taken) = tokio::join!(hand_over(&socket, &ours), async {
        let (_, mut predecessor) = first.sockets().await?;
        predecessor.take_over().await
    });
    assert!(given.is_ok() && taken.is_ok());
}

#[tokio::test]
async fn d12_a_path_that_no_socket_can_have_is_told_with_the_longest_that_one_can() {
    let (folder, mut socket) = socket(PATIENT);
    socket.path = folder.path().join("u".repeat(108));
    let refused = AwaitedPredecessor::at(socket).unwrap_err().to_string();
    assert!(refused.contains("name a path of at most 107 bytes"), "{refused}");
}

#[tokio::test]
async fn a_new_process_that_refuses_leaves_the_old_one_the_sockets_and_says_why() {
    let (_folder, socket) = socket(PATIENT);
    let waiting = AwaitedPredecessor::at(socket.clone()).unwrap();
    let ours = sockets(1);
    let (given, ()) = tokio::join!(hand_over(&socket, &ours), async {
        let (_, mut predecessor) = waiting.sockets().await.unwrap();
        predecessor.refuse("no\nluck").await;
    });
    let error = given.unwrap_err();
    assert!(
        matches!(&error, NotHandedOver::Refused(reason) if reason == "no luck"),
        "{error}"
    );
}

#[tokio::test]
async fn a_new_process_that_dies_leaves_the_old_one_the_sockets() {
    let (_folder, socket) = socket(PATIENT);
    let waiting = AwaitedPredecessor::at(socket.clone()).unwrap();
    let ours = sockets(1);
    let (given, ()) = tokio::join!(hand_over(&socket, &ours), async {
        drop(waiting.sockets().await.unwrap());
    });
    assert!(matches!(given.unwrap_err(), NotHandedOver::Ended));
}

#[tokio::test]
async fn an_old_process_that_waited_too_long_keeps_its_sockets_and_the_new_one_learns_of_it() {
    let (_folder, patient) = socket(PATIENT);
    let impatient = UpgradeSocket {
        limit: Duration::from_millis(50),
        ..patient.clone()
    };
    let waiting = AwaitedPredecessor::at(patient).unwrap();
    let ours = sockets(1);
    let (taken, given) = tokio::join!(waiting.sockets(), hand_over(&impatient, &ours));
    let error = given.unwrap_err();
    assert!(matches!(error, NotHandedOver::Silent(_)), "{error}");
    let error = taken.unwrap().1.take_over().await.unwrap_err();
    assert!(matches!(error, NotTakenOver::AbortOnDrop), "{error}");
}

#[tokio::test]
async fn the_sockets_of_an_old_process_that_died_are_the_new_one_s() {
    let (_folder, socket) = socket(PATIENT);
    let waiting = AwaitedPredecessor::at(socket.clone()).unwrap();
    let old = tokio::spawn(async move { hand_over(&socket, &sockets(1)).await });
    let (sockets, mut predecessor) = waiting.sockets().await.unwrap();
    old.abort();
    assert!(old.await.unwrap_err().is_cancelled());
    assert!(predecessor.take_over().await.unwrap().is_none());
    assert_eq!(sockets.len(), 1);
}

#[tokio::test]
async fn a_new_process_to_which_nobody_comes_gives_up() {
    let (_folder, socket) = socket(Duration::from_millis(50));
    let error = AwaitedPredecessor::at(socket)
        .unwrap()
        .sockets()
        .await
        .unwrap_err();
    assert!(matches!(error, NotTakenOver::NoPeer { .. }), "{error}");
}

#[tokio::test]
async fn another_version_is_told_and_refused() {
    let (_folder, socket) = socket(PATIENT);
    let waiting = AwaitedPredecessor::at(socket.clone()).unwrap();
    let old = async {
        let mut stream = UnixStream::connect(&socket.path).await.unwrap();
        stream.write_all(b"headcount hand-over 2 0\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let (taken, answer) = tokio::join!(waiting.sockets(), old);
    assert!(matches!(taken.unwrap_err(), NotTakenOver::Unknown));
    assert!(answer.starts_with("refused: "), "{answer}");
}

#[tokio::test]
async fn a_folder_that_others_can_write_to_is_refused_by_both() {
    let (folder, socket) = socket(PATIENT);
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let new = AwaitedPredecessor::at(socket.clone()).unwrap_err().to_string();
    let old = hand_over(&socket, &sockets(1)).await.unwrap_err().to_string();
    for message in [new, old] {
        assert!(
            message.contains("upgrade.sock") && message.contains("0777"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn what_is_no_socket_is_not_removed() {
    let (_folder, socket) = socket(PATIENT);
    std::fs::write(&socket.path, "precious").unwrap();
    assert!(AwaitedPredecessor::at(socket.clone()).is_err());
    assert_eq!(std::fs::read_to_string(&socket.path).unwrap(), "precious");
}
