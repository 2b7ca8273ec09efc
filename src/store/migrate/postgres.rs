//! Migrations on Postgres. Indexes are built `CONCURRENTLY`, so that the app can write meanwhile.

mod counters;
mod index;
mod page_view;
mod rights;
mod trigger;
mod visits;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, Postgres, Transaction};

use super::{
    Addition, MigrateError, Own, Step, additions, app_schema, migrator, outcome, own_migrations,
    with_own_events, within,
};
use crate::config::{Config, Events};
use crate::store::operations::Backend as _;
use crate::store::postgres::{event_index, pooler};
use crate::store::schema::AppSchema;
use crate::store::schema::right::grant;

const SCHEMA: &str = "headcount";
const APPLIED: &str = "headcount._sqlx_migrations";

pub(super) const OWN: &[Own] = &[
    (
        1,
        "addition",
        include_str!("../../../migrations/postgres/0001_addition.sql"),
    ),
    (
        2,
        "ledger",
        include_str!("../../../migrations/postgres/0002_ledger.sql"),
    ),
    (
        3,
        "counters",
        include_str!("../../../migrations/postgres/0003_counters.sql"),
    ),
];

/// The index on the app's sessions.
const SESSION_USER: &str = include_str!("../../../migrations/app/postgres/session_user.sql");

/// Longest wait for a lock on the app's table, during which the app's writers wait behind us.
const LOCK_TIMEOUT: &str = "5s";

pub(super) async fn migrate(
    options: PgConnectOptions,
    config: &Config,
    dry_run: bool,
) -> Result<Vec<Step>, MigrateError> {
    let connected = within(config.database.acquire_timeout, options.connect()).await;
    let mut connection = connected.map_err(|error| {
        let right = Postgres::right_to_connect(&options);
        error.explained(right.map(|(right, role)| grant(&right, &role)).as_slice())
    })?;
    let outcome = match on_its_own(&mut connection, &options, config, dry_run).await {
        Err(error) if error.lacks_a_right() => {
            let lacking = rights::lacking(&mut connection, config).await;
            Err(error.explained(&lacking.unwrap_or_default()))
        }
        outcome => outcome,
    };
    // Everything is committed by now; a failure to close changes nothing.
    let _ = connection.close().await;
    outcome
}

/// Migrates on a connection that is not shared.
async fn on_its_own(
    connection: &mut PgConnection,
    options: &PgConnectOptions,
    config: &Config,
    dry_run: bool,
) -> Result<Vec<Step>, MigrateError> {
    if pooler::is_lent_by_the_transaction(connection, options).await? {
        return Err(MigrateError::Pooler);
    }
    // No timeout: an index takes as long as it takes.
    sqlx::raw_sql(
        "SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0",
    )
    .execute(&mut *connection)
    .await?;
    alone(connection, config, dry_run).await
}

/// Migrates under the lock that excludes other migrations.
async fn alone(
    connection: &mut PgConnection,
    config: &Config,
    dry_run: bool,
) -> Result<Vec<Step>, MigrateError> {
    if dry_run {
        return run(connection, config, dry_run).await;
    }
    // Not waiting: a waiting session holds a snapshot, for which the other's CONCURRENTLY would wait.
    let locked: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtext('headcount migrate'))")
        .fetch_one(&mut *connection)
        .await?;
    if !locked {
        return Err(MigrateError::Busy);
    }
    let outcome = run(connection, config, dry_run).await;
    // Released now: the server notices the end of a connection only a little later. If this fails, the lock goes
    // with the connection.
    let _ = sqlx::query("SELECT pg_advisory_unlock(hashtext('headcount migrate'))")
        .execute(connection)
        .await;
    outcome
}

/// Whether nothing was made so far, and the app's tables lack an addition: whoever begins makes our own tables, and the owner of
/// the app's tables could not go on with those of another role.
async fn is_refused(connection: &mut PgConnection, app: &AppSchema) -> Result<bool, MigrateError> {
    let made: bool = sqlx::query_scalar("SELECT to_regnamespace($1) IS NOT NULL")
        .bind(SCHEMA)
        .fetch_one(&mut *connection)
        .await?;
    let mut lacking = Vec::new();
    if !made {
        for addition in additions(app, event_index::STATEMENTS, SESSION_USER) {
            index::add(connection, &addition, true, &mut lacking).await?;
        }
    }
    Ok(!lacking.is_empty())
}

async fn run(
    connection: &mut PgConnection,
    config: &Config,
    dry_run: bool,
) -> Result<Vec<Step>, MigrateError> {
    let mut app = app_schema::<Postgres>(connection, config).await?;
    if is_refused(connection, &app).await?
        && let Some(why) = rights::refusal(connection, config).await?
    {
        return Err(MigrateError::NotTheOwner(why));
    }
    let mut steps = own_tables(connection, dry_run).await?;
    if config.record.events == Events::Own {
        steps.extend(page_view::settle(connection, config, &app, dry_run).await?);
        app = with_own_events::<Postgres>(app);
    }
    // The additions are independent: if one fails, the others are still made.
    let mut failed = Vec::new();
    for addition in additions(&app, event_index::STATEMENTS, SESSION_USER) {
        failed.extend(index::add(connection, &addition, dry_run, &mut steps).await.err());
    }
    let visits_index = config.record.visits_index;
    failed.extend(visits::settle(connection, &app, visits_index, dry_run, &mut steps).await);
    match counters::settle(connection, config, dry_run).await {
        Ok(done) => steps.extend(done),
        Err(error) => failed.push(error),
    }
    match trigger::settle(connection, config, &app, dry_run).await {
        Ok(done) => steps.extend(done),
        Err(error) => failed.push(error),
    }
    outcome(steps, failed)
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
    let migrator = migrator(OWN, APPLIED);
    steps.extend(own_migrations(connection, &migrator, begun, dry_run).await?);
    Ok(steps)
}

/// The recorded statement of an addition.
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

/// The addition is no longer there.
async fn forget(connection: &mut PgConnection, addition: &str) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM headcount.addition WHERE name = $1")
        .bind(addition)
        .execute(connection)
        .await
        .map(drop)
}

/// Runs one statement as it is: CONCURRENTLY cannot run in a transaction.
async fn execute(connection: &mut PgConnection, step: &Step) -> Result<(), MigrateError> {
    sqlx::raw_sql(AssertSqlSafe(step.sql.as_str()))
        .execute(connection)
        .await
        .map(drop)
        .map_err(MigrateError::of_step(step))
}

/// Runs one statement that either succeeds soon or fails: where the app holds a lock on the table for long.
async fn execute_briefly(connection: &mut PgConnection, step: &Step) -> Result<(), MigrateError> {
    let mut transaction = begin_briefly(connection).await?;
    execute(&mut transaction, step).await?;
    Ok(transaction.commit().await?)
}

/// Begins a transaction that waits for no lock longer than [`LOCK_TIMEOUT`].
async fn begin_briefly(connection: &mut PgConnection) -> Result<Transaction<'_, Postgres>, sqlx::Error> {
    let begin = format!("BEGIN; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'");
    connection.begin_with(AssertSqlSafe(begin)).await
}

async fn exists(connection: &mut PgConnection, table: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(table)
        .fetch_one(connection)
        .await
}
