//! Sites that keep their sessions in tables of different kinds, and their members.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use headcount::browser_session::BrowserSession;
use headcount::config::{Config, SessionKind};
use headcount::ids::UserId;
use headcount::store::{SessionFound, migrate};

use crate::store_site::{SessionRow, Site, Variant, at, token};

/// How the site keeps its sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Every column; sessions name the profile.
    Full,
    /// django-user-sessions: no key but the token, no flags; sessions name the account.
    UserSessions,
    /// Django's own; the account is in the data.
    Django,
}

/// A site whose members sign in.
pub struct Members {
    pub site: Site,
    pub kind: Kind,
}

const TABLES: &str = r#"
    ALTER TABLE "accounts_userprofile" ADD "account_id" integer NULL;
    CREATE TABLE "user_sessions_session" ("session_key" varchar(88) NOT NULL PRIMARY KEY,
        "session_data" text NOT NULL, "user_id" integer NULL, "ip" INET NULL, "user_agent" varchar(200) NULL,
        "created_at" MOMENT NOT NULL, "updated_at" MOMENT NOT NULL, "expire_date" MOMENT NOT NULL);
    CREATE TABLE "django_session" ("session_key" varchar(88) NOT NULL PRIMARY KEY, "session_data" text NOT NULL,
        "expire_date" MOMENT NOT NULL);
"#;

/// The data of Django's session: the account's sign-in, signed by nobody.
fn django_data(account: &str) -> String {
    let json = format!(
        r#"{{"_auth_user_id":"{account}","_auth_user_backend":"django.contrib.auth.backends.ModelBackend","_auth_user_hash":"0f"}}"#
    );
    format!("{}:1tXyZa:c2lnbmF0dXJl", URL_SAFE_NO_PAD.encode(json))
}

impl Members {
    pub async fn new(variant: Variant, kind: Kind) -> Self {
        Self::with(variant, kind, |_| {}).await
    }

    /// The same, configured otherwise.
    pub async fn with(variant: Variant, kind: Kind, more: impl FnOnce(&mut Config)) -> Self {
        let site = Site::unmigrated_with(variant, |config| {
            configure(config, kind);
            more(config);
        })
        .await;
        let (moment, inet) = if variant.is_postgres() {
            ("timestamp with time zone", "inet")
        } else {
            ("datetime", "char(39)")
        };
        site.execute(&TABLES.replace("MOMENT", moment).replace("INET", inet))
            .await;
        migrate(&site.config, false).await.expect("it is migrated");
        Self { site, kind }
    }

    /// Somebody signs up; the account's key is another than the profile's.
    pub async fn member(&self, name: &str) -> UserId {
        let user = self.site.member(name).await;
        self.site
            .execute(r#"UPDATE "accounts_userprofile" SET "account_id" = 1000 + "id""#)
            .await;
        user
    }

    pub fn account(user: &UserId) -> String {
        (1000 + user.as_str().parse::<i64>().expect("a number")).to_string()
    }

    /// Somebody signs in; the table gets this value for the token.
    pub async fn signs_in(&self, user: &UserId, stored: &str, expires_at: DateTime<Utc>) {
        if self.kind == Kind::Full {
            let row = SessionRow {
                expires_at,
                pages_visited: 7,
                ..SessionRow::default()
            };
            self.site.session(user, stored, row).await;
        } else {
            self.has_session(stored, Some(&Self::account(user)), expires_at)
                .await;
        }
    }

    /// A session of an account, or of somebody who has not signed in.
    pub async fn has_session(&self, stored: &str, account: Option<&str>, expires_at: DateTime<Utc>) {
        let expires_at = expires_at.format("%Y-%m-%d %H:%M:%S%.6f");
        let sql = if self.kind == Kind::Django {
            let data = account.map_or_else(|| "e30:1tXyZa:c2ln".to_owned(), django_data);
            format!(r#"INSERT INTO "django_session" VALUES ('{stored}', '{data}', '{expires_at}')"#)
        } else {
            let account = account.unwrap_or("NULL");
            format!(
                r#"INSERT INTO "user_sessions_session"
                   VALUES ('{stored}', '', {account}, NULL, NULL, '2024-03-03 09:00:00', '2024-03-03 09:00:00',
                           '{expires_at}')"#
            )
        };
        self.site.execute(&sql).await;
    }

    /// What the table has for a token.
    pub async fn has(&self, of: &str) -> Option<SessionFound> {
        let token = token(of);
        let mut found = self
            .site
            .store
            .browser_sessions(std::slice::from_ref(&token))
            .await
            .unwrap();
        found.remove(&token).map(Result::unwrap)
    }

    /// The session that the table has for a token.
    pub(super) async fn found(&self, of: &str) -> BrowserSession {
        self.has(of).await.expect("a row").expect("a session")
    }
}

/// The site's table has tokens and users alone, or these columns besides.
pub(super) fn has_only(config: &mut Config, kept: &[&str]) {
    let columns = &mut config.schema.session.columns;
    for column in [
        &mut columns.id,
        &mut columns.pages_visited,
        &mut columns.started_at,
        &mut columns.ended_at,
        &mut columns.expires_at,
        &mut columns.is_active,
        &mut columns.is_ended,
    ] {
        if !kept.contains(&column.as_str()) {
            column.clear();
        }
    }
}

fn configure(config: &mut Config, kind: Kind) {
    match kind {
        Kind::Full => return,
        Kind::Django => config.session.kind = SessionKind::Django,
        Kind::UserSessions => {
            config.schema.session.table = "user_sessions_session".into();
            let columns = &mut config.schema.session.columns;
            columns.session_id = "session_key".into();
            columns.started_at = "created_at".into();
            columns.expires_at = "expire_date".into();
            has_only(config, &["created_at", "expire_date"]);
        }
    }
    config.schema.profile.columns.account = "account_id".into();
}

pub fn later() -> DateTime<Utc> {
    at("2999-01-01T00:00:00Z")
}

pub const DATABASES: [Variant; 2] = [Variant::PostgresDefault, Variant::SqliteDefault];
