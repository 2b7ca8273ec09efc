//! Sessions as sites keep them: in a table with every column, in that of django-user-sessions, and in Django's own, over
//! both databases.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use headcount::browser_session::{BrowserSession, Unusable};
use headcount::config::TokenHash;
use headcount::ids::{AccountId, BrowserSessionId, SessionToken, UserId};
use headcount::store::migrate;
use sha2::{Digest as _, Sha256};

use super::session_kinds::{DATABASES, Kind, Members, has_only, later};
use super::{disabled, stats_of_march, viewed};
use crate::store_site::{SessionRow, Site, Variant, at, batch, key_of, page_view, token};
use crate::support::examined;

/// Each test once per kind and database.
macro_rules! kinds {
    ($($test:ident,)+) => {
        kinds! { @variants ($($test)+)
            postgres_full PostgresDefault Full, postgres_user_sessions PostgresDefault UserSessions,
            postgres_django PostgresDefault Django,
            sqlite_full SqliteDefault Full, sqlite_user_sessions SqliteDefault UserSessions,
            sqlite_django SqliteDefault Django }
    };
    (@variants $tests:tt $($module:ident $variant:ident $kind:ident),+) => {
        $(kinds! { @module $tests $module $variant $kind })+
    };
    (@module ($($test:ident)+) $module:ident $variant:ident $kind:ident) => {
        mod $module {
            $(#[tokio::test]
            async fn $test() {
                let site = super::Members::new(super::Variant::$variant, super::Kind::$kind).await;
                super::$test(site).await;
            })+
        }
    };
}

kinds! {
    i16_a_session_of_any_kind_is_valid_until_it_expires,
    i16_what_the_sessions_lack_is_not_made_up,
    i16_views_are_written_whatever_the_sessions_lack,
    i17_a_hashed_token_finds_its_session_in_every_form,
    i19_a_sessions_account_leads_to_its_profile,
    i20_a_session_without_a_key_is_not_known_by_its_token,
    i21_a_site_that_fits_needs_no_other_notes,
    i32_a_disabled_account_is_nobody,
}

async fn i32_a_disabled_account_is_nobody(members: Members) {
    disabled::is_nobody(members).await;
}

async fn i16_a_session_of_any_kind_is_valid_until_it_expires(members: Members) {
    let alice = members.member("alice").await;
    let bob = members.member("bob").await;
    let expires_at = at("2024-03-15T10:20:30.123456Z");
    members.signs_in(&alice, "token-of-alice", expires_at).await;
    members.signs_in(&bob, "token-of-bob", later()).await;
    let tokens = [
        "token-of-bob",
        "TOKEN-OF-ALICE",
        "nobody's",
        "token-of-alice",
        "\0",
        "",
    ]
    .map(token);
    let mut found = members.site.store.browser_sessions(&tokens).await.unwrap();
    assert_eq!(found.len(), 2);
    let mut found = |of: &str| found.remove(&token(of)).unwrap().unwrap().unwrap();
    assert_eq!(found("token-of-bob").user_id, bob);
    let session = found("token-of-alice");
    assert_eq!((&session.user_id, session.expires_at), (&alice, expires_at));
    assert!(session.is_valid_at(at("2024-03-15T10:20:30.123455Z")));
    assert!(!session.is_valid_at(expires_at));
    assert!(session.was_valid_at(at("2024-03-15T10:20:30.123455Z")));
    assert!(!session.was_valid_at(expires_at));
}

async fn i16_what_the_sessions_lack_is_not_made_up(members: Members) {
    let alice = members.member("alice").await;
    members.signs_in(&alice, "token-of-alice", later()).await;
    let visitors = members.site.store.visitors(std::slice::from_ref(&alice)).await;
    let visitor = visitors.unwrap().remove(0);
    assert_eq!((&visitor.user_id, &*visitor.username), (&alice, "alice"));
    let (started_at, pages_visited) = match members.kind {
        Kind::Full => (Some(at("2024-03-01T09:00:00Z")), Some(7)),
        Kind::UserSessions => (Some(at("2024-03-03T09:00:00Z")), None),
        Kind::Django => (None, None),
    };
    assert_eq!(
        (visitor.started_at, visitor.pages_visited),
        (started_at, pages_visited)
    );

    let gardening = members.site.community("gardening").await;
    viewed(&members.site, &alice, &gardening, "2024-03-03T09:00:00Z").await;
    let stats = stats_of_march(&members.site, &gardening).await;
    assert_eq!((stats.total_visitors, stats.page_views), (1, 1));
    assert_eq!((stats.avg_session_duration, stats.ended_sessions), (None, 0));
}

async fn i16_views_are_written_whatever_the_sessions_lack(members: Members) {
    assert!(migrate(&members.site.config, false).await.unwrap().is_empty());
    let alice = members.member("alice").await;
    members.signs_in(&alice, "token-of-alice", later()).await;
    let session = members.found("token-of-alice").await.into();
    let gardening = members.site.community("gardening").await;
    let batch = batch(&session, &gardening, vec![page_view("2024-03-03T09:00:00Z")]);
    assert_eq!(members.site.store.apply(&batch).await.unwrap().views, 1);
    let events = members.site.events().await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].user_id, alice.as_str());
    if members.kind == Kind::Full {
        assert_eq!(members.site.pages_visited(&session).await, 8);
    }
}

async fn i17_a_hashed_token_finds_its_session_in_every_form(members: Members) {
    let alice = members.member("alice").await;
    let hash = |token: &str| <[u8; 32]>::from(Sha256::digest(token));
    let hex = |token: &str| hash(token).map(|byte| format!("{byte:02x}")).concat();
    let base64 = |token: &str| {
        [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD].map(|engine| engine.encode(hash(token)))
    };
    // One of each form; the first two hashes in base64 have characters that differ between the forms.
    let by_hex = [
        ("small", hex("small")),
        ("capital", hex("capital").to_uppercase()),
    ];
    let names = ["standard-3", "unpadded-1", "url-safe-3", "url-safe-unpadded-1"];
    let by_base64 = names
        .iter()
        .enumerate()
        .map(|(form, name)| (*name, base64(name)[form].clone()));
    let stored: Vec<_> = by_hex.into_iter().chain(by_base64).collect();
    for (_, stored) in &stored {
        members.signs_in(&alice, stored, later()).await;
    }
    for (hash, names) in [
        (TokenHash::Sha256, &stored[..2]),
        (TokenHash::Sha256Base64, &stored[2..]),
    ] {
        let store = members
            .site
            .reconfigured(|config| config.session.token_hash = hash);
        for (name, stored) in names {
            let session = store.browser_session(&token(name)).await.unwrap();
            let session = session.unwrap_or_else(|| panic!("{name} as {stored}"));
            assert_eq!(session.user_id, alice);
            let id = key_of(&session).as_str();
            assert!(!id.contains(name) && !id.contains(stored));
            // What the table holds is no token.
            assert_eq!(store.browser_session(&token(stored)).await.unwrap(), None);
        }
    }
    assert_eq!(members.has("small").await, None);
}

async fn i19_a_sessions_account_leads_to_its_profile(members: Members) {
    let alice = members.member("alice").await;
    let bob = members.member("bob").await;
    let accounts = [
        Members::account(&alice),
        Members::account(&bob),
        "99".into(),
        "x".into(),
    ]
    .map(AccountId::new);
    let users = members.site.store.users_of_accounts(&accounts).await.unwrap();
    if members.kind == Kind::Full {
        // Accounts are the users.
        let own = |account: &AccountId| (account.clone(), UserId::new(account.as_str()));
        assert_eq!(users, accounts[..3].iter().map(own).collect::<HashMap<_, _>>());
        return;
    }
    assert_eq!(
        users,
        HashMap::from([(accounts[0].clone(), alice.clone()), (accounts[1].clone(), bob)])
    );
    members.has_session("anonymous", None, later()).await;
    members.has_session("without-profile", Some("99"), later()).await;
    members.signs_in(&alice, "token-of-alice", later()).await;
    assert_eq!(members.has("anonymous").await, Some(Err(Unusable::Anonymous)));
    assert_eq!(
        members.has("without-profile").await,
        Some(Err(Unusable::NoProfile))
    );
    assert_eq!(members.found("token-of-alice").await.user_id, alice);
    // Two profiles of one account are not two visitors.
    members
        .site
        .execute(r#"UPDATE "accounts_userprofile" SET "account_id" = 99"#)
        .await;
    assert_eq!(members.found("without-profile").await.user_id, alice);
}

async fn i20_a_session_without_a_key_is_not_known_by_its_token(members: Members) {
    let alice = members.member("alice").await;
    members.signs_in(&alice, "token-of-alice", later()).await;
    let session = members.found("token-of-alice").await;
    let of_token = BrowserSessionId::of_token(&SessionToken::new("token-of-alice"));
    assert_eq!(session.is(&of_token), members.kind != Kind::Full);
    assert!(!format!("{session:?}").contains("token-of-alice"), "{session:?}");
}

async fn i21_a_site_that_fits_needs_no_other_notes(members: Members) {
    let problems = examined::tables(&members.site.config).await.unwrap();
    assert!(problems.is_empty(), "{problems:?}");
    let alice = members.member("alice").await;
    members
        .signs_in(&alice, "a-token-that-is-long-enough", later())
        .await;
    let notes = examined::notes(&members.site.config).await.unwrap();
    let expected: &[&str] = match members.kind {
        Kind::Full => &[],
        Kind::UserSessions => &[
            "pages_visited is left out of the visitor list: without a column for them in [schema.session.columns]",
            "the statistics have no lengths of sessions, because started_at and ended_at are needed for them: without a \
             column for them in [schema.session.columns]",
            "record.pages_visited has no effect: schema.session.columns.pages_visited is \"\"; page views are not added to \
             a session",
        ],
        Kind::Django => &[
            "started_at and pages_visited are left out of the visitor list: Django's sessions do not have them",
            "the statistics have no lengths of sessions, because started_at and ended_at are needed for them: Django's \
             sessions do not have them",
            "record.pages_visited has no effect: Django's sessions have no such counter; page views are not added to a \
             session",
        ],
    };
    assert_eq!(notes, expected);
}

/// A token and a user are enough.
#[tokio::test]
async fn i16_a_table_of_tokens_and_users_is_enough() {
    for variant in DATABASES {
        let site = Site::with(variant, |config| {
            config.schema.session.table = "tokens".into();
            has_only(config, &[]);
        })
        .await;
        site.execute(r#"CREATE TABLE "tokens" ("session_id" varchar(40) UNIQUE, "user_id" bigint)"#)
            .await;
        assert!(examined::tables(&site.config).await.unwrap().is_empty());
        let alice = site.member("alice").await;
        site.execute(&format!(r#"INSERT INTO "tokens" VALUES ('token', {alice})"#))
            .await;
        let session = site
            .store
            .browser_session(&token("token"))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (&session.user_id, session.expires_at),
            (&alice, BrowserSession::NEVER)
        );
        assert!(session.is_valid_at(later()) && session.was_valid_at(at("2000-01-01T00:00:00Z")));
        let visitors = site.store.visitors(std::slice::from_ref(&alice)).await.unwrap();
        assert_eq!(visitors[0].started_at, None);
        let gardening = site.community("gardening").await;
        viewed(&site, &alice, &gardening, "2024-03-03T09:00:00Z").await;
        assert_eq!(stats_of_march(&site, &gardening).await.page_views, 1);
    }
}

/// Without flags the end decides, as long as it lies ahead as an expiry does.
#[tokio::test]
async fn i16_without_flags_an_end_that_has_come_ends_a_session() {
    for variant in DATABASES {
        let site = Site::new(variant).await;
        let store = site.reconfigured(|config| {
            has_only(
                config,
                &["id", "pages_visited", "started_at", "ended_at", "expires_at"],
            );
        });
        let alice = site.member("alice").await;
        let end = at("2024-03-10T10:20:30Z");
        for (name, ended_at) in [("open", None), ("ended", Some(end)), ("will-end", Some(later()))] {
            let row = SessionRow {
                ended_at,
                expires_at: at("3000-01-01T00:00:00Z"),
                // Nobody looks at them.
                is_active: false,
                is_ended: true,
                ..SessionRow::default()
            };
            site.session(&alice, name, row).await;
        }
        let found = async |of: &str| store.browser_session(&token(of)).await.unwrap().unwrap();
        let second = TimeDelta::seconds(1);
        assert!(found("open").await.is_valid_at(later() + second));
        let ended = found("ended").await;
        assert!(ended.was_valid_at(end - second) && !ended.was_valid_at(end) && !ended.is_valid_at(end));
        let will_end = found("will-end").await;
        assert!(will_end.is_valid_at(later() - second) && !will_end.is_valid_at(later()));
        // The same in SQL: of three sessions two are valid.
        site.execute(
            "UPDATE accounts_usersession SET started_at = '2024-03-02 09:00:00' WHERE session_id = 'ended'",
        )
        .await;
        let visitors = store.visitors(std::slice::from_ref(&alice)).await.unwrap();
        assert_eq!(visitors[0].started_at, Some(at("2024-03-01T09:00:00Z")));
    }
}

/// The table takes several spellings of a token for one; its session is one.
#[tokio::test]
async fn i20_a_token_in_another_spelling_is_the_same_session() {
    for variant in DATABASES {
        let site = Site::with(variant, |config| {
            config.schema.session.table = "tokens".into();
            has_only(config, &[]);
        })
        .await;
        site.execute(if variant.is_postgres() {
            "CREATE COLLATION any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
             CREATE TABLE tokens (session_id varchar(40) COLLATE any_case PRIMARY KEY, user_id bigint)"
        } else {
            "CREATE TABLE tokens (session_id text COLLATE NOCASE PRIMARY KEY, user_id bigint)"
        })
        .await;
        let alice = site.member("alice").await;
        site.execute(&format!("INSERT INTO tokens VALUES ('Token-of-Alice', {alice})"))
            .await;
        let ids = ["token-of-alice", "TOKEN-OF-ALICE", "Token-of-Alice"].map(token);
        let found = site.store.browser_sessions(&ids).await.unwrap();
        let expected = BrowserSessionId::of_token(&token("Token-of-Alice"));
        assert_eq!(found.len(), 3, "{variant:?}");
        for session in found.into_values() {
            assert!(session.unwrap().unwrap().is(&expected));
        }
    }
}
