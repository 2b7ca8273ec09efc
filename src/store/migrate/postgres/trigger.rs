//! Installs or removes the trigger that notifies of ended sessions, as configured.

use sqlx::PgConnection;

use super::{begin_briefly, execute, record, recorded};
use crate::config::{Config, Revocation};
use crate::store::migrate::{Addition, MigrateError, Step};
use crate::store::postgres::trigger::{APPEARED, CHANNEL, is_installed};
use crate::store::schema::AppSchema;

const NAME: &str = "headcount_session_changed";

/// Installs the trigger, replaces one made from another statement, or removes it.
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
    let addition = Addition::new(NAME, &app.session.table, &template, app);
    let wanted = config.session.revocation == Revocation::Trigger;
    let words = recorded(connection, NAME).await?;
    let whole = is_installed(connection, &config.schema.session.table).await?;
    let fits = whole
        && match &words {
            Some(words) => *words == addition.create,
            // Made by hand from the output of a dry run, perhaps of an earlier version.
            None => tells_of_all(connection).await?,
        };

    let mut steps = Vec::new();
    if has_function(connection).await? && !(wanted && fits) {
        let title = format!("trigger {NAME}: the former one");
        // Together with its triggers, on whichever table they are.
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
    let mut transaction = begin_briefly(connection).await?;
    for step in &steps {
        execute(&mut transaction, step).await?;
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

/// Whether the function notifies of everything that this version's does.
async fn tells_of_all(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let tells: Option<bool> = sqlx::query_scalar(
        "SELECT bool_and(strpos(prosrc, quote_literal(told)) > 0)
         FROM pg_catalog.pg_proc, UNNEST($1::text[]) AS told
         WHERE oid = to_regprocedure('headcount.session_changed()')",
    )
    .bind(vec![CHANNEL, APPEARED])
    .fetch_one(connection)
    .await?;
    Ok(tells.unwrap_or(false))
}

/// Whether the trigger's function exists.
async fn has_function(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT to_regprocedure('headcount.session_changed()') IS NOT NULL")
        .fetch_one(connection)
        .await
}
