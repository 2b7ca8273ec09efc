//! Tests of heartbeats: an open connection on a page keeps its user present (P11).

use super::*;

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
    assert_eq!(bench.metrics.heartbeats.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn p11_heartbeats_can_be_switched_off() {
    let bench = bench_with(|settings| settings.heartbeat = false).await;
    bench.touch("42", "reader").await;
    let mut socket = bench.web_socket_of_a_page("42").await;
    assert_eq!(next_count(&mut socket).await, 1);
    assert_eq!(next_count(&mut socket).await, 0);
}
