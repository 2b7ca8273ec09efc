//! Everybody comes at once, and nobody is known yet: as after a restart.

use std::fmt::Write as _;

use sqlx::PgPool;
use tokio::task::JoinSet;

use super::live;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;
use crate::support::world::{Wanted, World};

/// Far more than are looked up at a time.
const CROWD: usize = 300;

/// Tokens of so many new sessions of one user.
async fn sessions(world: &World, number: usize) -> Vec<String> {
    let pool = PgPool::connect(&world.database.url())
        .await
        .expect("a connection");
    let user: i64 = world.seeded.user("alice").parse().expect("a number");
    sqlx::query_scalar(
        "INSERT INTO accounts_usersession
             (id, user_id, session_id, ip_address, user_agent, device_info, location_data,
              device_fingerprint, fast_fingerprint, pages_visited, started_at, expires_at, is_active,
              is_ended, persistent, termination_reason)
         SELECT gen_random_uuid(), $1, md5(number::text), '127.0.0.1', '', '{}', '{}', '', '', 0, now(),
                now() + interval '1 day', true, false, false, ''
         FROM generate_series(1, $2) AS number
         RETURNING session_id",
    )
    .bind(user)
    .bind(i64::try_from(number).expect("not so many"))
    .fetch_all(&pool)
    .await
    .expect("sessions")
}

async fn world(proxy: Option<&Proxy>) -> World {
    let wanted = Wanted {
        config: "[live]\nmax_per_user = 10000\nmax_per_address = 10000\nheartbeat = false\n".into(),
        database_port: proxy.map(Proxy::port),
        ..Wanted::usual()
    };
    wanted.start().await
}

/// A request whose answer is still to be read.
async fn ask(world: &World, path: &str, token: &str, headers: &str) -> Wire {
    let mut wire = Wire::open(world.sidecar.port).await;
    let mut request = format!("GET {path} HTTP/1.1\r\nHost: site.test\r\n{headers}");
    write!(request, "Cookie: session_id={token}\r\n\r\n").expect("text");
    wire.send(request).await;
    wire
}

#[tokio::test]
async fn l2_everybody_is_let_in_who_comes_back_at_once() {
    let world = world(None).await;
    let path = live(&world, "rust");
    let mut wires = Vec::new();
    for token in sessions(&world, CROWD).await {
        wires.push(ask(&world, &path, &token, "Accept: text/event-stream\r\n").await);
    }
    for wire in &mut wires {
        let head = wire.head().await;
        assert_eq!(
            (head.status, head.header("transfer-encoding")),
            (200, Some("chunked"))
        );
    }
}

#[tokio::test]
async fn i1_unknown_tokens_do_not_shut_out_whoever_is_known() {
    let database = Proxy::before(Postgres::shared().port()).await;
    let world = world(Some(&database)).await;
    let alice = world.member("alice").await;
    let path = world.visitors("rust", "/count");
    alice.json(&path).await;
    database.hang();
    let mut answers = JoinSet::new();
    for number in 0..CROWD {
        let mut wire = ask(&world, &path, &format!("nobody-knows-this-one-{number}"), "").await;
        answers.spawn(async move { wire.answer().await.status });
    }
    // Whoever finds no place to be looked up is told so at once.
    assert_eq!(
        answers.join_next().await.expect("an answer").expect("no panic"),
        503
    );
    assert_eq!(alice.get(&path).await.status(), 200);
}
