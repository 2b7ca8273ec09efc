//! Columns for counts in the app's table of communities.

use sqlx::{PgConnection, Postgres};

use super::super::{MigrateError, Step, missing_counters};
use super::{begin_briefly, execute};
use crate::config::Config;

/// Adds the columns that are wanted and missing, in one statement: the app waits for its table once, and briefly. What
/// was counted before is then to be written to them.
pub(super) async fn settle(
    connection: &mut PgConnection,
    config: &Config,
    dry_run: bool,
) -> Result<Option<Step>, MigrateError> {
    let Some((table, columns)) = missing_counters::<Postgres>(connection, config).await? else {
        return Ok(None);
    };
    let columns: Vec<_> = columns
        .iter()
        .map(|(key, column)| {
            let definition = match *key {
                "updated_at" => "timestamptz",
                "page_views" => "bigint NOT NULL DEFAULT 0",
                _ => "integer NOT NULL DEFAULT 0",
            };
            format!("ADD COLUMN {column} {definition}")
        })
        .collect();
    let step = Step::new(
        format!("columns of {table} for counts"),
        format!("ALTER TABLE {table}\n    {}", columns.join(",\n    ")),
    );
    if !dry_run {
        let mut transaction = begin_briefly(connection).await?;
        execute(&mut transaction, &step).await?;
        transaction.commit().await?;
        // By now the app does not wait for its table. Where this fails, the next reconciliation finds the difference.
        sqlx::query("UPDATE headcount.counter SET pending = TRUE, current_visitors = 0")
            .execute(connection)
            .await?;
    }
    Ok(Some(step))
}
