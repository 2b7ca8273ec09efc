//! Migrations on Postgres. Indexes are built `CONCURRENTLY`, so that the app goes on writing meanwhile.

mod trigger;

use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, Postgres};

use super::{Addition, MigrateError, Step, additions, app_schema, migrator, own_migrations, within};
use crate::config::Config;
use crate::store::postgres::connect_options;
use crate::store::schema::AppSchema;

const SCHEMA: &str = "headcount";
const APPLIED: &str = "headcount._sqlx_migrations";

pub(super) async fn migrate(url: &str, config: &Config, dry_run: bool) -> Result<Vec<Step>, MigrateError> {
    let options = connect_options(url)?.options([("statement_timeout", "0"), ("lock_timeout", "0")]);
    let mut connection = within(config.database.acquire_timeout, options.connect()).await?;
    let outcome = alone(&mut connection, config, dry_run).await;
    // Everything is committed by now; a failure to say goodbye changes nothing.
    let _ = connection.close().await;
    outcome
}

/// Migrates while no other does.
async fn alone(
    connection: &mut PgConnection,
    config: &Config,
    dry_run: bool,
) -> Result<Vec<Step>, MigrateError> {
    if dry_run {
        return run(connection, config, dry_run).await;
    }
    // Not waiting: a session that waits holds a snapshot, for which the other's CONCURRENTLY would wait.
    let locked: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtext('headcount migrate'))")
        .fetch_one(&mut *connection)
        .await?;
    if !locked {
        return Err(MigrateError::Busy);
    }
    let outcome = run(connection, config, dry_run).await;
    // Given back now: the server notices the end of a connection only a little after we do. Where this
    // fails, it goes with the connection.
    let _ = sqlx::query("SELECT pg_advisory_unlock(hashtext('headcount migrate'))")
        .execute(connection)
        .await;
    outcome
}

async fn run(
    connection: &mut PgConnection,
    config: &Config,
    dry_run: bool,
) -> Result<Vec<Step>, MigrateError> {
    let app = app_schema::<Postgres>(connection, config).await?;
    let mut steps = own_tables(connection, dry_run).await?;
    for addition in additions(
        &app,
        include_str!("../../../migrations/app/postgres/event_community.sql"),
        include_str!("../../../migrations/app/postgres/session_user.sql"),
    ) {
        steps.extend(add(connection, &app, &addition, dry_run).await?);
    }
    steps.extend(trigger::settle(connection, config, &app, dry_run).await?);
    Ok(steps)
}

async fn own_tables(connection: &mut PgConnection, dry_run: bool) -> Result<Vec<Step>, MigrateError> {
    let mut steps = Vec::new();
    // Asked first, because even `IF NOT EXISTS` needs the right to create.
    let schema_exists: bool = sqlx::query_scalar("SELECT to_regnamespace($1) IS NOT NULL")
        .bind(SCHEMA)
        .fetch_one(&mut *connection)
        .await?;
    if !schema_exists {
        let step = Step::new("schema headcount", "CREATE SCHEMA headcount");
        if !dry_run {
            execute(connection, &step).await?;
        }
        steps.push(step);
    }
    let begun = exists(connection, APPLIED).await?;
    let migrator = migrator(sqlx::migrate!("./migrations/postgres"), APPLIED);
    steps.extend(own_migrations(connection, &migrator, begun, dry_run).await?);
    Ok(steps)
}

/// Builds an index that is not there, that an interrupted build left invalid, or that was built in other
/// words.
async fn add(
    connection: &mut PgConnection,
    app: &AppSchema,
    addition: &Addition,
    dry_run: bool,
) -> Result<Vec<Step>, MigrateError> {
    let valid: Option<(String, bool)> = sqlx::query_as(
        "SELECT i.indexrelid::regclass::text, i.indisvalid
         FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
         WHERE c.relname = $1 AND i.indrelid IN (to_regclass($2), to_regclass($3))",
    )
    .bind(addition.name)
    .bind(app.event.table.to_string())
    .bind(app.session.table.to_string())
    .fetch_optional(&mut *connection)
    .await?;
    let recorded = recorded(connection, addition.name).await?;

    let mut steps = Vec::new();
    match valid {
        Some((_, true)) if recorded.as_ref() == Some(&addition.create) => return Ok(steps),
        // Built, but the process ended before it was recorded.
        Some((_, true)) if recorded.is_none() => {}
        // Invalid, or in other words.
        Some((index, _)) => {
            steps.push(Step::new(
                format!("index {}: the former one", addition.name),
                format!("DROP INDEX CONCURRENTLY IF EXISTS {index}"),
            ));
            steps.push(addition.step("index"));
        }
        None => steps.push(addition.step("index")),
    }
    if !dry_run {
        for step in &steps {
            execute(connection, step).await?;
        }
        record(connection, addition).await?;
    }
    Ok(steps)
}

/// The words in which an addition was made.
async fn recorded(connection: &mut PgConnection, addition: &str) -> Result<Option<String>, sqlx::Error> {
    if !exists(connection, "headcount.addition").await? {
        return Ok(None);
    }
    sqlx::query_scalar("SELECT statement FROM headcount.addition WHERE name = $1")
        .bind(addition)
        .fetch_optional(connection)
        .await
}

async fn record(connection: &mut PgConnection, addition: &Addition) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO headcount.addition (name, statement) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE SET statement = excluded.statement, applied_at = now()",
    )
    .bind(addition.name)
    .bind(&addition.create)
    .execute(connection)
    .await
    .map(drop)
}

/// Runs one statement as it is: CONCURRENTLY can not be in a transaction.
async fn execute(connection: &mut PgConnection, step: &Step) -> Result<(), MigrateError> {
    sqlx::raw_sql(AssertSqlSafe(step.sql.as_str()))
        .execute(connection)
        .await
        .map(drop)
        .map_err(MigrateError::of_step(step))
}

async fn exists(connection: &mut PgConnection, table: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(table)
        .fetch_one(connection)
        .await
}
