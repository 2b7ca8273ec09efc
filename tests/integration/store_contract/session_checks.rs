//! What `headcount check` says of sessions that would not be recognised, or not as whom they are.

use headcount::config::TokenHash;

use super::session_kinds::{DATABASES, Kind, Members, later};
use crate::store_site::Variant;
use crate::support::examined;

/// What nobody would be recognised by is said, without a value of a row.
#[tokio::test]
async fn i21_rows_that_would_not_be_recognised_are_told() {
    for variant in DATABASES {
        for (kind, configured, rows, said) in [
            (
                Kind::UserSessions,
                TokenHash::Sha256,
                &[("a-token-that-is-long-enough", Some("1001"))][..],
                "1 of 1 values in column QsessionkeyQ of table QTABLEQ are no SHA-256 in hexadecimal digits: set \
                 session.token_hash to what the column holds",
            ),
            (
                Kind::UserSessions,
                TokenHash::Sha256Base64,
                &[("a-token-that-is-long-enough", Some("1001"))],
                "are no SHA-256 in base64: set session.token_hash",
            ),
            (
                Kind::UserSessions,
                TokenHash::None,
                &[(
                    "f39dac6cbaba535e2c207cd0cd8f154974223c848f727f98b3564cea569b41cf",
                    Some("1001"),
                )],
                "have the form of a SHA-256: if the cookie's value is another, set session.token_hash = \"sha256\"",
            ),
            (
                Kind::UserSessions,
                TokenHash::None,
                &[("short", Some("1001"))],
                "is from session.token_min_length (16) to session.token_max_length (255) characters long",
            ),
            (
                Kind::UserSessions,
                TokenHash::None,
                &[("a-token-that-is-long-enough", None)],
                "none of 1 live sessions in table",
            ),
            (
                Kind::UserSessions,
                TokenHash::None,
                &[("a-token-that-is-long-enough", Some("99"))],
                "1 of 1 signed-in users of live sessions have no row in table",
            ),
            (
                Kind::Django,
                TokenHash::None,
                &[("a-token-that-is-long-enough", Some("99"))],
                "1 of 1 signed-in users of live sessions have no row in table",
            ),
            (
                Kind::Django,
                TokenHash::None,
                &[(
                    "a-token-that-is-long-enough",
                    Some("0190163d-8694-739b-aea5-966c26f8ad91"),
                )],
                "that column QaccountidQ (integer) of table",
            ),
            (
                Kind::Django,
                TokenHash::None,
                &[],
                "those of the SESSION_ENGINE backends cache, file and signed_cookies cannot be read",
            ),
        ] {
            let mut members = Members::new(variant, kind).await;
            members.site.config.session.token_hash = configured;
            members.member("alice").await;
            for (stored, account) in rows {
                members.has_session(stored, *account, later()).await;
            }
            let notes = examined::notes(&members.site.config).await.unwrap().join("\n");
            let plain = notes.replace(['"', '`'], "Q").replace('_', "");
            let said = said.replace(
                "TABLE",
                if variant.is_postgres() {
                    "publicQ.Qusersessionssession"
                } else {
                    "usersessionssession"
                },
            );
            let said = said.replace('"', "Q").replace('_', "");
            assert!(plain.contains(&said), "{variant:?}: {said}\n{plain}");
            for (stored, _) in rows {
                assert!(!notes.contains(stored), "{notes}");
            }
        }
    }
}

/// Of the wrong kind: each is one sentence with the cure.
#[tokio::test]
async fn i19_an_account_of_another_type_is_told() {
    for (column, said) in [
        (
            "account_id",
            "but the account that it refers to, column account_id of table \"public\".\"accounts_userprofile\", is of \
             type uuid: set schema.session.columns.user_id and schema.profile.columns.account to columns with the same \
             account's key",
        ),
        (
            "no_such",
            "has no column no_such: set schema.profile.columns.account to the name of the column that holds it",
        ),
    ] {
        let mut members = Members::new(Variant::PostgresDefault, Kind::UserSessions).await;
        members
            .site
            .execute("ALTER TABLE accounts_userprofile DROP account_id, ADD account_id uuid")
            .await;
        members.site.config.schema.profile.columns.account = column.into();
        let problems = examined::tables(&members.site.config).await.unwrap();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].to_string().ends_with(said), "{}", problems[0]);
    }
}

/// Accounts and profiles with keys of one type are told apart by the foreign keys.
#[tokio::test]
async fn i19_sessions_that_name_accounts_are_told_where_nothing_leads_to_profiles() {
    for variant in DATABASES {
        for kind in [Kind::UserSessions, Kind::Django] {
            let mut members = Members::new(variant, kind).await;
            let site = &members.site;
            site.execute(r#"CREATE TABLE "auth_user" ("id" integer NOT NULL PRIMARY KEY)"#)
                .await;
            let named = |name: &str| {
                if variant.is_postgres() {
                    format!("\"public\".\"{name}\"")
                } else {
                    format!("`{name}`")
                }
            };
            site.execute(if variant.is_postgres() {
                "ALTER TABLE accounts_userprofile ADD FOREIGN KEY (account_id) REFERENCES auth_user;
                 ALTER TABLE user_sessions_session ADD FOREIGN KEY (user_id) REFERENCES auth_user"
            } else {
                "DROP INDEX IF EXISTS headcount_session_user;
                 ALTER TABLE accounts_userprofile DROP account_id;
                 ALTER TABLE accounts_userprofile ADD account_id integer REFERENCES auth_user(id);
                 ALTER TABLE user_sessions_session DROP user_id;
                 ALTER TABLE user_sessions_session ADD user_id integer REFERENCES auth_user(id)"
            })
            .await;
            assert!(
                examined::tables(&members.site.config).await.unwrap().is_empty(),
                "{variant:?} {kind:?}"
            );
            members.site.config.schema.profile.columns.account.clear();
            let problems = examined::tables(&members.site.config).await.unwrap();
            let (profile, account) = (named("accounts_userprofile"), named("auth_user"));
            let said = match kind {
                Kind::Django => {
                    format!("Django's sessions name accounts, of table {account}, and not rows of {profile}")
                }
                _ => format!(
                    "column user_id of table {} refers to table {account} and not to {profile}",
                    named("user_sessions_session")
                ),
            };
            assert_eq!(
                problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
                [format!(
                    "{said}, so that page views would be those of whoever has the same key there: set \
                     schema.profile.columns.account = \"account_id\", the column of {profile} that refers to {account}"
                )],
                "{variant:?}"
            );
            // Where the profile's own key is the account's, nothing is missing.
            members.site.config.schema.profile.columns.id = "account_id".into();
            let problems = examined::tables(&members.site.config).await.unwrap();
            assert!(
                !problems
                    .iter()
                    .any(|problem| problem.to_string().contains("same key")),
                "{problems:?}"
            );
        }
    }
}
