//! Tests of sessions: a connection ends with its session (I5).

use super::*;

/// The shortest time between two periodic checks.
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn i5_a_connection_ends_when_its_session_does() {
    let bench = bench().await;
    let mut socket = web_socket(&bench, &["42"]).await;
    let mut stream = bench
        .connect(Protocol::Events(Framing::UntilClose), &["42"], 4096)
        .await;
    next_count(&mut socket).await;
    // The client answers pings meanwhile.
    let more = timeout(Duration::from_secs(60), next(&mut socket)).await;
    assert!(more.is_err() && bench.open() == 2, "the session holds");
    bench.store.sign_out();
    assert_eq!(close_code(&mut socket).await, 4401);
    drop(socket);
    // Each connection is checked at its own time.
    sleep(Duration::from_secs(60)).await;
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
    assert!(start.elapsed() < SECOND, "before any check that comes round");
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
    assert!(start.elapsed() < SECOND, "before any check that comes round");
}

/// A change that is notified while a check is under way is not lost with the earlier answer.
#[tokio::test(start_paused = true)]
async fn i5_a_session_that_changes_while_it_is_checked_is_checked_again() {
    let bench = bench_that_remembers().await;
    let mut socket = web_socket(&bench, &["42"]).await;
    next_count(&mut socket).await;
    sleep(Duration::from_secs(5)).await;
    // The answer to the first change is the table's of before the second.
    let held = bench.store.hold().await;
    bench.tell(SessionChange::Of(SESSION.into()));
    sleep(Duration::from_millis(1)).await;
    bench.store.sign_out();
    bench.tell(SessionChange::Of(SESSION.into()));
    let start = tokio::time::Instant::now();
    drop(held);
    assert_eq!(close_code(&mut socket).await, 4401);
    assert!(start.elapsed() < SECOND, "before any check that comes round");
}

/// However long periodic checks wait for their turn.
#[tokio::test(start_paused = true)]
async fn i5_a_session_that_changes_is_checked_before_those_whose_turn_has_come() {
    let bench = bench_that_remembers().await;
    let mut socket = web_socket(&bench, &["42"]).await;
    next_count(&mut socket).await;
    let periodic = &bench.live.0.checks.periodic;
    let mut turns = Vec::new();
    while let Ok(turn) = periodic.try_acquire() {
        turns.push(turn);
    }
    // Until a check has come round; the client answers pings meanwhile.
    assert!(timeout(LONG / 5, next(&mut socket)).await.is_err());
    let start = tokio::time::Instant::now();
    bench.store.sign_out();
    bench.tell(SessionChange::Of(SESSION.into()));
    assert_eq!(close_code(&mut socket).await, 4401);
    assert!(start.elapsed() < SECOND);
}

/// There is no notification, and the next periodic check is hours away.
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
async fn i5_a_session_that_expires_while_it_cannot_be_looked_up_ends_its_connections_soon() {
    let bench = bench_that_remembers().await;
    bench.store.lasts(bench.now() + TimeDelta::seconds(60));
    let mut socket = web_socket(&bench, &["42"]).await;
    next_count(&mut socket).await;
    sleep(Duration::from_secs(5)).await;
    bench.store.goes_away();
    let start = tokio::time::Instant::now();
    assert_eq!(close_code(&mut socket).await, 1013);
    assert!(start.elapsed() < Duration::from_secs(70), "{:?}", start.elapsed());
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

/// Each check waits for seconds before it fails, and they come a few at a time.
#[tokio::test(start_paused = true)]
async fn i13_connections_do_not_outlive_what_can_be_relied_on_while_checks_wait_for_the_database() {
    let bench = bench_with(|settings| settings.max_per_user = 1_000.try_into().unwrap()).await;
    let mut sockets = Vec::new();
    for _ in 0..50 {
        sockets.push(web_socket(&bench, &["42"]).await);
    }
    sleep(Duration::from_secs(5)).await;
    assert_eq!(bench.open(), 50);
    bench.store.hangs(Duration::from_secs(4));
    let all = sockets.iter_mut().map(close_code);
    let codes = timeout(Duration::from_secs(6), futures_util::future::join_all(all)).await;
    assert_eq!(codes.expect("in time"), [1013; 50]);
}
