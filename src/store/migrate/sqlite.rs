//! Migrations on SQLite. Building an index keeps the app from writing while it lasts.

use std::borrow::Cow;

use sqlx::migrate::{Migrate as _, Migrator};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Sqlite, SqliteConnection};

use super::{Addition, MigrateError, Step, app_schema, pending, within};
use crate::config::Config;
use crate::store::schema::AppSchema;
use crate::store::sqlite::connect_options;

const APPLIED: &str = "headcount_migrations";

fn migrator() -> Migrator {
    Migrator {
        ignore_missing: true, // of a newer version, after going back to this one
        table_name: Cow::Borrowed(APPLIED),
        ..sqlx::migrate!("./migrations/sqlite")
    }
}

pub(super) async fn migrate(url: &str, config: &Config, dry_run: bool) -> Result<Vec<Step>, MigrateError> {
    let options = connect_options(url)
        .map_err(super::OpenError::Url)?
        .busy_timeout(config.database.statement_timeout);
    let mut connection = within(config.database.acquire_timeout, options.connect()).await?;
    let outcome = run(&mut connection, config, dry_run).await;
    // Everything is committed by now; a failure to say goodbye changes nothing.
    let _ = connection.close().await;
    outcome
}

async fn run(
    connection: &mut SqliteConnection,
    config: &Config,
    dry_run: bool,
) -> Result<Vec<Step>, MigrateError> {
    let app = app_schema::<Sqlite>(connection, config).await?;
    let mut steps = own_tables(connection, dry_run).await?;
    for addition in additions(&app) {
        steps.extend(add(connection, &addition, dry_run).await?);
    }
    Ok(steps)
}

async fn own_tables(connection: &mut SqliteConnection, dry_run: bool) -> Result<Vec<Step>, MigrateError> {
    let migrator = migrator();
    let applied = if exists(connection, APPLIED).await? {
        connection
            .list_applied_migrations(APPLIED)
            .await
            .map_err(MigrateError::of_own_tables)?
    } else {
        Vec::new()
    };
    let pending = pending(&migrator, &applied)?;
    if !dry_run && !pending.is_empty() {
        migrator
            .run_direct(None, connection, false)
            .await
            .map_err(MigrateError::of_own_tables)?;
    }
    Ok(pending)
}

fn additions(app: &AppSchema) -> [Addition; 2] {
    [
        Addition::new(
            "headcount_event_community",
            include_str!("../../../migrations/app/sqlite/event_community.sql"),
            app,
        ),
        Addition::new(
            "headcount_session_user",
            include_str!("../../../migrations/app/sqlite/session_user.sql"),
            app,
        ),
    ]
}

/// Builds an index that is not there or that was built in other words, and records it: one transaction.
async fn add(
    connection: &mut SqliteConnection,
    addition: &Addition,
    dry_run: bool,
) -> Result<Vec<Step>, MigrateError> {
    let there = exists(connection, addition.name).await?;
    let recorded: Option<String> = if exists(connection, "headcount_addition").await? {
        sqlx::query_scalar("SELECT statement FROM headcount_addition WHERE name = ?1")
            .bind(addition.name)
            .fetch_optional(&mut *connection)
            .await?
    } else {
        None
    };
    if there && recorded.as_ref() == Some(&addition.create) {
        return Ok(Vec::new());
    }
    let mut steps = Vec::new();
    if there {
        steps.push(Step::new(
            format!("index {}: the former one", addition.name),
            format!("DROP INDEX {}", addition.name),
        ));
    }
    steps.push(addition.step());
    if !dry_run {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        for step in &steps {
            sqlx::raw_sql(AssertSqlSafe(step.sql.as_str()))
                .execute(&mut *transaction)
                .await
                .map_err(MigrateError::of_step(step))?;
        }
        sqlx::query("INSERT OR REPLACE INTO headcount_addition (name, statement) VALUES (?1, ?2)")
            .bind(addition.name)
            .bind(&addition.create)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
    }
    Ok(steps)
}

async fn exists(connection: &mut SqliteConnection, name: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = ?1)")
        .bind(name)
        .fetch_one(connection)
        .await
}
