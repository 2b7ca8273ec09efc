//! The app's tables in Postgres.
//!
//! One file per owner of a query: `identify` (session and community lookups), `apply` (the one write),
//! `visitors`, `stats`, and `introspect`, which reads the catalogue. Values go in as text and are cast to
//! the column's type, so that one statement serves `bigint` and `uuid` keys alike.

mod apply;
mod identify;
mod introspect;
mod stats;
mod visitors;

use std::str::FromStr as _;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::postgres::{PgConnectOptions, Postgres};
use sqlx::{ConnectOptions as _, PgConnection};

use super::connections::{Backend, Connections};
use super::schema::{Column, Kind, LiveSchema, Resolved};
use super::{Stats, Store, StoreError, VisitorRow};
use crate::auth::BrowserSession;
use crate::config::{self, Schema};
use crate::ids::{CommunityId, SessionToken, UserId};
use crate::writer::batch::Batch;

/// The app's tables in Postgres.
pub struct PostgresStore {
    connections: Connections<Postgres>,
    rules: apply::Rules,
}

impl PostgresStore {
    /// Prepares the pool. Opens no connection, so it succeeds while the database is down; the URL alone can
    /// be wrong. Must be called on a tokio runtime.
    pub fn connect(url: &str, config: &config::Config) -> Result<Self, sqlx::Error> {
        let database = &config.database;
        // The server gives up as well, so that it does not work on for nobody.
        let statement_timeout = database.statement_timeout.as_millis();
        let options = connect_options(url)?.options([("statement_timeout", statement_timeout)]);
        Ok(Self {
            connections: Connections::new(options, database, &config.schema, &config.record),
            rules: apply::Rules::new(config),
        })
    }

    pub(super) async fn resolved(&self) -> Result<Resolved, StoreError> {
        self.connections.resolved().await
    }
}

/// Options from the URL, for the store and for migrations.
pub(super) fn connect_options(url: &str) -> Result<PgConnectOptions, sqlx::Error> {
    let options = PgConnectOptions::from_str(url)?;
    let options = match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("headcount"),
    };
    Ok(options.disable_statement_logging())
}

impl Backend for Postgres {
    async fn introspect(connection: &mut PgConnection, names: &Schema) -> Result<LiveSchema, sqlx::Error> {
        introspect::live_schema(connection, names).await
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn browser_session(&self, token: &SessionToken) -> Result<Option<BrowserSession>, StoreError> {
        // W2: no row's token holds a NUL, and Postgres would refuse to compare.
        if token.expose_secret().contains('\0') {
            return Ok(None);
        }
        self.connections.run(&identify::FindSession { token }).await
    }

    async fn community_by_slug(&self, slug: &str) -> Result<Option<CommunityId>, StoreError> {
        if slug.contains('\0') {
            return Ok(None);
        }
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

/// A moment bound as `timestamptz`, in the column's own type.
fn moment(column: &Column, parameter: &str) -> String {
    match column.kind {
        Kind::Timestamp => format!("({parameter} AT TIME ZONE 'UTC')"),
        _ => parameter.to_owned(),
    }
}

/// A moment read as `timestamptz`. The driver cannot read `infinity` nor years beyond chrono's: both become
/// the year 9999, or null in the past.
fn read_moment(column: &Column, expression: &str) -> String {
    let moment = match column.kind {
        Kind::Timestamp => format!("({expression} AT TIME ZONE 'UTC')"),
        _ => expression.to_owned(),
    };
    format!(
        "CASE WHEN {moment} > '9999-12-31 00:00Z' THEN '9999-12-31 00:00Z' WHEN {moment} > '0001-01-01 00:00Z' \
         THEN {moment} END"
    )
}
