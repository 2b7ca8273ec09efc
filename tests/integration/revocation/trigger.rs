//! The trigger by itself: what it tells, to whom, and that the site's own statements never fail for it.

use headcount::config::{Revocation, TokenHash};
use headcount::ids::{BrowserSessionId, SessionToken};
use headcount::store::migrate;
use sqlx::postgres::PgListener;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::{Told, sessions};
use crate::store_contract::session_kinds::{Kind, Members, later};
use crate::store_site::{SessionRow, Site, Variant, key_of};
use crate::support::backend;
use crate::support::examined;
use crate::support::service::in_time;

/// A site with the trigger, and somebody who listens.
async fn site(variant: Variant) -> (Site, PgListener) {
    let site = Site::unmigrated_with(variant, |config| config.session.revocation = Revocation::Trigger).await;
    migrate(&site.config, false).await.expect("it is migrated");
    let listener = listener(url(&site)).await;
    (site, listener)
}

fn url(site: &Site) -> &str {
    site.config.database.url.as_ref().expect("a URL").expose()
}

async fn listener(url: &str) -> PgListener {
    let mut listener = PgListener::connect(url).await.expect("a connection");
    listener
        .listen_all(["headcount_session", "headcount_session_appeared"])
        .await
        .expect("it listens");
    listener
}

/// What was told until now of sessions that may have ended.
async fn told(listener: &mut PgListener) -> Vec<String> {
    all_told(listener).await.0
}

/// The same, and the fingerprints of sessions that have appeared.
async fn all_told(listener: &mut PgListener) -> (Vec<String>, Vec<String>) {
    listener
        .execute("NOTIFY headcount_session, 'until now'")
        .await
        .expect("it notifies");
    let (mut told, mut appeared) = (Vec::new(), Vec::new());
    loop {
        let heard = in_time("a notification", listener.recv()).await;
        let heard = heard.expect("a notification");
        match (heard.channel(), heard.payload()) {
            ("headcount_session", "until now") => return (told, appeared),
            ("headcount_session", payload) => told.push(payload.to_owned()),
            (_, payload) => appeared.push(payload.to_owned()),
        }
    }
}

async fn signed_in(site: &Site) -> BrowserSessionId {
    let alice = site.member(&uuid::Uuid::new_v4().to_string()).await;
    let token = uuid::Uuid::new_v4().to_string();
    let session = site.session(&alice, &token, SessionRow::default()).await;
    session.id.clone().expect("a row")
}

#[tokio::test]
async fn i4_each_column_that_matters_is_told_by_the_rows_key() {
    for variant in [Variant::PostgresDefault, Variant::PostgresRenamed] {
        let (site, mut listener) = site(variant).await;
        let names = &site.config.schema.session;
        let (table, columns) = (site.table(&names.table), &names.columns);
        let other = site.member("other").await;
        for set in [
            format!("\"{}\" = false", columns.is_active),
            format!("\"{}\" = true", columns.is_ended),
            format!("\"{}\" = now()", columns.ended_at),
            format!("\"{0}\" = \"{0}\" - interval '1 second'", columns.expires_at),
            format!("\"{}\" = '{other}'", columns.user_id),
            format!("\"{}\" = 'a new token'", columns.session_id),
        ] {
            let id = signed_in(&site).await;
            site.execute(&format!("UPDATE {table} SET {set}")).await;
            assert_eq!(told(&mut listener).await, [id.as_str()], "{set}");
            site.execute(&format!("DELETE FROM {table}")).await;
            told(&mut listener).await;
        }
        let id = signed_in(&site).await;
        site.execute(&format!("DELETE FROM {table}")).await;
        assert_eq!(told(&mut listener).await, [id.as_str()]);
        site.execute(&format!("TRUNCATE {table}")).await;
        assert_eq!(told(&mut listener).await, ["*"]);
    }
}

#[tokio::test]
async fn i4_other_changes_are_not_told() {
    for variant in [Variant::PostgresDefault, Variant::PostgresRenamed] {
        let (site, mut listener) = site(variant).await;
        let names = &site.config.schema.session;
        let (table, columns) = (site.table(&names.table), &names.columns);
        let (active, ended, expires) = (&columns.is_active, &columns.is_ended, &columns.expires_at);
        signed_in(&site).await;
        for statement in [
            format!("UPDATE {table} SET \"{0}\" = \"{0}\" + 1", columns.pages_visited),
            format!("UPDATE {table} SET \"{expires}\" = \"{expires}\" + interval '1 day'"),
            format!("UPDATE {table} SET \"{active}\" = true, \"{ended}\" = false"),
            format!("BEGIN; UPDATE {table} SET \"{active}\" = false; ROLLBACK"),
        ] {
            site.execute(&statement).await;
            let told = told(&mut listener).await;
            assert!(told.is_empty(), "{statement}: {told:?}");
        }
        // Of a session that is over its deletion says nothing new.
        site.execute(&format!("UPDATE {table} SET \"{ended}\" = true"))
            .await;
        assert_eq!(told(&mut listener).await.len(), 1);
        site.execute(&format!("DELETE FROM {table}")).await;
        assert!(told(&mut listener).await.is_empty());
    }
}

#[tokio::test]
async fn i10_a_session_that_becomes_valid_is_told_by_the_fingerprint_of_its_token() {
    for variant in [Variant::PostgresDefault, Variant::PostgresRenamed] {
        let (site, mut listener) = site(variant).await;
        let names = &site.config.schema.session;
        let (table, columns) = (site.table(&names.table), &names.columns);
        let alice = site.member("alice").await;
        // printf 'a-token-of-alice' | sha256sum
        let fingerprint = "baab";
        site.session(&alice, "a-token-of-alice", SessionRow::default())
            .await;
        assert_eq!(
            all_told(&mut listener).await,
            (vec![], vec![fingerprint.to_owned()])
        );
        for (ends, begins) in [
            (
                format!("\"{}\" = false", columns.is_active),
                format!("\"{}\" = true", columns.is_active),
            ),
            (
                format!("\"{}\" = true", columns.is_ended),
                format!("\"{}\" = false", columns.is_ended),
            ),
            (
                format!("\"{}\" = now() - interval '1 second'", columns.expires_at),
                format!("\"{}\" = now() + interval '1 hour'", columns.expires_at),
            ),
            (
                format!("\"{}\" = 'another token'", columns.session_id),
                format!("\"{}\" = 'a-token-of-alice'", columns.session_id),
            ),
        ] {
            site.execute(&format!("UPDATE {table} SET {ends}")).await;
            all_told(&mut listener).await;
            site.execute(&format!("UPDATE {table} SET {begins}")).await;
            let (changed, appeared) = all_told(&mut listener).await;
            assert_eq!(
                (changed.len(), appeared),
                (1, vec![fingerprint.to_owned()]),
                "{begins}"
            );
        }
        for silent in [
            format!("\"{0}\" = \"{0}\" + 1", columns.pages_visited),
            format!("\"{0}\" = \"{0}\" + interval '1 day'", columns.expires_at),
        ] {
            site.execute(&format!("UPDATE {table} SET {silent}")).await;
            assert_eq!(all_told(&mut listener).await, (vec![], vec![]), "{silent}");
        }
    }
}

/// As the site itself writes, with a role that has no rights on the schema.
#[tokio::test]
async fn i4_what_is_told_is_the_sessions_key_and_never_its_token() {
    for variant in [backend::Variant::Default, backend::Variant::Uuid] {
        let site = Told::start(variant).await;
        let mut listener = listener(&site.world.database.url()).await;
        let mut browsers = Vec::new();
        for name in ["alice", "bob", "carol"] {
            browsers.push(site.signs_in(name).await);
        }
        let rows = sessions(&site.world).await;
        let key = |token: &str| {
            let row = rows.iter().find(|row| row["session_id"] == token);
            backend::text(&row.expect("a session")["id"])
        };
        let keys: Vec<_> = browsers.iter().map(|browser| key(&browser.token)).collect();
        for browser in &browsers {
            browser.member.sign_out().await;
        }
        assert_eq!(told(&mut listener).await, keys);
    }
}

#[tokio::test]
async fn a_role_without_any_right_on_the_schema_fires_it() {
    let (site, mut listener) = site(Variant::PostgresDefault).await;
    let id = signed_in(&site).await;
    let role = format!("site_{}", uuid::Uuid::new_v4().simple());
    site.execute(&format!(
        "CREATE ROLE {role} LOGIN;
         GRANT SELECT, UPDATE ON accounts_usersession TO {role};
         CREATE SCHEMA astray;
         GRANT USAGE ON SCHEMA astray TO {role};
         CREATE FUNCTION astray.pg_notify(text, text) RETURNS void LANGUAGE plpgsql AS 'BEGIN END'"
    ))
    .await;
    let mut connection = PgConnection::connect(&super::as_role(url(&site), &role))
        .await
        .unwrap();
    let rights: bool = sqlx::query_scalar("SELECT has_schema_privilege('headcount', 'USAGE')")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert!(!rights);
    // Nor is it led astray by what the role finds first.
    connection
        .execute(
            "SET search_path = astray, public, pg_catalog;
             UPDATE accounts_usersession SET is_active = false",
        )
        .await
        .unwrap();
    assert_eq!(told(&mut listener).await, [id.as_str()]);
}

/// The site's own migrations come and go while its connections, and ours, stay open.
#[tokio::test]
async fn i4_no_statement_of_the_site_fails_when_its_table_has_changed() {
    let (site, mut listener) = site(Variant::PostgresDefault).await;
    let id = signed_in(&site).await;
    let mut connection = PgConnection::connect(url(&site)).await.unwrap();
    let end = "UPDATE accounts_usersession SET ended_at = now()";
    connection.execute(end).await.unwrap();
    assert_eq!(told(&mut listener).await, [id.as_str()]);

    for change in [
        "ALTER TABLE accounts_usersession ALTER session_id TYPE text",
        "ALTER TABLE accounts_usersession ALTER id TYPE text",
        "ALTER TABLE accounts_usersession RENAME is_active TO active",
        "ALTER TABLE accounts_usersession DROP is_ended",
    ] {
        site.execute(change).await;
        connection.execute(AssertSqlSafe(end)).await.unwrap();
        let heard = told(&mut listener).await;
        // Of whom it is, it may no longer know.
        assert!(heard == [id.as_str()] || heard == ["*"], "{change}: {heard:?}");
    }
    connection
        .execute("DELETE FROM accounts_usersession")
        .await
        .unwrap();
    assert_eq!(told(&mut listener).await, ["*"]);
}

/// Where the token is the key, what is told is its hash; and of a hashed token no more than its beginning.
#[tokio::test]
async fn i20_a_session_without_a_key_is_told_by_a_hash() {
    const TOKEN: &str = "a-token-of-alice";
    // printf 'a-token-of-alice' | sha256sum, and | openssl dgst -sha256 -binary | base64
    let hex = "baabef150d394e9ef91997e5a10c1f8692531a583bb3885e3f8b266010f7e48c";
    let base64 = "uqvvFQ05Tp75GZfloQwfhpJTGlg7s4heP4smYBD35Iw=";
    for kind in [Kind::UserSessions, Kind::Django] {
        for (hash, stored) in [
            (TokenHash::None, TOKEN),
            (TokenHash::Sha256, hex),
            (TokenHash::Sha256Base64, base64),
        ] {
            let members = Members::with(Variant::PostgresDefault, kind, |config| {
                config.session.revocation = Revocation::Trigger;
                config.session.token_hash = hash;
            })
            .await;
            let site = &members.site;
            assert!(examined::tables(&site.config).await.unwrap().is_empty());
            let mut listener = listener(url(site)).await;
            let alice = members.member("alice").await;
            members.signs_in(&alice, stored, later()).await;
            let (told, appeared) = all_told(&mut listener).await;
            assert_eq!(
                (&*told, &*appeared),
                (&[][..], &[hex[..4].to_owned()][..]),
                "{kind:?} {hash:?}"
            );
            let token = SessionToken::new(TOKEN);
            let session = site
                .store
                .browser_session(&token)
                .await
                .unwrap()
                .expect("a session");

            let (table, user, end) = match kind {
                Kind::Django => ("django_session", "session_data = 'x'", "expire_date = now()"),
                _ => ("user_sessions_session", "user_id = 5", "expire_date = now()"),
            };
            // Neither a later expiry nor the same data signed anew ends anything.
            let same = match kind {
                Kind::Django => "session_data = split_part(session_data, ':', 1) || ':later:c2ln'",
                _ => "updated_at = now()",
            };
            for (set, expected) in [
                (same, None),
                ("expire_date = expire_date + interval '1 day'", None),
                (user, Some(key_of(&session).as_str())),
                (end, Some(key_of(&session).as_str())),
            ] {
                site.execute(&format!("UPDATE {table} SET {set}")).await;
                let told = told_of(&mut listener).await;
                assert_eq!(
                    told.first().map(String::as_str),
                    expected,
                    "{kind:?} {hash:?} {set}"
                );
            }
            site.execute(&format!("DELETE FROM {table}")).await;
            assert!(told_of(&mut listener).await.is_empty(), "it had expired");
            members.signs_in(&alice, stored, later()).await;
            site.execute(&format!("DELETE FROM {table}")).await;
            assert_eq!(
                told_of(&mut listener).await,
                [key_of(&session).as_str()],
                "{kind:?} {hash:?}"
            );
        }
    }
}

/// What was told of sessions that may have ended; never a token.
async fn told_of(listener: &mut PgListener) -> Vec<String> {
    let (told, appeared) = all_told(listener).await;
    for payload in told.iter().chain(&appeared) {
        assert!(payload.len() == 64 || payload.len() == 4, "{payload}");
        assert!(payload.bytes().all(|byte| byte.is_ascii_hexdigit()), "{payload}");
    }
    told
}
