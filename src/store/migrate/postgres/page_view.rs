//! Makes our own event table, with its partitions where configured.

use chrono::Utc;
use sqlx::PgConnection;

use super::{execute, execute_briefly};
use crate::config::{Config, OwnPartitions};
use crate::store::migrate::{MigrateError, Step};
use crate::store::postgres::partitions::{
    Month, create_default, default, is_partitioned, late, missing, name_of_default,
};
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
    let is_new = match (is_partitioned(connection).await?, by_month) {
        (Some(false), true) => return Err(MigrateError::NotPartitioned),
        (Some(_), _) => false,
        (None, _) => true,
    };
    if is_new {
        steps.push(create(app, by_month));
    }
    let mut default = default(connection).await?;
    if by_month
        && default.is_none()
        && let Some(name) = name_of_default(connection).await?
    {
        steps.push(Step::new(
            format!("partition headcount.{name}"),
            create_default(&name),
        ));
        default = Some(format!("headcount.{name}"));
    }
    for step in &steps {
        if !dry_run {
            execute(connection, step).await?;
        }
    }
    if by_month {
        let now = Utc::now();
        let filled = default.as_deref().filter(|_| steps.is_empty());
        let late = late(connection, filled, now, i64::MAX).await?;
        for partition in missing(connection, late.into_iter().chain(Month::from_now(now))).await? {
            let step = Step::new(
                format!("partition headcount.{}", partition.name),
                partition.create(default.as_deref()),
            );
            if !dry_run {
                execute_briefly(connection, &step).await?;
            }
            steps.push(step);
        }
    }
    Ok(steps)
}

fn create(app: &AppSchema, by_month: bool) -> Step {
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
    Step::new("table headcount.page_view", table.trim_end())
}
