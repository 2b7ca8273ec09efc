//! Sessions by token, communities by slug and id.

use headcount::ids::CommunityId;
use headcount::store::StoreError;

use super::alice;
use crate::store_site::{SessionRow, Site, Variant, at, token};

contract! {
    a_token_finds_its_session_whatever_its_state,
    an_unknown_token_is_nobodys,
    a_slug_finds_its_community,
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

async fn a_community_exists_in_one_spelling_only(variant: Variant) {
    let site = Site::new(variant).await;
    let gardening = site.community("gardening").await;
    assert!(site.store.community_exists(&gardening).await.unwrap());
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
            .community_exists(&CommunityId::new(other.clone()))
            .await;
        assert!(!exists.unwrap(), "{other:?}");
    }
}

async fn the_store_answers_pings_and_closes(variant: Variant) {
    let site = Site::new(variant).await;
    site.store.ping().await.unwrap();
    site.store.close().await;
    let closed = site.store.ping().await.unwrap_err();
    assert!(matches!(closed, StoreError::Unavailable(_)), "{closed:?}");
}
