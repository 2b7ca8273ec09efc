//! The sessions of JWTs, over both databases and both schemas.

use chrono::{DateTime, Utc};
use headcount::browser_session::BrowserSession;
use headcount::ids::{AccountId, Claims, SessionToken};
use headcount::store::Store;

use crate::store_site::{SessionRow, Site, Variant, key_of, token};

const VARIANTS: [Variant; 4] = [
    Variant::PostgresDefault,
    Variant::PostgresRenamed,
    Variant::SqliteDefault,
    Variant::SqliteRenamed,
];

fn jwt(account: &str, session: Option<&str>) -> SessionToken {
    SessionToken::of_jwt(Claims {
        account: AccountId::from(account),
        session: session.map(Into::into),
        expires_at: DateTime::<Utc>::MAX_UTC,
        key: None,
    })
}

async fn found(store: &dyn Store, account: &str, session: Option<&str>) -> Option<BrowserSession> {
    store.browser_session(&jwt(account, session)).await.unwrap()
}

#[tokio::test]
async fn i25_the_session_of_a_jwt_is_found_by_its_key_and_its_user() {
    for variant in VARIANTS {
        let site = Site::new(variant).await;
        let (alice, bob) = (site.member("alice").await, site.member("bob").await);
        let row = site
            .session(&alice, "token-of-alice", SessionRow::default())
            .await;
        let key = key_of(&row).as_str();
        let of = async |account: &str, session| found(&*site.store, account, session).await;
        assert_eq!(
            of(alice.as_str(), Some(key)).await.as_ref(),
            Some(&*row),
            "{variant:?}"
        );
        let spelled = key.to_uppercase();
        assert_eq!(of(alice.as_str(), Some(&spelled)).await.as_ref(), Some(&*row));
        assert_eq!(of(bob.as_str(), Some(key)).await, None);
        for other in [
            "0190163d-8694-739b-aea5-966c26f8ad91",
            "987654321",
            "no key",
            "' OR 1=1 --",
        ] {
            assert_eq!(of(alice.as_str(), Some(other)).await, None, "{other}");
        }
        let without = of(alice.as_str(), None).await.expect("a user");
        assert_eq!((&without.id, &without.user_id), (&None, &alice));
        assert_eq!(of("no key", None).await, None);
        // Both kinds in one call.
        let all = [
            jwt(alice.as_str(), Some(key)),
            token("token-of-alice"),
            jwt(bob.as_str(), None),
            token("nobody's"),
        ];
        let sessions = site.store.browser_sessions(&all).await.unwrap();
        assert_eq!(sessions.len(), 3, "{variant:?}");
    }
}

#[tokio::test]
async fn i25_the_account_that_a_jwt_names_leads_to_its_profile() {
    for variant in [Variant::PostgresDefault, Variant::SqliteDefault] {
        let site = Site::new(variant).await;
        let alice = site.member("alice").await;
        site.execute(r#"ALTER TABLE "accounts_userprofile" ADD "account_id" integer NULL"#)
            .await;
        site.execute(&format!(
            r#"UPDATE "accounts_userprofile" SET "account_id" = 7007 WHERE "id" = {alice}"#
        ))
        .await;
        site.session(&alice, "token-of-alice", SessionRow::default())
            .await;
        let store =
            site.reconfigured(|config| config.schema.profile.columns.jwt_account = "account_id".into());
        // Sessions name the profile all the same.
        let session = store.browser_session(&token("token-of-alice")).await.unwrap();
        assert_eq!(session.map(|session| session.user_id), Some(alice.clone()));
        let both = site.reconfigured(|config| config.schema.profile.columns.account = "account_id".into());
        assert!(found(&*both, "7007", None).await.is_some());
        for (account, is_known) in [
            ("7007", true),
            ("07007", true),
            ("7008", false),
            (alice.as_str(), false),
        ] {
            let session = found(&*store, account, None).await;
            assert_eq!(
                session.map(|session| session.user_id),
                is_known.then(|| alice.clone()),
                "{account}"
            );
        }
    }
}
