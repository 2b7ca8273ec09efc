//! Migrations on SQLite. Building an index blocks the app's writes while it lasts.

use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Sqlite, SqliteConnection};

use super::{
    Addition, MigrateError, Own, Step, additions, app_schema, migrator, missing_counters, outcome,
    own_migrations, with_own_events, within,
};
use crate::config::{Config, Events};
use crate::store::event_indexes;
use crate::store::operations::Backend as _;
use crate::store::schema::AppSchema;
use crate::store::sqlite::{connect_options, event_index};

const APPLIED: &str = "headcount_migrations";

pub(super) const OWN: &[Own] = &[
    (
        1,
        "addition",
        include_str!("../../../migrations/sqlite/0001_addition.sql"),
    ),
    (
        2,
        "ledger",
        include_str!("../../../migrations/sqlite/0002_ledger.sql"),
    ),
    (
        3,
        "counters",
        include_str!("../../../migrations/sqlite/0003_counters.sql"),
    ),
];

pub(super) async fn migrate(url: &str, config: &Config, dry_run: bool) -> Result<Vec<Step>, MigrateError> {
    let options = connect_options(url)?.busy_timeout(config.database.statement_timeout);
    let mut connection = within(config.database.acquire_timeout, options.connect()).await?;
    let outcome = run(&mut connection, config, dry_run).await;
    // Everything is committed by now; a failure to close changes nothing.
    let _ = connection.close().await;
    outcome
}

async fn run(
    connection: &mut SqliteConnection,
    config: &Config,
    dry_run: bool,
) -> Result<Vec<Step>, MigrateError> {
    let mut app = app_schema::<Sqlite>(connection, config).await?;
    let begun = exists(connection, APPLIED).await?;
    let migrator = migrator(OWN, APPLIED);
    let mut steps = own_migrations(connection, &migrator, begun, dry_run).await?;
    if config.record.events == Events::Own {
        steps.extend(own_events(connection, &app, dry_run).await?);
        app = with_own_events::<Sqlite>(app);
    }
    let mut failed = Vec::new();
    for addition in additions(
        &app,
        event_index::STATEMENTS,
        include_str!("../../../migrations/app/sqlite/session_user.sql"),
    ) {
        match add(connection, &addition, dry_run).await {
            Ok(done) => steps.extend(done),
            Err(error) => failed.push(error),
        }
    }
    match counter_columns(connection, config, dry_run).await {
        Ok(done) => steps.extend(done),
        Err(error) => failed.push(error),
    }
    outcome(steps, failed)
}

/// Adds the columns for counts that are wanted and missing. What was counted before is then to be written to them.
async fn counter_columns(
    connection: &mut SqliteConnection,
    config: &Config,
    dry_run: bool,
) -> Result<Option<Step>, MigrateError> {
    let Some((table, columns)) = missing_counters::<Sqlite>(connection, config).await? else {
        return Ok(None);
    };
    let statements: Vec<_> = columns
        .iter()
        .map(|(key, column)| {
            let definition = match *key {
                "updated_at" => "datetime",
                "page_views" => "bigint NOT NULL DEFAULT 0",
                _ => "integer NOT NULL DEFAULT 0",
            };
            format!("ALTER TABLE {table} ADD COLUMN {column} {definition}")
        })
        .collect();
    let step = Step::new(format!("columns of {table} for counts"), statements.join(";\n"));
    if !dry_run {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::raw_sql(AssertSqlSafe(step.sql.as_str()))
            .execute(&mut *transaction)
            .await
            .map_err(MigrateError::of_step(&step))?;
        sqlx::query("UPDATE headcount_counter SET pending = 1, current_visitors = 0")
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
    }
    Ok(Some(step))
}

/// Makes our own event table.
async fn own_events(
    connection: &mut SqliteConnection,
    app: &AppSchema,
    dry_run: bool,
) -> Result<Option<Step>, MigrateError> {
    if exists(connection, Sqlite::OWN_EVENTS).await? {
        return Ok(None);
    }
    let table = include_str!("../../../migrations/app/sqlite/page_view.sql");
    let table = table.replace("{user_key}", &app.user_key().type_name);
    let step = Step::new(format!("table {}", Sqlite::OWN_EVENTS), table.trim_end());
    if !dry_run {
        sqlx::raw_sql(AssertSqlSafe(step.sql.as_str()))
            .execute(connection)
            .await
            .map_err(MigrateError::of_step(&step))?;
    }
    Ok(Some(step))
}

/// Builds an index that is missing, of other columns or built from another statement, and records it: one transaction. An index
/// cannot be renamed, so that the former one goes first: readers have it until all is committed, and an interrupted build
/// leaves it. One that is as it should be and that nobody has recorded is recorded.
async fn add(
    connection: &mut SqliteConnection,
    addition: &Addition,
    dry_run: bool,
) -> Result<Vec<Step>, MigrateError> {
    let words: Option<(Option<String>, bool)> = sqlx::query_as(
        "SELECT sql, type = 'index' AND lower(tbl_name) = lower(?2) FROM sqlite_master WHERE name = ?1",
    )
    .bind(addition.name)
    .bind(&addition.table_name)
    .fetch_optional(&mut *connection)
    .await?;
    let there = words.is_some();
    let is_of_it = words.is_some_and(|(words, is_on_it)| {
        let words = words.unwrap_or_default();
        is_on_it
            && event_indexes::is_of(
                Some(event_indexes::columns(&words, &addition.table)),
                &addition.columns,
            )
    });
    let recorded: Option<String> = if exists(connection, "headcount_addition").await? {
        sqlx::query_scalar("SELECT statement FROM headcount_addition WHERE name = ?1")
            .bind(addition.name)
            .fetch_optional(&mut *connection)
            .await?
    } else {
        None
    };
    let has_other_words = recorded.as_ref().is_some_and(|words| *words != addition.create);
    let is_built = is_of_it && !has_other_words;
    if is_built && (recorded.is_some() || dry_run) {
        return Ok(Vec::new());
    }
    let mut steps = Vec::new();
    if there && !is_built {
        steps.push(Step::new(
            format!("index {}: the former one", addition.name),
            format!("DROP INDEX {}", addition.name),
        ));
    }
    if !is_built {
        steps.push(addition.step("index"));
    }
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
