//! The app's tables in SQLite, Django's own default: its file, its journal mode, its forms of values.
//!
//! The files are those of `postgres`, plus `values`: how Django writes keys and moments as text.

mod apply;
mod identify;
mod introspect;
mod stats;
mod values;
mod visitors;

use std::str::FromStr as _;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::sqlite::{Sqlite, SqliteConnectOptions};
use sqlx::{ConnectOptions as _, SqliteConnection};

use super::connections::{Backend, Connections};
use super::schema::{LiveSchema, Resolved};
use super::{Stats, Store, StoreError, VisitorRow};
use crate::auth::BrowserSession;
use crate::config::{self, Schema};
use crate::ids::{CommunityId, SessionToken, UserId};
use crate::writer::batch::Batch;

/// The app's tables in SQLite.
pub struct SqliteStore {
    connections: Connections<Sqlite>,
    rules: apply::Rules,
}

impl SqliteStore {
    /// Prepares the pool. Opens nothing, so it succeeds while the file is not there yet; the URL alone can
    /// be wrong. Must be called on a tokio runtime.
    pub fn connect(url: &str, config: &config::Config) -> Result<Self, sqlx::Error> {
        let database = &config.database;
        let options = connect_options(url)?.busy_timeout(database.lock_timeout);
        Ok(Self {
            connections: Connections::new(options, database, &config.schema, &config.record),
            rules: apply::Rules::new(config),
        })
    }

    pub(super) async fn resolved(&self) -> Result<Resolved, StoreError> {
        self.connections.resolved().await
    }
}

/// Options from the URL, for the store and for migrations. The file is the app's: never created here, and
/// its journal mode is left as the app set it.
pub(super) fn connect_options(url: &str) -> Result<SqliteConnectOptions, sqlx::Error> {
    Ok(SqliteConnectOptions::from_str(url)?.disable_statement_logging())
}

impl Backend for Sqlite {
    async fn introspect(
        connection: &mut SqliteConnection,
        names: &Schema,
    ) -> Result<LiveSchema, sqlx::Error> {
        introspect::live_schema(connection, names).await
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn browser_session(&self, token: &SessionToken) -> Result<Option<BrowserSession>, StoreError> {
        self.connections.run(&identify::FindSession { token }).await
    }

    async fn community_by_slug(&self, slug: &str) -> Result<Option<CommunityId>, StoreError> {
        self.connections.run(&identify::FindCommunity { slug }).await
    }

    async fn community_exists(&self, community: &CommunityId) -> Result<bool, StoreError> {
        self.connections
            .run(&identify::CommunityExists { community })
            .await
    }

    async fn apply(&self, batch: &Batch) -> Result<(), StoreError> {
        if batch.views.is_empty() {
            return Ok(());
        }
        let rules = &self.rules;
        self.connections.run(&apply::Apply { batch, rules }).await
    }

    async fn visitors(&self, users: &[UserId]) -> Result<Vec<VisitorRow>, StoreError> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let now = Utc::now();
        self.connections.run(&visitors::Visitors { users, now }).await
    }

    async fn stats(
        &self,
        community: &CommunityId,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<Stats, StoreError> {
        let only_ours = self.rules.events;
        self.connections
            .run(&stats::StatsOf {
                community,
                from,
                to,
                only_ours,
            })
            .await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.connections.ping().await
    }

    async fn close(&self) {
        self.connections.close().await;
    }
}
