//! The sample site's database: Django-shaped tables in an `SQLite` file, and the site's few statements.
//! It neither reads nor writes what the sidecar records.

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions};
use uuid::Uuid;

use super::content::{COMMUNITIES, MEMBERS, Member};

/// How long a sign-in lasts.
pub(crate) const SESSION_LIFETIME: Duration = Duration::from_secs(14 * 24 * 3600);

/// The site's database.
#[derive(Debug, Clone)]
pub(crate) struct Tables(SqlitePool);

impl Tables {
    /// Creates the file with its tables, members and communities.
    pub(crate) async fn create(file: &Path) -> Result<Self, sqlx::Error> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            // The sidecar reads and writes the same file.
            .journal_mode(SqliteJournalMode::Wal)
            .busy_timeout(Duration::from_secs(5));
        let pool = SqlitePoolOptions::new()
            .max_connections(2)
            .connect_with(options)
            .await?;
        let tables = Self(pool);
        sqlx::raw_sql(include_str!("tables.sql"))
            .execute(&tables.0)
            .await?;
        tables.seed().await?;
        Ok(tables)
    }

    async fn seed(&self) -> Result<(), sqlx::Error> {
        let mut transaction = self.0.begin().await?;
        let now = datetime(Utc::now());
        for member in MEMBERS {
            sqlx::query("INSERT INTO accounts_userprofile (id, username, profile_picture, last_active) VALUES (?, ?, ?, ?)")
                .bind(member.id)
                .bind(member.username)
                .bind(format!("avatars/{}.svg", member.username))
                .bind(&now)
                .execute(&mut *transaction)
                .await?;
        }
        for community in COMMUNITIES {
            sqlx::query(
                "INSERT INTO communities_community (id, slug, name, is_private) VALUES (?, ?, ?, FALSE)",
            )
            .bind(community.id)
            .bind(community.slug)
            .bind(community.name)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await
    }

    /// Starts a session and returns its token.
    pub(crate) async fn sign_in(&self, member: &Member, user_agent: &str) -> Result<String, sqlx::Error> {
        let token = Uuid::new_v4().simple().to_string();
        let now = Utc::now();
        sqlx::query(
            "INSERT INTO accounts_usersession (id, session_id, user_id, ip_address, user_agent, device_info, \
             location_data, device_fingerprint, fast_fingerprint, pages_visited, started_at, ended_at, \
             expires_at, is_active, is_ended, persistent, termination_reason) \
             VALUES (?, ?, ?, '127.0.0.1', ?, '{}', '{}', '', '', 0, ?, NULL, ?, TRUE, FALSE, FALSE, '')",
        )
        .bind(Uuid::new_v4().simple().to_string())
        .bind(&token)
        .bind(member.id)
        .bind(user_agent)
        .bind(datetime(now))
        .bind(datetime(now + SESSION_LIFETIME))
        .execute(&self.0)
        .await?;
        Ok(token)
    }

    /// Ends a session. Unknown tokens are no error.
    pub(crate) async fn sign_out(&self, token: &str) -> Result<(), sqlx::Error> {
        sqlx::query(
            "UPDATE accounts_usersession SET is_active = FALSE, is_ended = TRUE, ended_at = ?, \
             termination_reason = 'logout' WHERE session_id = ? AND NOT is_ended",
        )
        .bind(datetime(Utc::now()))
        .bind(token)
        .execute(&self.0)
        .await?;
        Ok(())
    }

    /// The member whose valid session this is, by id.
    pub(crate) async fn member_of(&self, token: &str) -> Result<Option<i64>, sqlx::Error> {
        sqlx::query_scalar(
            "SELECT user_id FROM accounts_usersession \
             WHERE session_id = ? AND is_active AND NOT is_ended AND expires_at > ?",
        )
        .bind(token)
        .bind(datetime(Utc::now()))
        .fetch_optional(&self.0)
        .await
    }
}

/// A moment as Django stores it in `SQLite`: UTC without offset.
fn datetime(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S%.6f").to_string()
}
