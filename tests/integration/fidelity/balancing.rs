//! Where requests go: a Unix socket, several servers, servers that fail.

use super::{get, in_front_of, request};
use crate::support::fake_upstream::{FakeUpstream, Heard, OK, Reply};
use crate::support::redis::eventually;
use crate::support::wire::exchange;
use crate::support::world::{Wanted, World};

#[tokio::test]
async fn the_app_may_be_on_a_unix_socket() {
    let world = World::shared().await;
    let mut wanted = Wanted::usual();
    wanted.servers = Some(vec![format!("unix:{}", world.site.socket().display())]);
    let sidecar = world.another_sidecar(&wanted);
    for path in ["/about/", "/stream?n=3", "/download?size=300000"] {
        let direct = exchange(world.site.port(), get(path), false).await;
        assert_eq!(exchange(sidecar.port, get(path), false).await.body, direct.body);
    }
    let echo = exchange(sidecar.port, request("POST /echo", &[], "body"), false)
        .await
        .json();
    assert_eq!(echo["headers"]["HTTP_X_FORWARDED_FOR"], "127.0.0.1");
    assert_eq!(echo["body_length"], 4);
}

#[tokio::test]
async fn several_servers_take_turns() {
    let servers = [
        FakeUpstream::answering(|_| OK).await,
        FakeUpstream::answering(|_| OK).await,
    ];
    let sidecar = in_front_of(&[&servers[0], &servers[1]], "health_interval = \"1h\"").await;
    for _ in 0..20 {
        assert_eq!(exchange(sidecar.port, get("/"), false).await.status, 200);
    }
    let heard = servers.map(|server| server.heard().len());
    assert_eq!(heard, [10, 10]);
}

/// With no probe meanwhile, so that each second attempt meets the dead one.
#[tokio::test]
async fn no_request_fails_when_one_of_several_servers_is_gone() {
    let (alive, dead) = (
        FakeUpstream::answering(|_| OK).await,
        FakeUpstream::answering(|_| OK).await,
    );
    let sidecar = in_front_of(&[&alive, &dead], "health_interval = \"1h\"").await;
    for _ in 0..4 {
        assert_eq!(exchange(sidecar.port, get("/"), false).await.status, 200);
    }
    assert_eq!(dead.heard().len(), 2);
    drop(dead);
    for _ in 0..10 {
        assert_eq!(exchange(sidecar.port, get("/"), false).await.status, 200);
        // Nothing was sent where no connection could be made.
        let answer = exchange(sidecar.port, request("POST /", &[], "body"), false).await;
        assert_eq!(answer.status, 200);
    }
    assert_eq!(alive.heard().len(), 22);
}

#[tokio::test]
async fn a_server_whose_health_path_fails_is_left_out_until_it_recovers() {
    let healthy = FakeUpstream::answering(|_| OK).await;
    let sick = FakeUpstream::answering(|request| {
        if request.head.starts_with("GET /healthz") {
            Reply::Keep("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
        } else {
            OK
        }
    })
    .await;
    let upstream = "health_path = \"/healthz\"\nhealth_interval = \"50ms\"";
    let sidecar = in_front_of(&[&healthy, &sick], upstream).await;
    // The first round of probes has had its effect when the third begins.
    eventually(async || sick.probes() >= 3).await;
    let before = sick.heard().len();
    for _ in 0..10 {
        assert_eq!(exchange(sidecar.port, get("/"), false).await.status, 200);
    }
    assert_eq!(sick.heard().len(), before);
    assert!(healthy.heard().len() >= 10 && healthy.probes() >= 2);
}

#[tokio::test]
async fn when_all_servers_are_sick_they_are_asked_all_the_same() {
    let sick = |request: &Heard| {
        if request.head.starts_with("GET /healthz") {
            Reply::Close("")
        } else {
            OK
        }
    };
    let servers = [
        FakeUpstream::answering(sick).await,
        FakeUpstream::answering(sick).await,
    ];
    let upstream = "health_path = \"/healthz\"\nhealth_interval = \"50ms\"";
    let sidecar = in_front_of(&[&servers[0], &servers[1]], upstream).await;
    eventually(async || servers.iter().all(|server| server.probes() >= 3)).await;
    assert_eq!(exchange(sidecar.port, get("/"), false).await.status, 200);
}
