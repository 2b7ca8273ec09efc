//! Makes our own event table, with its partitions where configured.

use chrono::Utc;
use sqlx::PgConnection;

use super::{execute, execute_briefly};
use crate::config::{Config, OwnPartitions};
use crate::store::migrate::{MigrateError, Step};
use crate::store::postgres::partitions::{DEFAULT, is_partitioned, missing};
use crate::store::schema::AppSchema;

/// Makes what is missing; leaves what there is.
pub(super) async fn settle(
    connection: &mut PgConnection,
    config: &Config,
    app: &AppSchema,
    dry_run: bool,
) -> Result<Vec<Step>, MigrateError> {
    let by_month = config.record.own_partitions == OwnPartitions::Month;
    let mut steps = Vec::new();
    match (is_partitioned(connection).await?, by_month) {
        (Some(false), true) => return Err(MigrateError::NotPartitioned),
        (Some(_), _) => {}
        (None, _) => steps.extend(create(app, by_month)),
    }
    for step in &steps {
        if !dry_run {
            execute(connection, step).await?;
        }
    }
    if by_month {
        for month in missing(connection, Utc::now()).await? {
            let step = Step::new(
                format!("partition headcount.{}", month.partition()),
                month.create(),
            );
            if !dry_run {
                execute_briefly(connection, &step).await?;
            }
            steps.push(step);
        }
    }
    Ok(steps)
}

fn create(app: &AppSchema, by_month: bool) -> Vec<Step> {
    let (primary_key, partitions) = if by_month {
        // The key of a partitioned table includes what it is partitioned by.
        ("(id, \"timestamp\")", "PARTITION BY RANGE (\"timestamp\")")
    } else {
        ("(id)", "")
    };
    let table = include_str!("../../../../migrations/app/postgres/page_view.sql")
        .replace("{user_key}", &app.user_key().type_name)
        .replace("{primary_key}", primary_key)
        .replace("{partitions}", partitions);
    let default = by_month.then(|| Step::new("partition headcount.page_view_default", DEFAULT));
    [Step::new("table headcount.page_view", table.trim_end())]
        .into_iter()
        .chain(default)
        .collect()
}
