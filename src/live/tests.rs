//! Connections over pipes, with presence in memory and a clock that only moves when the test waits.

mod fakes;

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
use super::seats::{Checked, Why};
use super::*;
use crate::auth::SessionChange;

/// Longer than anything takes by the clock that stands.
const LONG: Duration = Duration::from_secs(3_600);

type Socket = WebSocketStream<DuplexStream>;

/// The client's end of a `WebSocket`.
async fn web_socket(bench: &Bench, communities: &[&str]) -> Socket {
    let client = bench.connect(Kind::WebSocket, communities, 64 * 1024).await;
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
        .connect(Kind::Events(Framing::UntilClose), &["42"], 4096)
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
            .connect(Kind::Events(Framing::UntilClose), &["42"], 4096)
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
    let mut slow = bench.connect(Kind::Events(Framing::Chunked), &["42"], 600).await;
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
    assert!(bench.metrics.live_values_skipped.get() > 30);
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
    let mut silent = bench.connect(Kind::WebSocket, &["42"], 64 * 1024).await;
    sleep(bench.settings.ping_interval * 3).await;
    assert_eq!(bench.closed("dead"), 1);
    assert!(!reader.is_finished(), "who answers stays");
    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).await.expect("the end");
}

#[tokio::test(start_paused = true)]
async fn l3_a_client_that_does_not_take_what_is_sent_is_dropped() {
    let bench = bench().await;
    let _stuck = bench.connect(Kind::Events(Framing::Chunked), &["42"], 16).await;
    sleep(bench.settings.write_timeout * 2).await;
    assert_eq!(bench.closed("stuck"), 1);
    assert_eq!(bench.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn i5_a_connection_ends_when_its_session_does() {
    let bench = bench().await;
    let mut socket = web_socket(&bench, &["42"]).await;
    let mut stream = bench
        .connect(Kind::Events(Framing::UntilClose), &["42"], 4096)
        .await;
    next_count(&mut socket).await;
    // The client answers pings meanwhile.
    let more = timeout(Duration::from_secs(60), next(&mut socket)).await;
    assert!(more.is_err() && bench.open() == 2, "the session holds");
    bench.store.sign_out();
    assert_eq!(close_code(&mut socket).await, 4401);
    drop(socket);
    let last = events(&mut stream).await;
    assert!(
        last.ends_with("data: {\"type\":\"close\",\"code\":4401,\"reason\":\"the session has ended\"}\n\n"),
        "{last}"
    );
    drop(stream);
    sleep(Duration::from_secs(10)).await;
    assert_eq!((bench.open(), bench.closed("session_ended")), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn i5_a_session_of_whose_end_the_database_tells_ends_its_connections_at_once() {
    let bench = bench_that_remembers().await;
    let mut socket = web_socket(&bench, &["42"]).await;
    next_count(&mut socket).await;
    sleep(Duration::from_secs(5)).await;

    let start = tokio::time::Instant::now();
    bench.tell(SessionChange::Of(SESSION.into()));
    sleep(Duration::from_millis(1)).await;
    assert_eq!(bench.open(), 1, "it has changed, and holds");
    bench.store.sign_out();
    bench.tell(SessionChange::Of("another".into()));
    sleep(Duration::from_millis(1)).await;
    assert_eq!(bench.open(), 1, "its answer is remembered");
    bench.tell(SessionChange::Of(SESSION.into()));
    assert_eq!(close_code(&mut socket).await, 4401);
    assert!(
        start.elapsed() < schedule::TICK,
        "before any check that comes round"
    );
}

#[tokio::test(start_paused = true)]
async fn i5_when_any_session_may_have_changed_all_are_checked_at_once() {
    let bench = bench_that_remembers().await;
    let mut socket = web_socket(&bench, &["42"]).await;
    next_count(&mut socket).await;
    sleep(Duration::from_secs(5)).await;
    let start = tokio::time::Instant::now();
    bench.store.sign_out();
    bench.tell(SessionChange::OfAny);
    assert_eq!(close_code(&mut socket).await, 4401);
    assert!(
        start.elapsed() < schedule::TICK,
        "before any check that comes round"
    );
}

/// What is told while a check is under way is not lost with an answer of before.
#[tokio::test(start_paused = true)]
async fn i5_a_session_that_changes_while_it_is_checked_is_checked_again() {
    let bench = bench_that_remembers().await;
    let mut socket = web_socket(&bench, &["42"]).await;
    next_count(&mut socket).await;
    sleep(Duration::from_secs(5)).await;
    let seats = &bench.live.0.seats;
    let changed = || seats.sessions_changed(Some(&[SESSION.into()].into()));
    let id = changed()[0];
    assert!(changed().is_empty(), "it waits already");
    assert!(seats.session_check_begins(id, Why::Changed).is_some());
    assert_eq!(changed(), [id], "the answer may be of before");
    assert!(seats.session_check_begins(id, Why::Due).is_some());
    assert!(changed().is_empty(), "another check than the one that waits");
    seats.session_checked(id, Checked::Holds(Arc::new(bench.store.session())), 1);
    assert!(changed().is_empty());
}

/// Nobody tells of it, and the next look is hours away.
#[tokio::test(start_paused = true)]
async fn i5_a_session_that_expires_ends_its_connections_within_a_second() {
    let bench = bench_that_remembers().await;
    bench.store.lasts(bench.now() + TimeDelta::seconds(60));
    let mut socket = web_socket(&bench, &["42"]).await;
    next_count(&mut socket).await;
    let start = tokio::time::Instant::now();
    assert_eq!(close_code(&mut socket).await, 4401);
    let open = start.elapsed();
    let expected = Duration::from_secs(60)..Duration::from_secs(62);
    assert!(expected.contains(&open), "{open:?}");
}

#[tokio::test(start_paused = true)]
async fn i5_a_session_that_has_become_somebody_elses_ends_its_connections() {
    let bench = bench().await;
    let mut socket = web_socket(&bench, &["42"]).await;
    next_count(&mut socket).await;
    bench.store.belongs_to("another");
    assert_eq!(close_code(&mut socket).await, 4401);
}

#[tokio::test(start_paused = true)]
async fn i5_a_session_that_cannot_be_checked_holds_for_a_while() {
    let bench = bench().await;
    let mut socket = web_socket(&bench, &["42"]).await;
    next_count(&mut socket).await;
    bench.store.goes_away();
    assert_eq!(next(&mut socket).await["type"], "retry");
    assert_eq!(close_code(&mut socket).await, 1013);
}

#[tokio::test(start_paused = true)]
async fn l3_draining_tells_everybody_when_to_come_back_and_lets_nobody_in() {
    let bench = bench().await;
    let mut socket = web_socket(&bench, &["42"]).await;
    let mut stream = bench.connect(Kind::Events(Framing::Chunked), &["42"], 4096).await;
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
    let refused = bench.try_open(Kind::WebSocket, &["42"]).await;
    assert_eq!(refused.err(), Some(Refused::Draining));
}

/// A client that never says good-bye itself keeps nobody.
#[tokio::test(start_paused = true)]
async fn draining_does_not_wait_for_those_who_do_not_listen() {
    let bench = bench().await;
    let _silent = bench.connect(Kind::WebSocket, &["42"], 64 * 1024).await;
    let _stuck = bench.connect(Kind::Events(Framing::Chunked), &["42"], 16).await;
    let start = tokio::time::Instant::now();
    assert_eq!(bench.live.drain(LONG).await, 0);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn p11_an_open_connection_on_a_page_is_a_heartbeat_for_its_owner() {
    let bench = bench().await;
    bench.touch("42", "reader").await;
    bench.touch("42", "passer-by").await;
    let mut socket = bench.web_socket_of_a_page("42").await;
    assert_eq!(next_count(&mut socket).await, 2);
    // The owner, who is `reader`, stays for as long as the connection does.
    assert_eq!(next_count(&mut socket).await, 1);
    let more = timeout(bench.window * 5, next(&mut socket)).await;
    assert!(more.is_err(), "nothing changes: {more:?}");
    assert_eq!(bench.present("42").await, ["reader"]);
    drop(socket);
    sleep(bench.window * 2).await;
    assert!(bench.present("42").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn p11_a_connection_that_is_of_no_page_is_no_heartbeat() {
    let bench = bench().await;
    bench.touch("42", "reader").await;
    let mut socket = web_socket(&bench, &["42"]).await;
    assert_eq!(next_count(&mut socket).await, 1);
    assert_eq!(next_count(&mut socket).await, 0);
    assert_eq!(bench.metrics.live_heartbeats.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn p11_heartbeats_can_be_switched_off() {
    let bench = bench_with(|settings| settings.heartbeat = false).await;
    bench.touch("42", "reader").await;
    let mut socket = bench.web_socket_of_a_page("42").await;
    assert_eq!(next_count(&mut socket).await, 1);
    assert_eq!(next_count(&mut socket).await, 0);
}

#[tokio::test(start_paused = true)]
async fn clients_subscribe_and_unsubscribe_by_message() {
    let bench = bench().await;
    let mut socket = web_socket(&bench, &["42"]).await;
    next_count(&mut socket).await;
    bench.touch("43", "a").await;
    say(
        &mut socket,
        json!({"type": "subscribe", "communities": [43, "nowhere"]}),
    )
    .await;
    let answers = [next(&mut socket).await, next(&mut socket).await];
    assert!(
        answers.contains(&json!({"type": "unknown", "community_id": "nowhere"})),
        "{answers:?}"
    );
    assert!(
        answers
            .iter()
            .any(|answer| answer["community_id"] == 43 && answer["current_visitors"] == 1)
    );
    say(&mut socket, json!({"type": "unsubscribe", "communities": [42]})).await;
    // Answered in order: what was asked for before has been done.
    say(
        &mut socket,
        json!({"type": "subscribe", "communities": ["nowhere"]}),
    )
    .await;
    assert_eq!(next(&mut socket).await["type"], "unknown");
    bench.touch("42", "a").await;
    bench.touch("43", "b").await;
    let change = next(&mut socket).await;
    assert_eq!(
        (&change["community_id"], &change["current_visitors"]),
        (&json!(43), &json!(2))
    );
}

/// As other spellings of a key can be asked for, they can be left by, and are no other communities.
#[tokio::test(start_paused = true)]
async fn every_spelling_of_a_community_is_that_community() {
    let bench = bench().await;
    let mut socket = web_socket(&bench, &["42"]).await;
    next_count(&mut socket).await;
    let spelt = |zeros: usize| format!("{}42", "0".repeat(zeros));
    let many: Vec<_> = (1..=MAX_COMMUNITIES).map(spelt).collect();
    say(&mut socket, json!({"type": "subscribe", "communities": many})).await;
    let others: Vec<_> = (100..150).map(|id| format!("0{id}")).collect();
    say(&mut socket, json!({"type": "subscribe", "communities": others})).await;
    for _ in 100..150 {
        next_count(&mut socket).await;
    }
    say(
        &mut socket,
        json!({"type": "unsubscribe", "communities": ["0042", "00100"]}),
    )
    .await;
    say(
        &mut socket,
        json!({"type": "subscribe", "communities": ["nowhere"]}),
    )
    .await;
    assert_eq!(next(&mut socket).await["type"], "unknown");
    for community in ["42", "100", "101"] {
        bench.touch(community, "a").await;
    }
    assert_eq!(next(&mut socket).await["community_id"], 101);
    assert!(timeout(Duration::from_secs(1), next(&mut socket)).await.is_err());
}

/// The answer to who may listen to what may take a while; all else goes on meanwhile.
#[tokio::test(start_paused = true)]
async fn l3_a_connection_that_asks_for_more_still_hears_and_ends() {
    let bench = bench_with(|settings| settings.pong_timeout = LONG).await;
    let mut socket = web_socket(&bench, &["42"]).await;
    next_count(&mut socket).await;
    let held = bench.rules.hold().await;
    say(&mut socket, json!({"type": "subscribe", "communities": [43]})).await;
    say(&mut socket, json!({"type": "subscribe", "communities": [44]})).await;
    sleep(Duration::from_secs(1)).await;
    bench.touch("42", "a").await;
    let change = timeout(Duration::from_secs(1), next(&mut socket)).await;
    assert_eq!(change.expect("at once")["community_id"], 42);
    drop(held);
    let both = [next(&mut socket).await, next(&mut socket).await];
    assert_eq!(
        (&both[0]["community_id"], &both[1]["community_id"]),
        (&json!(43), &json!(44)),
        "in the order asked for"
    );

    let _held = bench.rules.hold().await;
    say(&mut socket, json!({"type": "subscribe", "communities": [45]})).await;
    sleep(Duration::from_secs(1)).await;
    let live = bench.live.clone();
    let drained = tokio::spawn(async move { live.drain(LONG).await });
    assert_eq!(
        timeout(Duration::from_secs(1), close_code(&mut socket)).await,
        Ok(1001)
    );
    drop(socket);
    assert_eq!(drained.await.unwrap(), 0);
}

/// Fragments that bring nothing make no message, but work.
#[tokio::test(start_paused = true)]
async fn l3_who_sends_more_bytes_than_messages_need_is_told_so() {
    let bench = bench().await;
    let mut client = bench.connect(Kind::WebSocket, &["42"], 64 * 1024).await;
    let (mut theirs, mut mine) = tokio::io::split(&mut client);
    let read = async {
        let mut said = Vec::new();
        theirs.read_to_end(&mut said).await.expect("a pipe");
        said
    };
    let flood = async {
        use tokio::io::AsyncWriteExt as _;
        // The first fragment of a text, and then empty ones without end.
        let mut sent = mine.write_all(&[0x01, 0x80, 0, 0, 0, 0]).await;
        while sent.is_ok() {
            sent = mine.write_all(&[0x00, 0x80, 0, 0, 0, 0].repeat(1_000)).await;
        }
    };
    let (said, ()) = timeout(LONG, async { tokio::join!(read, flood) })
        .await
        .expect("an end");
    let [.., first, second] = said.strip_suffix(b"too many messages").expect("the reason") else {
        panic!("no code: {said:?}");
    };
    assert_eq!(u16::from_be_bytes([*first, *second]), 4429);
    assert_eq!(bench.closed("too_often"), 1);
}

#[tokio::test(start_paused = true)]
async fn bad_messages_are_answered_with_their_close_codes() {
    let bench = bench().await;
    let many: Vec<u32> = (100..200).collect();
    let cases = [
        (Message::text("hello"), 4400),
        (Message::text(r#"{"type":"subscribe"}"#), 4400),
        (Message::binary(vec![1, 2, 3]), 1003),
        (Message::text("x".repeat(10_000)), 1009),
        (
            Message::text(json!({"type": "subscribe", "communities": many}).to_string()),
            4413,
        ),
    ];
    for (message, code) in cases {
        let mut socket = web_socket(&bench, &["42"]).await;
        socket.send(message.clone()).await.expect("open");
        assert_eq!(close_code(&mut socket).await, code, "{message:?}");
    }
    let mut nothing_left = web_socket(&bench, &["42"]).await;
    say(
        &mut nothing_left,
        json!({"type": "unsubscribe", "communities": [42]}),
    )
    .await;
    say(
        &mut nothing_left,
        json!({"type": "subscribe", "communities": ["nowhere"]}),
    )
    .await;
    assert_eq!(close_code(&mut nothing_left).await, 4404);
    let mut chatty = web_socket(&bench, &["42"]).await;
    for _ in 0..100 {
        // It may close before the last.
        let _ = chatty.send(Message::Ping("x".into())).await;
    }
    assert_eq!(close_code(&mut chatty).await, 4429);
}

#[tokio::test(start_paused = true)]
async fn a_community_that_may_no_longer_be_seen_is_taken_away() {
    let bench = bench().await;
    bench.rules.must_be_asked_again();
    let mut socket = web_socket(&bench, &["42", "43"]).await;
    next_count(&mut socket).await;
    next_count(&mut socket).await;
    bench.rules.forbid("42");
    assert_eq!(
        next(&mut socket).await,
        json!({"type": "unknown", "community_id": 42})
    );
    bench.touch("42", "a").await;
    bench.touch("43", "a").await;
    assert_eq!(next(&mut socket).await["community_id"], 43);
    bench.rules.forbid("43");
    assert_eq!(close_code(&mut socket).await, 4404);
}

/// Neither is it counted among those that are open, nor among those that ended.
#[tokio::test(start_paused = true)]
async fn a_connection_that_waits_for_its_snapshot_is_not_open_yet() {
    let bench = bench().await;
    let connection = bench.try_open(Kind::WebSocket, &["42"]).await.expect("a place");
    assert_eq!(bench.open(), 0);
    drop(connection);
    assert_eq!(bench.closed("client"), 0);
}

#[tokio::test(start_paused = true)]
async fn l3_places_are_given_back() {
    let bench = bench_with(|settings| settings.max_per_user = 1.try_into().unwrap()).await;
    let first = bench.connect(Kind::Events(Framing::Chunked), &["42"], 4096).await;
    let second = bench.try_open(Kind::WebSocket, &["42"]).await;
    assert_eq!(second.err(), Some(Refused::Full(Full::User)));
    drop(first);
    sleep(Duration::from_secs(1)).await;
    assert!(bench.try_open(Kind::WebSocket, &["42"]).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_leaves_nothing() {
    let bench = bench().await;
    let mut polite = web_socket(&bench, &["42"]).await;
    next_count(&mut polite).await;
    polite.close(None).await.expect("open");
    while polite.next().await.is_some() {}
    drop(web_socket(&bench, &["42"]).await);
    let mut stream = bench.connect(Kind::Events(Framing::Chunked), &["42"], 4096).await;
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
    for kind in [Kind::WebSocket, Kind::Events(Framing::Chunked)] {
        let connection = bench.try_open(kind, &["42"]).await.expect("a place");
        connection.run(Broken, "head ".into()).await;
    }
    assert_eq!((bench.open(), bench.closed("client")), (0, 2));
    let sent = KINDS.map(|kind| bench.metrics.live_messages.with_label_values(&[kind]).get());
    assert_eq!(sent, [0, 0], "what could not be written was not sent");
}
