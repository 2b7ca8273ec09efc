//! Tests of the client's socket: what it keeps, whose silence it notices, and what becomes of it.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::time::timeout;

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);
const ALMOST: Duration = Duration::from_secs(9);
const MOMENT: Duration = Duration::from_secs(1);

fn socket() -> (DuplexStream, ClientSocket, Arc<Progress>) {
    let (client, server) = duplex(1024 * 1024);
    let progress = Arc::new(Progress::default());
    let socket = ClientSocket::new(Box::new(server), Arc::clone(&progress));
    progress.begin(false);
    (client, socket, progress)
}

#[tokio::test(start_paused = true)]
async fn what_follows_a_request_is_kept_for_the_next() {
    let (mut client, mut socket, progress) = socket();
    progress.is_read();
    client.write_all(b"next").await.unwrap();
    assert!(timeout(MOMENT, socket.read_u8()).await.is_err(), "not now");
    progress.renew();
    client.write_all(b" and last").await.unwrap();
    let mut text = [0; 13];
    socket.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"next and last");
}

#[tokio::test(start_paused = true)]
async fn e20_what_follows_a_body_in_chunks_is_kept_for_the_next_request() {
    let (mut client, mut socket, progress) = socket();
    progress.begin(true);
    socket.unread(BytesMut::from(&b"2\r\nok"[..]));
    client.write_all(b"\r\n0\r\n\r\nnext").await.unwrap();
    let mut body = [0; 12];
    socket.read_exact(&mut body).await.unwrap();
    assert_eq!(&body, b"2\r\nok\r\n0\r\n\r\n");
    assert!(timeout(MOMENT, socket.read_u8()).await.is_err(), "not now");
    progress.renew();
    let mut text = [0; 4];
    socket.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"next");
}

#[tokio::test(start_paused = true)]
async fn e21_who_waits_to_be_told_to_go_on_waits_for_the_app() {
    for word in [false, true] {
        let (mut client, mut socket, progress) = socket();
        assert!(progress.app_was_asked(PATIENCE, true));
        assert!(timeout(ALMOST, socket.read_u8()).await.is_err());
        // Another interim answer.
        progress.app_spoke();
        if word {
            progress.app_wants_the_body();
            assert!(timeout(2 * PATIENCE, socket.read_u8()).await.is_err());
            client.write_all(b"x").await.unwrap();
            socket.read_u8().await.unwrap();
            assert!(!progress.app_was_asked(PATIENCE, true), "another server");
        } else {
            assert!(timeout(ALMOST, socket.read_u8()).await.is_err());
            assert_eq!(socket.read_u8().await.unwrap_err().kind(), ErrorKind::TimedOut);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_wait_for_a_head_has_its_own_time() {
    let (_client, mut socket, progress) = socket();
    progress.renew();
    let mut head = BytesMut::new();
    for seconds in [10, 75, 5, 75] {
        // One that is given up leaves the clock set.
        let given_up = Instant::now() + PATIENCE;
        assert!(
            timeout(MOMENT, socket.read_by(given_up, &mut head))
                .await
                .is_err()
        );
        let (begun, time) = (Instant::now(), Duration::from_secs(seconds));
        assert!(socket.read_by(begun + time, &mut head).await.is_none());
        assert_eq!(begun.elapsed(), time);
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_than_so_much_is_kept() {
    let (mut client, mut socket, progress) = socket();
    progress.is_read();
    client.write_all(&vec![b'x'; 3 * MAX_KEPT]).await.unwrap();
    assert!(timeout(MOMENT, socket.read_u8()).await.is_err());
    assert_eq!(socket.kept.len(), MAX_KEPT);
    progress.renew();
    let mut all = vec![0; 3 * MAX_KEPT];
    socket.read_exact(&mut all).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_is_noticed_behind_what_it_sent() {
    let (mut client, mut socket, progress) = socket();
    progress.is_read();
    client.write_all(b"next").await.unwrap();
    drop(client);
    assert_eq!(socket.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_app_is_late_once_nobody_else_is_waited_for() {
    let (mut client, mut socket, progress) = socket();
    progress.app_was_asked(PATIENCE, false);
    assert!(timeout(2 * PATIENCE, socket.read_u8()).await.is_err());
    client.write_all(b"x").await.unwrap();
    socket.read_u8().await.unwrap();
    progress.is_read();
    for _ in 0..3 {
        assert!(timeout(ALMOST, socket.read_u8()).await.is_err());
        progress.app_spoke();
    }
    let asked = Instant::now();
    let error = socket.read_u8().await.unwrap_err();
    assert_eq!((error.kind(), asked.elapsed()), (ErrorKind::TimedOut, PATIENCE));
    assert!(progress.app_was_late());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_the_answer_slowly_is_not_a_silent_app() {
    let (_client, mut socket, progress) = socket();
    progress.app_was_asked(PATIENCE, false);
    progress.is_read();
    assert!(timeout(ALMOST, socket.read_u8()).await.is_err());
    socket.write_all(b"answer").await.unwrap();
    assert!(timeout(ALMOST, socket.read_u8()).await.is_err());
    progress.stop_clock();
    assert!(timeout(10 * PATIENCE, socket.read_u8()).await.is_err());
    assert!(!progress.app_was_late());
}

#[tokio::test(start_paused = true)]
async fn dropped_it_gives_the_socket_back_and_leaves_it_open() {
    let (mut client, mut socket, progress) = socket();
    socket.write_all(b"answer").await.unwrap();
    tokio::io::AsyncWriteExt::shutdown(&mut socket).await.unwrap();
    drop(socket);
    let mut stream = progress.take_answered().expect("the socket");
    stream.write_all(b" and more").await.unwrap();
    let mut text = [0; 15];
    client.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"answer and more");
}
