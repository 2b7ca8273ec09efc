//! Requests that are sent behind a body, in one piece with it: they are read, refused and counted like any other.

use crate::support::sidecar::Sidecar;
use crate::support::wire::Wire;
use crate::support::world::{Wanted, World};

/// A body of two bytes, framed in each way; the last has extensions and trailers.
const BODIES: [&str; 3] = [
    "Content-Length: 2\r\n\r\nok",
    "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked\r\n\r\n1;a=\"b\"\r\no\r\n01\r\nk\r\n000;c\r\nX-A: b\r\nX-C: d\r\n\r\n",
];

const ABOUT: &str = "GET /about/ HTTP/1.1\r\nHost: a\r\n\r\n";

/// Uploads a body with `behind` at its heels, and awaits the upload's answer.
async fn upload(sidecar: &Sidecar, body: &str, behind: &str) -> Wire {
    let mut wire = Wire::open(sidecar.port).await;
    wire.send(format!("POST /upload HTTP/1.1\r\nHost: a\r\n{body}{behind}"))
        .await;
    let answer = wire.answer().await;
    assert_eq!(
        (answer.status, &answer.json()["size"]),
        (200, &2.into()),
        "{body}"
    );
    wire
}

async fn sidecar() -> Sidecar {
    World::shared().await.another_sidecar(&Wanted::usual())
}

#[tokio::test]
async fn e20_what_browsers_leave_unescaped_is_escaped_behind_a_body_too() {
    let sidecar = sidecar().await;
    for body in BODIES {
        let odd = "GET /echo/<b>?q=\"<b>\" HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut wire = upload(&sidecar, body, &(odd.to_owned() + ABOUT)).await;
        assert_eq!(wire.answer().await.status, 200, "{body}");
        assert!(wire.answer().await.text().contains("About"), "{body}");
    }
}

#[tokio::test]
async fn e20_a_refusal_behind_a_body_is_the_usual_one_and_counted_as_such() {
    let sidecar = sidecar().await;
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(300));
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "b".repeat(70_000));
    for (reason, status, head) in [
        ("header_count", 431, &*many),
        ("header_size", 431, &*large),
        ("method", 405, "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ] {
        for body in BODIES {
            let mut wire = upload(&sidecar, body, head).await;
            assert_eq!(wire.answer().await.status, status, "{reason} {body}");
            wire.closes().await;
        }
        let refused = format!("headcount_requests_refused_total{{reason=\"{reason}\"}}");
        assert_eq!(sidecar.count(&refused).await, BODIES.len(), "{reason}");
    }
    let malformed = "headcount_requests_refused_total{reason=\"malformed\"}";
    assert_eq!(sidecar.metric(malformed).await, 0.0);
}

/// What is sent before the tunnel is there may be of it, and is no request.
#[tokio::test]
async fn e20_an_upgrade_behind_a_body_ends_the_connection_where_more_follows() {
    let world = World::shared().await;
    for body in BODIES {
        let name = uuid::Uuid::new_v4().simple().to_string();
        let upgrade = "GET /about/ HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        let hidden = format!("GET /tally/{name} HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut wire = upload(&world.sidecar, body, &(upgrade.to_owned() + &hidden)).await;
        assert!(wire.answer().await.text().contains("About"), "{body}");
        wire.closes().await;
        let tally = world.site.tally(&name).await;
        assert_eq!(tally, 0, "{body}");
    }
}

/// A proxy in front may read such chunks in another way, and take what follows for a part of them.
#[tokio::test]
async fn e20_nothing_is_served_behind_chunks_that_can_be_read_in_two_ways() {
    let world = World::shared().await;
    for body in ["2;\nxx\r\n4f\r\n0\r\n\r\n", "\r\n\r\n", ";x\r\n\r\n"] {
        let name = uuid::Uuid::new_v4().simple().to_string();
        let mut wire = Wire::open(world.sidecar.port).await;
        wire.send(format!(
            "POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
        ))
        .await;
        // Pingora takes it for whole.
        assert_eq!(wire.answer().await.status, 200, "{body:?}");
        wire.try_send(format!("GET /tally/{name} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        wire.closes().await;
        assert_eq!(world.site.tally(&name).await, 0, "{body:?}");
    }
}

#[tokio::test]
async fn e20_bodies_follow_each_other_on_one_connection() {
    let sidecar = sidecar().await;
    let posts = BODIES.map(|body| format!("POST /upload HTTP/1.1\r\nHost: a\r\n{body}\r\n"));
    let report =
        "POST /api/visits HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    let all = [posts.concat(), report.into(), posts.concat(), ABOUT.into()].concat();
    let mut wire = Wire::open(sidecar.port).await;
    wire.send(all).await;
    for _ in BODIES {
        assert_eq!(wire.answer().await.json()["size"], 2);
    }
    // From nowhere.
    assert_eq!(wire.answer().await.status, 403);
    for _ in BODIES {
        assert_eq!(wire.answer().await.json()["size"], 2);
    }
    assert!(wire.answer().await.text().contains("About"));
}
