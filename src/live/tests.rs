//! Tests of connections over pipes, with presence in memory and a clock that only moves when the test waits.

mod fakes;
mod heartbeats;
mod requests;
mod sessions;

use std::task::{Context, Poll};

use chrono::TimeDelta;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use self::fakes::{Bench, SESSION, bench, bench_that_remembers, bench_with};
use super::metrics::KindLabel;
use super::*;
use crate::browser_session::SessionChange;

/// Longer than anything takes by the clock that stands.
const LONG: Duration = Duration::from_secs(3_600);

type Socket = WebSocketStream<DuplexStream>;

/// The client's end of a `WebSocket`.
async fn web_socket(bench: &Bench, communities: &[&str]) -> Socket {
    let client = bench.connect(Protocol::WebSocket, communities, 64 * 1024).await;
    WebSocketStream::from_raw_socket(client, Role::Client, None).await
}

/// The next message as JSON.
async fn next(socket: &mut Socket) -> Value {
    loop {
        let message = timeout(LONG, socket.next()).await.expect("in time");
        match message.expect("open").expect("a message") {
            Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn next_count(socket: &mut Socket) -> u64 {
    let message = next(socket).await;
    assert_eq!(message["type"], "count", "{message}");
    message["current_visitors"].as_u64().expect("a number")
}

async fn say(socket: &mut Socket, message: Value) {
    socket
        .send(Message::text(message.to_string()))
        .await
        .expect("open");
}

/// The code with which the server closes, whatever it says before.
async fn close_code(socket: &mut Socket) -> u16 {
    loop {
        let message = timeout(LONG, socket.next()).await.expect("in time");
        if let Message::Close(frame) = message.expect("a close frame first").expect("a message") {
            return frame.expect("a code").code.into();
        }
    }
}

/// Everything of an event stream so far.
async fn events(client: &mut DuplexStream) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    sleep(Duration::from_millis(1)).await;
    while let Some(read) = client.read(&mut buffer).now_or_never() {
        match read.expect("a pipe") {
            0 => break,
            read => text.extend_from_slice(&buffer[..read]),
        }
        sleep(Duration::from_millis(1)).await;
    }
    String::from_utf8(text).expect("UTF-8")
}

/// The counts in a piece of an event stream.
fn counts(events: &str) -> Vec<u64> {
    let messages = events.lines().filter_map(|line| line.strip_prefix("data: "));
    let messages = messages.map(|data| serde_json::from_str::<Value>(data).expect("JSON"));
    messages
        .filter(|message| message["type"] == "count")
        .map(|message| message["current_visitors"].as_u64().expect("a number"))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_web_socket_gets_a_snapshot_and_then_changes() {
    let bench = bench().await;
    bench.touch("42", "a").await;
    let mut socket = web_socket(&bench, &["42", "43"]).await;
    let (first, second) = (next(&mut socket).await, next(&mut socket).await);
    assert_eq!(
        (&first["community_id"], &first["current_visitors"]),
        (&json!(42), &json!(1))
    );
    assert_eq!(
        (&second["community_id"], &second["current_visitors"]),
        (&json!(43), &json!(0))
    );
    bench.touch("43", "a").await;
    let change = next(&mut socket).await;
    assert_eq!(
        (&change["community_id"], &change["current_visitors"]),
        (&json!(43), &json!(1))
    );
    assert!(change["seq"].as_u64() > second["seq"].as_u64());
}

#[tokio::test(start_paused = true)]
async fn an_event_stream_gets_a_hint_a_snapshot_and_then_changes() {
    let bench = bench().await;
    bench.touch("42", "a").await;
    let mut client = bench
        .connect(Protocol::Events(Framing::UntilClose), &["42"], 4096)
        .await;
    let beginning = events(&mut client).await;
    let rest = beginning.strip_prefix("head retry: ").expect("a hint first");
    let (hint, rest) = rest.split_once("\n\nid: ").expect("a number");
    assert!((1_500..4_500).contains(&hint.parse::<u64>().unwrap()), "{hint}");
    assert!(rest.ends_with("}\n\n"), "{rest:?}");
    assert_eq!(counts(&beginning), [1]);
    sleep(bench.settings.min_interval).await;
    bench.touch("42", "b").await;
    assert_eq!(counts(&events(&mut client).await), [2]);
    sleep(bench.settings.ping_interval * 2).await;
    assert!(events(&mut client).await.contains(": \n\n"), "a sign of life");
}

#[tokio::test(start_paused = true)]
async fn l2_retry_hints_differ() {
    let bench = bench().await;
    let mut hints = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let mut client = bench
            .connect(Protocol::Events(Framing::UntilClose), &["42"], 4096)
            .await;
        let beginning = events(&mut client).await;
        let hint = beginning.split("\n\n").next().unwrap().to_owned();
        hints.insert(hint);
    }
    assert!(hints.len() > 10, "{hints:?}");
}

#[tokio::test(start_paused = true)]
async fn l1_a_slow_consumer_gets_the_latest_value_and_never_slows_the_others() {
    let bench = bench().await;
    let mut slow = bench
        .connect(Protocol::Events(Framing::Chunked), &["42"], 600)
        .await;
    let mut fast = web_socket(&bench, &["42"]).await;
    assert_eq!(next_count(&mut fast).await, 0);
    // Within the time that a write may take.
    for user in 1..=50 {
        sleep(bench.settings.min_interval).await;
        bench.touch("42", &format!("user{user}")).await;
        assert_eq!(
            next_count(&mut fast).await,
            user,
            "at once, whatever the others do"
        );
    }
    let seen = counts(&events(&mut slow).await);
    assert!(seen.len() < 10, "a queue would have all of them: {seen:?}");
    assert_eq!(seen.last(), Some(&50));
    assert!(bench.metrics.values_skipped.get() > 30);
}

/// A pipe that holds all that is sent is a queue; a `WebSocket` is not filled up with what nobody reads.
#[tokio::test(start_paused = true)]
async fn l1_a_web_socket_that_is_not_read_holds_no_queue() {
    let bench = bench_with(|settings| {
        settings.pong_timeout = LONG;
    })
    .await;
    let mut slow = web_socket(&bench, &["42"]).await;
    for user in 1..=500 {
        sleep(bench.settings.min_interval).await;
        bench.touch("42", &format!("user{user}")).await;
    }
    let mut received = Vec::new();
    while received.last() != Some(&500) {
        received.push(next_count(&mut slow).await);
    }
    assert!(received.len() < 100, "{}", received.len());
    assert!(received.is_sorted());
}

#[tokio::test(start_paused = true)]
async fn l3_a_client_that_does_not_answer_pings_is_dropped() {
    let bench = bench().await;
    let answering = web_socket(&bench, &["42"]).await;
    let reader = tokio::spawn(async move { answering.for_each(async |_| {}).await });
    let mut silent = bench.connect(Protocol::WebSocket, &["42"], 64 * 1024).await;
    sleep(bench.settings.ping_interval * 3).await;
    assert_eq!(bench.closed("dead"), 1);
    assert!(!reader.is_finished(), "who answers stays");
    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).await.expect("the end");
}

#[tokio::test(start_paused = true)]
async fn l3_a_client_that_does_not_take_what_is_sent_is_dropped() {
    let bench = bench().await;
    let _stuck = bench
        .connect(Protocol::Events(Framing::Chunked), &["42"], 16)
        .await;
    sleep(bench.settings.write_timeout * 2).await;
    assert_eq!(bench.closed("stuck"), 1);
    assert_eq!(bench.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn l3_draining_tells_everybody_when_to_come_back_and_lets_nobody_in() {
    let bench = bench().await;
    let mut socket = web_socket(&bench, &["42"]).await;
    let mut stream = bench
        .connect(Protocol::Events(Framing::Chunked), &["42"], 4096)
        .await;
    next_count(&mut socket).await;
    events(&mut stream).await;
    let live = bench.live.clone();
    let draining = tokio::spawn(async move { live.drain(LONG).await });
    let retry = next(&mut socket).await;
    assert_eq!(retry["type"], "retry");
    assert!((1_500..4_500).contains(&retry["after_ms"].as_u64().unwrap()));
    assert_eq!(close_code(&mut socket).await, 1001);
    let last = events(&mut stream).await;
    assert!(
        last.contains("retry: ") && last.contains("\"code\":1001"),
        "{last}"
    );
    assert!(last.ends_with("\r\n0\r\n\r\n"), "the end of the body: {last:?}");
    drop((socket, stream));
    assert_eq!(draining.await.unwrap(), 0);
    let refused = bench.try_open(Protocol::WebSocket, &["42"]).await;
    assert_eq!(refused.err(), Some(Refused::Draining));
}

/// A client that never closes its side delays no shutdown.
#[tokio::test(start_paused = true)]
async fn draining_does_not_wait_for_those_who_do_not_listen() {
    let bench = bench().await;
    let _silent = bench.connect(Protocol::WebSocket, &["42"], 64 * 1024).await;
    let _stuck = bench
        .connect(Protocol::Events(Framing::Chunked), &["42"], 16)
        .await;
    let start = tokio::time::Instant::now();
    assert_eq!(bench.live.drain(LONG).await, 0);
    assert!(start.elapsed() < Duration::from_secs(10));
}

/// Neither one that never closes its side, nor one that takes nothing at all.
#[tokio::test(start_paused = true)]
async fn closing_takes_four_seconds_at_most_whatever_the_client_does() {
    let four = Duration::from_secs(4);
    for (kind, pipe, end) in [
        (Protocol::WebSocket, 64 * 1024, "going_away"),
        (Protocol::Events(Framing::Chunked), 64 * 1024, "going_away"),
        (Protocol::Events(Framing::Chunked), 16, "stuck"),
    ] {
        let bench = bench().await;
        let _client = bench.connect(kind, &["42"], pipe).await;
        let start = tokio::time::Instant::now();
        assert_eq!(bench.live.drain(LONG).await, 0);
        let took = start.elapsed();
        assert!(
            (four..four + Duration::from_millis(100)).contains(&took),
            "{took:?}"
        );
        assert_eq!(bench.closed(end), 1, "{kind:?}");
    }
}

/// Neither is it counted among those that are open, nor among those that ended.
#[tokio::test(start_paused = true)]
async fn a_connection_that_waits_for_its_snapshot_is_not_open_yet() {
    let bench = bench().await;
    let connection = bench
        .try_open(Protocol::WebSocket, &["42"])
        .await
        .expect("a place");
    assert_eq!(bench.open(), 0);
    drop(connection);
    assert_eq!(bench.closed("client"), 0);
}

#[tokio::test(start_paused = true)]
async fn l3_places_are_given_back() {
    let bench = bench_with(|settings| settings.max_per_user = 1.try_into().unwrap()).await;
    let first = bench
        .connect(Protocol::Events(Framing::Chunked), &["42"], 4096)
        .await;
    let second = bench.try_open(Protocol::WebSocket, &["42"]).await;
    assert_eq!(second.err(), Some(Refused::LimitReached(LimitReached::User)));
    drop(first);
    sleep(Duration::from_secs(1)).await;
    assert!(bench.try_open(Protocol::WebSocket, &["42"]).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_leaves_nothing() {
    let bench = bench().await;
    let mut polite = web_socket(&bench, &["42"]).await;
    next_count(&mut polite).await;
    polite.close(None).await.expect("open");
    while polite.next().await.is_some() {}
    drop(web_socket(&bench, &["42"]).await);
    let mut stream = bench
        .connect(Protocol::Events(Framing::Chunked), &["42"], 4096)
        .await;
    // Half-closed: who reads an event stream has nothing to say, and says nothing when it is gone.
    tokio::io::AsyncWriteExt::shutdown(&mut stream).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!((bench.open(), bench.closed("client")), (0, 3));
}

/// A socket whose every write fails, as after a reset.
struct Broken;

impl tokio::io::AsyncRead for Broken {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Poll::Pending
    }
}

impl tokio::io::AsyncWrite for Broken {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()))
    }

    fn poll_flush(self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_ends() {
    let bench = bench().await;
    for kind in [Protocol::WebSocket, Protocol::Events(Framing::Chunked)] {
        let connection = bench.try_open(kind, &["42"]).await.expect("a place");
        connection.run(Broken, "head ".into(), Vec::new()).await;
    }
    assert_eq!((bench.open(), bench.closed("client")), (0, 2));
    let sent = [KindLabel::WebSocket, KindLabel::Events].map(|kind| bench.metrics.messages[kind].get());
    assert_eq!(sent, [0, 0], "what could not be written was not sent");
}
