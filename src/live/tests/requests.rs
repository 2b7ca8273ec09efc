//! Tests of client messages, and of their limits.

use super::*;
use crate::ids::Finer;
use crate::presence::Scope;

/// Leaves these communities, and asks for one that does not exist: messages are answered in order, so that they have been
/// left once that is answered.
async fn leave(socket: &mut Socket, communities: Value) {
    say(socket, json!({"type": "unsubscribe", "communities": communities})).await;
    say(socket, json!({"type": "subscribe", "communities": ["nowhere"]})).await;
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
    leave(&mut socket, json!([42])).await;
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
    leave(&mut socket, json!(["0042", "00100"])).await;
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
    let mut client = bench.connect(Protocol::WebSocket, &["42"], 64 * 1024).await;
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
    leave(&mut nothing_left, json!([42])).await;
    assert_eq!(close_code(&mut nothing_left).await, 4404);
    let mut chatty = web_socket(&bench, &["42"]).await;
    for _ in 0..100 {
        // It may close before the last.
        let _ = chatty.send(Message::Ping("x".into())).await;
    }
    assert_eq!(close_code(&mut chatty).await, 4429);
}

/// However many other checks come first.
#[tokio::test(start_paused = true)]
async fn a_check_of_access_is_of_the_communities_that_there_are_when_its_turn_comes() {
    let bench = bench().await;
    bench.rules.needs_recheck();
    let access = &bench.live.0.checks.access;
    let mut turns = Vec::new();
    while let Ok(turn) = access.try_acquire() {
        turns.push(turn);
    }
    let mut socket = web_socket(&bench, &["42"]).await;
    next_count(&mut socket).await;
    // Until its check waits; the client answers pings meanwhile.
    let until_due = bench.settings.access_check_interval;
    assert!(timeout(until_due, next(&mut socket)).await.is_err());
    say(&mut socket, json!({"type": "subscribe", "communities": [43]})).await;
    next_count(&mut socket).await;
    bench.rules.forbid("43");
    drop(turns);
    let lost = timeout(Duration::from_millis(1), next(&mut socket)).await;
    assert_eq!(
        lost.expect("by this check"),
        json!({"type": "unknown", "community_id": 43})
    );
}

#[tokio::test(start_paused = true)]
async fn a_community_that_may_no_longer_be_seen_is_taken_away() {
    let bench = bench().await;
    bench.rules.needs_recheck();
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

/// A change of a count has the name that its subscriber used.
#[tokio::test(start_paused = true)]
async fn v23_whoever_asked_by_slug_is_told_by_slug() {
    let bench = bench().await;
    bench.rules.slug("rust", "42");
    bench.rules.slug("ferris", "42");
    let mut by_id = web_socket(&bench, &["42"]).await;
    next_count(&mut by_id).await;
    let mut by_slug = web_socket(&bench, &["43"]).await;
    next_count(&mut by_slug).await;
    say(
        &mut by_slug,
        json!({"type": "subscribe", "communities": ["rust", "ferris", "42"]}),
    )
    .await;
    let names = [json!("rust"), json!("ferris"), json!(42)];
    for name in &names {
        assert_eq!(next(&mut by_slug).await["community_id"], *name);
    }
    bench.touch("42", "a").await;
    let change = next(&mut by_id).await;
    assert_eq!(
        (&change["community_id"], &change["current_visitors"]),
        (&json!(42), &json!(1))
    );
    for name in &names {
        let change = next(&mut by_slug).await;
        assert_eq!(
            (&change["community_id"], &change["current_visitors"]),
            (name, &json!(1))
        );
    }
    // It is left by the name that it was asked for by.
    leave(&mut by_slug, json!(["rust", "042"])).await;
    assert_eq!(next(&mut by_slug).await["type"], "unknown");
    bench.touch("42", "c").await;
    let change = next(&mut by_slug).await;
    assert_eq!(
        (&change["community_id"], &change["current_visitors"]),
        (&json!("ferris"), &json!(2))
    );
    leave(&mut by_slug, json!(["ferris"])).await;
    assert_eq!(next(&mut by_slug).await["type"], "unknown");
    bench.touch("42", "b").await;
    bench.touch("43", "b").await;
    assert_eq!(
        next(&mut by_slug).await["community_id"],
        43,
        "nothing of the other"
    );
}

/// A slug that looks like another community's id.
#[tokio::test(start_paused = true)]
async fn v23_where_slugs_name_communities_ids_name_none() {
    let bench = bench().await;
    bench.rules.takes_slugs_only();
    bench.rules.slug("rust", "42");
    bench.rules.slug("42", "43");
    let mut socket = web_socket(&bench, &["44"]).await;
    next_count(&mut socket).await;
    say(&mut socket, json!({"type": "subscribe", "communities": ["rust"]})).await;
    assert_eq!(next(&mut socket).await["community_id"], "rust");
    // It is no other name of the one above.
    say(&mut socket, json!({"type": "unsubscribe", "communities": ["42"]})).await;
    say(
        &mut socket,
        json!({"type": "subscribe", "communities": ["42", "42"]}),
    )
    .await;
    assert_eq!(next(&mut socket).await["community_id"], "42");
    bench.touch("42", "a").await;
    assert_eq!(next(&mut socket).await["community_id"], "rust");
}

#[tokio::test(start_paused = true)]
async fn v23_access_that_is_lost_is_told_by_slug() {
    let bench = bench().await;
    bench.rules.slug("rust", "42");
    bench.rules.needs_recheck();
    let mut socket = web_socket(&bench, &["43"]).await;
    next_count(&mut socket).await;
    say(&mut socket, json!({"type": "subscribe", "communities": ["rust"]})).await;
    assert_eq!(next(&mut socket).await["community_id"], "rust");
    bench.rules.forbid("42");
    let lost = next(&mut socket).await;
    assert_eq!(lost, json!({"type": "unknown", "community_id": "rust"}));
}

/// The post is lost, and the community that it is in is not.
#[tokio::test(start_paused = true)]
async fn a26_of_something_that_is_lost_in_a_community_the_client_is_told_that_and_no_more() {
    let bench = bench().await;
    bench.rules.needs_recheck();
    let post = Scope::Finer("42".into(), Finer::new("post", "7").unwrap());
    let mut socket = bench.web_socket_of_a_thing(post.clone()).await;
    next_count(&mut socket).await;
    say(&mut socket, json!({"type": "subscribe", "communities": [42]})).await;
    next_count(&mut socket).await;
    bench.rules.forbid_thing(post);
    assert_eq!(
        next(&mut socket).await,
        json!({"type": "unknown", "community_id": 42, "scope": "post", "scope_id": "7"})
    );
    bench.touch("42", "a").await;
    let change = next(&mut socket).await;
    assert_eq!(
        (&change["type"], &change["current_visitors"]),
        (&json!("count"), &json!(1))
    );
}
