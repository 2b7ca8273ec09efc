//! Old and new process may listen on different addresses.

use std::net::TcpStream;

use super::{configure, reconfigure, still_serves};
use crate::support::redis::eventually;
use crate::support::service::free_port;
use crate::support::tls::Certificate;
use crate::support::wire::exchange;
use crate::support::world::{Wanted, World};

const ABOUT: &str = "GET /about/ HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[tokio::test]
async fn a_new_address_is_opened_and_one_that_is_no_longer_configured_is_closed() {
    let (first, second, third) = (free_port(), free_port(), free_port());
    let mut sidecar = World::shared().await.another_sidecar(&Wanted::usual());
    let both = format!("\"127.0.0.1:{first}\", \"127.0.0.1:{second}\"");
    let usual = format!("\"127.0.0.1:{}\"", sidecar.port);
    reconfigure(&sidecar, &usual, &both);
    sidecar.restart();
    sidecar.port = second;
    still_serves(&sidecar).await;

    reconfigure(
        &sidecar,
        &both,
        &format!("\"127.0.0.1:{third}\", \"127.0.0.1:{second}\""),
    );
    let mut old = sidecar.hand_over();
    assert_eq!(old.wait_for_end(), Some(0));
    still_serves(&sidecar).await;
    assert_eq!(exchange(third, ABOUT, false).await.status, 200);
    assert!(TcpStream::connect(("127.0.0.1", first)).is_err());
    let left =
        format!("no longer configured; the running sidecar closes it when it ends address=127.0.0.1:{first}");
    assert!(sidecar.log().contains(&left), "{}", sidecar.log());
}

#[tokio::test]
async fn the_admin_listener_may_move() {
    let mut sidecar = World::shared().await.another_sidecar(&Wanted::usual());
    let before = sidecar.admin;
    let moved = free_port();
    reconfigure(
        &sidecar,
        &format!("admin = \"127.0.0.1:{before}\""),
        &format!("admin = \"127.0.0.1:{moved}\""),
    );
    let mut old = sidecar.hand_over();
    sidecar.admin = moved;
    still_serves(&sidecar).await;
    assert_eq!(old.wait_for_end(), Some(0));
    assert!(TcpStream::connect(("127.0.0.1", before)).is_err());
}

#[tokio::test]
async fn an_address_may_speak_tls_from_now_on() {
    let certificate = Certificate::of("site.test");
    let mut sidecar = World::shared().await.another_sidecar(&Wanted::usual());
    let plain = format!("\nhttp = [\"127.0.0.1:{}\"]\n", sidecar.port);
    reconfigure(&sidecar, &plain, "\nhttp = []\n");
    configure(&sidecar, &certificate.listener(sidecar.port));
    let mut old = sidecar.hand_over();
    assert_eq!(old.wait_for_end(), Some(0));
    let way = super::load::Way::tls(sidecar.port, certificate.path(), "site.test");
    let mut wire = way.open().await;
    wire.send(ABOUT).await;
    assert_eq!(wire.answer().await.status, 200);
    // No plain listener is left.
    eventually(async || sidecar.log().contains("ready site=")).await;
}

#[tokio::test]
async fn an_address_that_overlaps_with_one_of_the_old_process_is_refused() {
    let sidecar = World::shared().await.another_sidecar(&Wanted::usual());
    let port = sidecar.port;
    reconfigure(&sidecar, &format!("127.0.0.1:{port}"), &format!("0.0.0.0:{port}"));
    let mut new = sidecar.newcomer();
    new.says(crate::support::sidecar::WAITING);
    sidecar.signal("QUIT");
    assert_eq!(new.wait_for_end(), Some(1));
    let reason = format!(
        "0.0.0.0:{port} cannot be listened on while the running sidecar listens on 127.0.0.1:{port}; restart"
    );
    assert!(
        new.log().contains(&format!("headcount: {reason}")),
        "{}",
        new.log()
    );
    sidecar.process().says(&reason);
    still_serves(&sidecar).await;
}
