//! Promise 5: a session token never leaves `auth`.

use serde_json::json;
use sqlx::{AssertSqlSafe, Row as _};

use super::{Wire, World};
use crate::support::api_keys::{COUNTS, KeyFile, key};
use crate::support::backend::{Backend, Settings, Variant};
use crate::support::database::Database;
use crate::support::jwt::{self, Pair};
use crate::support::member::FIREFOX;
use crate::support::postgres::Postgres;
use crate::support::process::run;
use crate::support::redis;
use crate::support::sidecar::{Sidecar, write_config};
use crate::support::wire::Answer;
use crate::support::world::{Parts, Wanted};

#[tokio::test]
async fn a_token_is_in_no_log_metric_key_or_table_but_the_sites_own() {
    is_in_nothing_but_the_sites_own_table(Wanted::usual()).await;
}

#[tokio::test]
async fn t4_a_token_is_in_no_log_whatever_the_filter() {
    is_in_nothing_but_the_sites_own_table(Wanted {
        config: "[log]\nfilter = \"trace\"".into(),
        ..Wanted::usual()
    })
    .await;
}

async fn is_in_nothing_but_the_sites_own_table(wanted: Wanted) {
    let world = wanted.start().await;
    let session = world
        .site
        .tell("add-session", &json!({"username": "alice"}))
        .await;
    let token = session["session_id"].as_str().expect("a token").to_owned();
    let cookie = format!("User-Agent: {FIREFOX}\r\nCookie: session_id={token}\r\n");
    let community = world.community("rust");
    let visitors = world.visitors("rust", "");
    for request in [
        format!("GET {community} HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n{cookie}\r\n"),
        // The token also where it does not belong.
        format!(
            "GET {community}?session_id={token}&q={token} HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\
             Referer: http://a/{community}?token={token}\r\n{cookie}\r\n"
        ),
        format!("GET {visitors} HTTP/1.1\r\nHost: a\r\n{cookie}\r\n"),
        format!("GET {visitors}?cursor={token} HTTP/1.1\r\nHost: a\r\n{cookie}\r\n"),
        // Failures, whose messages quote what failed.
        format!("GET / HTTP/1.1\r\n{cookie}\r\n"),
        format!("GET / HTTP/1.1\r\nHost: a\r\n{cookie}Broken\x01: x\r\n\r\n"),
        format!("POST /upload HTTP/1.1\r\nHost: a\r\n{cookie}Content-Length: {token}\r\n\r\n"),
        format!("POST /upload HTTP/1.1\r\nHost: a\r\n{cookie}Transfer-Encoding: chunked\r\n\r\n{token}\r\n"),
        format!(
            "GET /about/ HTTP/1.1\r\nHost: a\r\n{cookie}X-Big: {}\r\n\r\n",
            "x".repeat(66_000)
        ),
        format!("GET /die HTTP/1.1\r\nHost: a\r\n{cookie}\r\n"),
    ] {
        let mut wire = Wire::open(world.sidecar.port).await;
        wire.try_send(request).await;
        let answer = wire.try_answer(false).await;
        assert!(!format!("{answer:?}").contains(&token) && !contains_body(answer.as_ref(), &token));
    }
    world.wait_for_views(2).await;

    assert!(
        !contains(world.sidecar.log().as_bytes(), &token),
        "{}",
        world.sidecar.log()
    );
    let metrics = reqwest::get(world.sidecar.admin_url("/metrics"))
        .await
        .expect("metrics");
    assert!(!metrics.text().await.expect("text").contains(&token));
    not_in_redis(&token).await;
    assert_eq!(tables_with(&world, &token).await, ["public.accounts_usersession"]);
}

/// Wherever a JWT may come from, and wherever it does not belong.
#[tokio::test]
async fn i29_a_jwt_is_in_no_log_metric_key_or_table_whatever_the_filter() {
    let wanted = Wanted {
        config: "[log]\nfilter = \"trace\"".into(),
        ..Wanted::usual()
    };
    let keys = "cookie = \"access\"\nquery_parameter = \"access_token\"\nsession_claim = \"sid\"";
    let (world, _keys) = jwt::world(wanted, keys).await;
    let pair = Pair::of(&world, "alice").await;
    let stranger = jwt::signed(json!({"profile_id": "no number", "sid": "x"}), 60);
    let feed = format!("/api/feed/{}/", world.seeded.community("rust"));
    let (visitors, live) = (world.visitors("rust", ""), world.visitors("rust", "/live"));
    for token in [
        &pair.access,
        &pair.refresh,
        &stranger,
        &format!("{}x", pair.access),
    ] {
        let bearer = format!("Host: a\r\nUser-Agent: {FIREFOX}\r\nAuthorization: Bearer {token}\r\n");
        let web_socket = "Host: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        for request in [
            format!("GET {feed} HTTP/1.1\r\n{bearer}\r\n"),
            format!(
                "GET {feed}?access_token={token} HTTP/1.1\r\n{bearer}Referer: http://a/?x={token}\r\n\r\n"
            ),
            format!("GET {visitors} HTTP/1.1\r\nHost: a\r\nCookie: access={token}\r\n\r\n"),
            format!("GET {visitors}?access_token={token} HTTP/1.1\r\n{bearer}\r\n"),
            format!("GET {live}?access_token={token} HTTP/1.1\r\nHost: a\r\nAccept: text/plain\r\n\r\n"),
            format!(
                "GET {live} HTTP/1.1\r\n{web_socket}Sec-WebSocket-Protocol: headcount, bearer.{token}\r\n\r\n"
            ),
            format!(
                "GET {live}?access_token={token} HTTP/1.1\r\n{web_socket}Origin: http://evil.test\r\n\r\n"
            ),
            format!("GET /die HTTP/1.1\r\n{bearer}\r\n"),
        ] {
            let mut wire = Wire::open(world.sidecar.port).await;
            wire.try_send(request).await;
            let head = wire.try_answer(false).await;
            assert!(!format!("{head:?}").contains(token.as_str()));
        }
    }
    world.wait_for_views(2).await;
    let log = world.sidecar.log();
    let metrics = reqwest::get(world.sidecar.admin_url("/metrics"))
        .await
        .expect("metrics");
    let metrics = metrics.text().await.expect("text");
    for token in [&pair.access, &pair.refresh, &stranger] {
        // The claims are no secret, but nobody's business either.
        for part in token.split('.').skip(1) {
            assert!(!contains(log.as_bytes(), part), "{log}");
            assert!(!metrics.contains(part));
            not_in_redis(part).await;
            assert_eq!(tables_with(&world, part).await, Vec::<String>::new());
        }
    }
}

/// Of a server: one that is configured, and one that is not.
#[tokio::test]
async fn a16_a_key_is_in_no_log_metric_key_or_table_whatever_the_filter() {
    let file = KeyFile::new(&[("django", &format!("{COUNTS}rate = 1\nburst = 4\n"))]);
    let wanted = Wanted {
        config: "[log]\nfilter = \"trace\"".into(),
        ..Wanted::usual()
    };
    let world = file.wanted(wanted).start().await;
    let (count, list) = (world.visitors("rust", "/count"), world.visitors("rust", ""));
    for key in [key("django"), key("nobody"), "hc_too-short-to-be-one".to_owned()] {
        let bearer = format!("Host: a\r\nUser-Agent: {FIREFOX}\r\nAuthorization: Bearer {key}\r\n");
        for request in [
            format!("GET {count} HTTP/1.1\r\n{bearer}\r\n"),
            format!("GET {count}?key={key} HTTP/1.1\r\n{bearer}Referer: http://a/?x={key}\r\n\r\n"),
            format!("GET {list} HTTP/1.1\r\n{bearer}\r\n"),
            format!("GET {count} HTTP/1.1\r\n{bearer}Origin: http://evil.test\r\n\r\n"),
            format!("GET {count} HTTP/1.1\r\n{bearer}\r\n"),
            format!("GET {count} HTTP/1.1\r\n{bearer}\r\n"),
            format!("GET /die HTTP/1.1\r\n{bearer}\r\n"),
        ] {
            let mut wire = Wire::open(world.sidecar.port).await;
            wire.try_send(request).await;
            let head = wire.try_answer(false).await;
            assert!(!format!("{head:?}").contains(&key));
        }
    }
    let log = world.sidecar.says("a server exceeds the rate of its API key");
    assert!(log.contains("django"), "the log names the key");
    let metrics = reqwest::get(world.sidecar.admin_url("/metrics"))
        .await
        .expect("metrics");
    let metrics = metrics.text().await.expect("text");
    for key in [key("django"), key("nobody"), "too-short-to-be-one".to_owned()] {
        assert!(!contains(log.as_bytes(), &key), "{log}");
        assert!(!metrics.contains(&key));
        assert_eq!(tables_with(&world, &key).await, Vec::<String>::new());
    }
}

async fn not_in_redis(token: &str) {
    let mut redis = redis::shared().raw().await;
    let keys: Vec<String> = ::redis::cmd("KEYS")
        .arg("*")
        .query_async(&mut redis)
        .await
        .expect("keys");
    assert!(!keys.is_empty());
    for key in keys {
        assert!(!key.contains(token), "{key}");
        let value: Option<Vec<u8>> = ::redis::cmd("DUMP")
            .arg(&key)
            .query_async(&mut redis)
            .await
            .expect("a value");
        assert!(value.is_none_or(|value| !contains(&value, token)), "{key}");
    }
}

/// Tables of the database in which a token is.
async fn tables_with(world: &World, token: &str) -> Vec<String> {
    let pool = Postgres::shared().pool(world.database.name());
    let tables: Vec<(String,)> = sqlx::query_as(
        "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables
         WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
    )
    .fetch_all(&pool)
    .await
    .expect("tables");
    let mut holding = Vec::new();
    for (table,) in tables {
        let sql = format!("SELECT count(*) FROM {table} AS row WHERE row::text LIKE '%' || $1 || '%'");
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(token)
            .fetch_one(&pool)
            .await
            .expect("a count");
        if row.get::<i64, _>(0) > 0 {
            holding.push(table);
        }
    }
    pool.close().await;
    holding
}

fn contains_body(answer: Option<&Answer>, text: &str) -> bool {
    answer.is_some_and(|answer| contains(&answer.body, text))
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// A misspelt key in the database's URL may be that of the password.
#[tokio::test]
async fn c20_a_parameter_of_the_database_url_that_nobody_knows_is_named_without_its_value() {
    let (database, _) = Database::seeded(Parts::Production, Variant::Default).await;
    let site = Backend::start(Variant::Default, &database.url(), Settings::default());
    let url = database.url();
    let config = Wanted::usual().configuration(&site, &database);
    let config = config.replace(&url, &format!("{url}?passwort=hunter2&target_session_attrs=any"));
    let sidecar = Sidecar::start(&config);
    sidecar
        .wait_for_metric("headcount_database_up", |up| up == 1.0)
        .await;
    sidecar
        .wait_for_metric("headcount_ledger_ok", |ok| ok == 1.0)
        .await;
    for name in ["passwort", "target_session_attrs"] {
        let log = sidecar.says(name);
        assert_eq!(log.matches(name).count(), 1, "{log}");
    }
    let log = sidecar.log();
    assert!(!log.contains("hunter2"), "{log}");
    for command in [&["check"][..], &["migrate"]] {
        let folder = tempfile::tempdir().expect("a directory");
        let path = write_config(folder.path(), &config, "");
        let told = run(
            &[command, &["--config", path.to_str().expect("UTF-8")]].concat(),
            &[],
        );
        assert_eq!(told.code, Some(0), "{told:?}");
        assert!(!format!("{told:?}").contains("hunter2"), "{told:?}");
    }
}
