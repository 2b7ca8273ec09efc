//! Live connections behind a proxy that does not tell the site's port.

use super::{nginx, trusting};
use crate::support::live::Socket;
use crate::support::service::wait_until;
use crate::support::sidecar::Sidecar;
use crate::support::wire::connect;
use crate::support::world::{Wanted, World};

/// Tries to open a live connection at nginx as a page of `origin` would.
async fn opened(world: &World, port: u16, origin: &str) -> Result<Socket, u16> {
    let member = world.member("alice").await;
    let path = world.visitors("rust", "/live");
    let headers = [("cookie", &*member.cookie()), ("origin", origin)];
    world.member("alice").await.sees(&world.community("rust")).await;
    Socket::over(connect(port).await, port, &path, &headers).await
}

const WEB_SOCKET: &str = "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;";

fn warned(sidecar: &Sidecar) -> bool {
    sidecar.log().contains("live.allowed_origins")
}

/// nginx with `$host` drops the port of `http://127.0.0.1:8080`, which a page's origin has.
#[tokio::test]
async fn e16_a_web_socket_opens_behind_a_trusted_proxy_that_drops_the_port() {
    let world = trusting().start().await;
    let nginx = nginx(
        &world.sidecar,
        &format!("{WEB_SOCKET} proxy_set_header Host $host;"),
    );
    let port = nginx.port();
    assert!(
        opened(&world, port, &format!("http://127.0.0.1:{port}"))
            .await
            .is_ok()
    );
    assert!(!warned(&world.sidecar), "{}", world.sidecar.log());
    // Another name is another site, with whatever port.
    let foreign = opened(&world, port, &format!("http://evil.test:{port}")).await;
    assert_eq!(foreign.err(), Some(403));
    wait_until("a warning", || warned(&world.sidecar));
}

#[tokio::test]
async fn e16_a_refused_origin_is_told_with_the_key_that_allows_it() {
    let world = Wanted::usual().start().await;
    let nginx = nginx(
        &world.sidecar,
        &format!("{WEB_SOCKET} proxy_set_header Host $host;"),
    );
    let port = nginx.port();
    let origin = format!("http://127.0.0.1:{port}");
    assert_eq!(opened(&world, port, &origin).await.err(), Some(403));
    assert_eq!(opened(&world, port, &origin).await.err(), Some(403));
    wait_until("a warning", || warned(&world.sidecar));
    let log = world.sidecar.log();
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("live.allowed_origins"))
        .collect();
    // Once a minute at most.
    assert_eq!(lines.len(), 1, "{log}");
    assert!(
        lines[0].contains(&origin) && lines[0].contains("limits.trusted_proxies"),
        "{log}"
    );
}
