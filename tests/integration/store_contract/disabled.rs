//! Accounts that the site has disabled, in the profile or beside it, whatever identifies the caller.

use std::slice;

use chrono::{DateTime, Utc};
use headcount::browser_session::Unusable;
use headcount::config::{JoinedColumn, ProfileColumn};
use headcount::ids::{AccountId, Claims, SessionToken, UserId};
use headcount::store::Store;

use super::session_kinds::{Kind, Members, later};
use crate::store_site::token;

fn jwt(account: &str) -> SessionToken {
    SessionToken::of_jwt(Claims {
        account: AccountId::from(account),
        session: None,
        expires_at: DateTime::<Utc>::MAX_UTC,
        key: None,
    })
}

/// The user of a token, or why there is none.
async fn user(store: &dyn Store, token: SessionToken) -> Result<String, Unusable> {
    let mut found = store
        .browser_sessions(std::slice::from_ref(&token))
        .await
        .unwrap();
    let session = found.remove(&token).expect("a row").unwrap();
    session.map(|session| session.user_id.to_string())
}

/// Those of alice and bob whom lists show.
async fn shown(store: &dyn Store, members: [&UserId; 2]) -> Vec<UserId> {
    let rows = store.visitors(&members.map(UserId::clone)).await.unwrap();
    let mut shown: Vec<_> = rows.into_iter().map(|row| row.user_id).collect();
    shown.sort_by_key(|user| user != members[0]);
    shown
}

/// Whoever has a session or a JWT of such an account; no list shows the account's user.
pub async fn is_nobody(members: Members) {
    let site = &members.site;
    let (alice, bob) = (members.member("alice").await, members.member("bob").await);
    let carol = members.member("carol").await;
    members.signs_in(&alice, "token-of-alice", later()).await;
    members.signs_in(&bob, "token-of-bob", later()).await;
    members.signs_in(&carol, "token-of-carol", later()).await;
    site.execute(
        r#"CREATE TABLE "site_account" ("id" integer NOT NULL PRIMARY KEY, "in_use" boolean NOT NULL);
           INSERT INTO "site_account" SELECT "account_id", true FROM "accounts_userprofile";
           ALTER TABLE "accounts_userprofile" ADD "enabled" boolean NULL;
           UPDATE "accounts_userprofile" SET "enabled" = true"#,
    )
    .await;
    let with =
        |column: ProfileColumn| site.reconfigured(|config| config.schema.profile.columns.is_active = column);
    let stores = [
        with(ProfileColumn::Own("enabled".into())),
        with(ProfileColumn::Joined(JoinedColumn {
            table: "site_account".into(),
            key: "id".into(),
            of: "account_id".into(),
            column: "in_use".into(),
        })),
    ];
    let named = |user| match members.kind {
        Kind::Full => format!("{user}"),
        Kind::UserSessions | Kind::Django => Members::account(user),
    };
    for store in &stores {
        assert_eq!(
            user(&**store, token("token-of-alice")).await,
            Ok(alice.to_string())
        );
        assert_eq!(user(&**store, jwt(&named(&alice))).await, Ok(alice.to_string()));
        assert_eq!(
            shown(&**store, [&alice, &bob]).await,
            [alice.clone(), bob.clone()]
        );
    }
    let account = Members::account(&alice);
    site.execute(&format!(
        r#"UPDATE "site_account" SET "in_use" = false WHERE "id" = {account};
           UPDATE "accounts_userprofile" SET "enabled" = false WHERE "id" = {alice}"#
    ))
    .await;
    for store in &stores {
        for of_alice in [token("token-of-alice"), jwt(&named(&alice))] {
            assert_eq!(user(&**store, of_alice).await, Err(Unusable::Disabled));
        }
        for of_bob in [token("token-of-bob"), jwt(&named(&bob))] {
            assert_eq!(user(&**store, of_bob).await, Ok(bob.to_string()));
        }
        assert_eq!(shown(&**store, [&alice, &bob]).await, slice::from_ref(&bob));
        // Where nothing is said of it, all go on.
        assert_eq!(
            user(&*site.store, token("token-of-alice")).await,
            Ok(alice.to_string())
        );
        assert_eq!(shown(&*site.store, [&alice, &bob]).await.len(), 2);
    }
    // Nobody knows, or there is no account any more.
    let account = Members::account(&bob);
    site.execute(&format!(
        r#"DELETE FROM "site_account" WHERE "id" = {account};
           UPDATE "accounts_userprofile" SET "enabled" = NULL WHERE "id" = {bob}"#
    ))
    .await;
    for store in &stores {
        assert_eq!(
            user(&**store, token("token-of-bob")).await,
            Err(Unusable::Disabled)
        );
        assert_eq!(shown(&**store, [&alice, &bob]).await, []);
    }
    // The profile is gone, too, in an app whose sessions do not refer to it.
    for store in &stores {
        for of_carol in [token("token-of-carol"), jwt(&named(&carol))] {
            assert_eq!(user(&**store, of_carol).await, Ok(carol.to_string()));
        }
    }
    site.execute(&deletes_profile(&members, &carol)).await;
    let why = match members.kind {
        Kind::Full => Unusable::Disabled,
        Kind::UserSessions | Kind::Django => Unusable::NoProfile,
    };
    for store in &stores {
        for of_carol in [token("token-of-carol"), jwt(&named(&carol))] {
            assert_eq!(user(&**store, of_carol).await, Err(why));
        }
    }
}

fn deletes_profile(members: &Members, user: &UserId) -> String {
    let delete = format!(r#"DELETE FROM "accounts_userprofile" WHERE "id" = {user}"#);
    if members.site.variant.is_postgres() {
        format!(
            r#"ALTER TABLE "accounts_usersession" DROP CONSTRAINT "accounts_usersession_user_id_567c9519_fk_accounts_"; {delete}"#
        )
    } else {
        format!("PRAGMA foreign_keys = OFF; {delete}; PRAGMA foreign_keys = ON")
    }
}
