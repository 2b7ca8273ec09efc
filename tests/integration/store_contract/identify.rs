//! Sessions by token, communities by slug and id.

use headcount::browser_session::BrowserSession;
use headcount::ids::CommunityId;
use headcount::store::StoreError;

use super::alice;
use crate::store_site::{SessionRow, Site, Variant, at, token};

contract! {
    a_token_finds_its_session_whatever_its_state,
    a_session_that_is_over_counts_before_its_end,
    a_session_whose_flags_are_null_lets_nobody_in,
    an_unknown_token_is_nobodys,
    a_slug_finds_its_community,
    s21_communities_may_have_no_slugs,
    a_community_exists_in_one_spelling_only,
    the_store_answers_pings_and_closes,
}

async fn a_token_finds_its_session_whatever_its_state(variant: Variant) {
    let site = Site::new(variant).await;
    let alice = site.member("alice").await;
    let expires_at = at("2024-03-15T10:20:30.123456Z");
    for (is_active, is_ended) in [(true, false), (false, false), (true, true), (false, true)] {
        let row = SessionRow {
            expires_at,
            is_active,
            is_ended,
            ..SessionRow::default()
        };
        let name = format!("token-{is_active}-{is_ended}");
        let written = site.session(&alice, &name, row).await;
        let found = site.store.browser_session(&token(&name)).await.unwrap().unwrap();
        assert_eq!(found, *written);
        let in_time = at("2024-03-15T10:20:30.123455Z");
        assert_eq!(found.is_valid_at(in_time), is_active && !is_ended);
        assert!(!found.is_valid_at(expires_at));
    }
}

async fn a_session_that_is_over_counts_before_its_end(variant: Variant) {
    let site = Site::new(variant).await;
    let alice = site.member("alice").await;
    let end = at("2024-03-10T10:20:30.123456Z");
    let just_before = at("2024-03-10T10:20:30.123455Z");
    for (is_active, is_ended) in [(true, false), (false, false), (true, true), (false, true)] {
        for ended_at in [None, Some(end)] {
            let row = SessionRow {
                ended_at,
                is_active,
                is_ended,
                ..SessionRow::default()
            };
            let name = format!("token-{is_active}-{is_ended}-{}", ended_at.is_some());
            let written = site.session(&alice, &name, row).await;
            let found = site.store.browser_session(&token(&name)).await.unwrap().unwrap();
            assert_eq!(found, *written);
            let goes_on = is_active && !is_ended;
            assert_eq!(
                found.was_valid_at(just_before),
                goes_on || ended_at.is_some(),
                "{name}"
            );
            assert_eq!(found.was_valid_at(end), goes_on, "{name}");
        }
    }
}

async fn a_session_whose_flags_are_null_lets_nobody_in(variant: Variant) {
    let site = Site::new(variant).await;
    let alice = site.member("alice").await;
    let end = at("2024-03-10T10:20:30Z");
    let row = SessionRow {
        ended_at: Some(end),
        ..SessionRow::default()
    };
    site.session(&alice, "token", row).await;
    let names = &site.config.schema.session;
    let table = site.table(&names.table);
    let (active, ended) = (&names.columns.is_active, &names.columns.is_ended);
    let nullable = [active, ended].map(|column| {
        if variant.is_postgres() {
            format!(r#"ALTER TABLE {table} ALTER "{column}" DROP NOT NULL;"#)
        } else {
            // SQLite has no statement for it.
            format!(
                r#"PRAGMA writable_schema = ON;
                   UPDATE sqlite_master SET sql = replace(sql, '"{column}" bool NOT NULL', '"{column}" bool NULL')
                   WHERE name = '{}';
                   PRAGMA writable_schema = RESET;"#,
                names.table
            )
        }
    });
    site.execute(&nullable.concat()).await;
    for (is_active, is_ended) in [("NULL", "false"), ("true", "NULL"), ("NULL", "NULL")] {
        site.execute(&format!(
            r#"UPDATE {table} SET "{active}" = {is_active}, "{ended}" = {is_ended}"#
        ))
        .await;
        let found = found(&site, "token").await;
        assert!(
            !found.is_valid_at(at("2024-03-10T10:20:29Z")),
            "{is_active} {is_ended}"
        );
        assert!(
            found.was_valid_at(at("2024-03-10T10:20:29Z")),
            "{is_active} {is_ended}"
        );
        assert!(!found.was_valid_at(end), "{is_active} {is_ended}");
    }
}

/// The session of a token, which it has.
async fn found(site: &Site, of: &str) -> BrowserSession {
    let session = site.store.browser_session(&token(of)).await.unwrap();
    session.expect("a session")
}

/// Text columns hold anything.
#[tokio::test]
async fn an_end_that_is_no_moment_is_an_unknown_end() {
    let site = Site::new(Variant::SqliteDefault).await;
    let alice = site.member("alice").await;
    site.session(&alice, "token", SessionRow::default()).await;
    for end in ["", "soon"] {
        site.execute(&format!(
            "UPDATE accounts_usersession SET ended_at = '{end}', is_ended = true"
        ))
        .await;
        let found = found(&site, "token").await;
        assert_eq!(found.ended_at, None);
    }
}

async fn an_unknown_token_is_nobodys(variant: Variant) {
    let site = Site::new(variant).await;
    alice(&site).await;
    for unknown in [
        "",
        "token-of-bob",
        "TOKEN-OF-ALICE",
        "token-of-alice\0",
        "\0",
        "' OR '1'='1",
        "%",
    ] {
        let found = site.store.browser_session(&token(unknown)).await.unwrap();
        assert_eq!(found, None, "{unknown:?}");
    }
}

async fn a_slug_finds_its_community(variant: Variant) {
    let site = Site::new(variant).await;
    let gardening = site.community("gardening").await;
    site.community("cooking").await;
    let found = site.store.community_by_slug("gardening").await.unwrap();
    assert_eq!(found, Some(gardening));
    for unknown in ["", "garden", "Gardening", "gardening\0", "' OR '1'='1"] {
        let found = site.store.community_by_slug(unknown).await.unwrap();
        assert_eq!(found, None, "{unknown:?}");
    }
}

async fn s21_communities_may_have_no_slugs(variant: Variant) {
    let site = Site::new(variant).await;
    let gardening = site.community("gardening").await;
    let names = &site.config.schema.community;
    let sql = format!(
        "ALTER TABLE {} DROP COLUMN {}",
        site.table(&names.table),
        names.columns.slug
    );
    // SQLite drops no column that is unique.
    if variant.is_postgres() {
        site.execute(&sql).await;
    }
    let store = site.reconfigured(|config| config.schema.community.columns.slug = String::new());
    assert_eq!(store.community_by_slug("gardening").await.unwrap(), None);
    assert_eq!(store.community_slug(&gardening).await.unwrap(), None);
    assert_eq!(store.community_by_key(&gardening).await.unwrap(), Some(gardening));
}

async fn a_community_exists_in_one_spelling_only(variant: Variant) {
    let site = Site::new(variant).await;
    let gardening = site.community("gardening").await;
    assert!(site.store.community_by_key(&gardening).await.unwrap().is_some());
    let id = gardening.as_str();
    let mut others = vec![
        String::new(),
        "gardening".into(),
        "999999".into(),
        "99999999999999999999999".into(),
        format!(" {id}"),
        format!("0{id}"),
        format!("{id}\0"),
        "0190163d-8694-739b-aea5-966c26f8ad91".into(),
    ];
    if variant.is_renamed() {
        others.extend([id.replace('-', ""), id.to_uppercase() + "A", format!("{{{id}}}")]);
    }
    for other in others {
        let exists = site
            .store
            .community_by_key(&CommunityId::new(other.clone()))
            .await;
        assert_eq!(exists.unwrap(), None, "{other:?}");
    }
}

async fn the_store_answers_pings_and_closes(variant: Variant) {
    let site = Site::new(variant).await;
    site.store.ping().await.unwrap();
    site.store.close().await;
    let closed = site.store.ping().await.unwrap_err();
    assert!(matches!(closed, StoreError::Unavailable(_)), "{closed:?}");
}
