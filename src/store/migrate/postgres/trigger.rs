//! The trigger that tells of sessions which end: there when it is configured, gone when it is not.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::{record, recorded};
use crate::config::{Config, Revocation};
use crate::store::migrate::{Addition, MigrateError, Step};
use crate::store::postgres::trigger::{APPEARED, CHANNEL, is_installed};
use crate::store::schema::AppSchema;

const NAME: &str = "headcount_session_changed";
/// Longest wait for the app's table. Whoever wants to write to it meanwhile waits behind us.
const LOCK_TIMEOUT: &str = "5s";

/// Installs the trigger, replaces one in other words, or removes it.
pub(super) async fn settle(
    connection: &mut PgConnection,
    config: &Config,
    app: &AppSchema,
    dry_run: bool,
) -> Result<Vec<Step>, MigrateError> {
    let template = include_str!("../../../../migrations/app/postgres/session_changed.sql");
    let template = template
        .replace("{channel}", CHANNEL)
        .replace("{appeared}", APPEARED);
    let addition = Addition::new(NAME, &template, app);
    let wanted = config.session.revocation == Revocation::Trigger;
    let words = recorded(connection, NAME).await?;
    let whole = is_installed(connection, &config.schema.session.table).await?;
    // In our words, or made by hand of what a dry run printed.
    let fits = whole && words.as_ref().is_none_or(|words| *words == addition.create);

    let mut steps = Vec::new();
    if has_function(connection).await? && !(wanted && fits) {
        let title = format!("trigger {NAME}: the former one");
        // With its triggers, on whichever table they are.
        steps.push(Step::new(
            title,
            "DROP FUNCTION headcount.session_changed() CASCADE",
        ));
    }
    if wanted && !fits {
        steps.push(addition.step("trigger"));
    }
    if dry_run || (steps.is_empty() && words.is_some() == wanted) {
        return Ok(steps);
    }
    let mut transaction = connection.begin().await?;
    sqlx::query("SELECT set_config('lock_timeout', $1, true)")
        .bind(LOCK_TIMEOUT)
        .execute(&mut *transaction)
        .await?;
    for step in &steps {
        sqlx::raw_sql(AssertSqlSafe(step.sql.as_str()))
            .execute(&mut *transaction)
            .await
            .map_err(MigrateError::of_step(step))?;
    }
    if wanted {
        record(&mut transaction, &addition).await?;
    } else {
        sqlx::query("DELETE FROM headcount.addition WHERE name = $1")
            .bind(NAME)
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(steps)
}

/// The function without which there is no trigger.
async fn has_function(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT to_regprocedure('headcount.session_changed()') IS NOT NULL")
        .fetch_one(connection)
        .await
}
