//! Which users the app marks as hidden or active, on SQLite.

use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection};

use super::values::{key, read_key};
use crate::ids::UserId;
use crate::store::operations::{MarkedOf, Runs};
use crate::store::schema::AppSchema;

impl Runs<MarkedOf<'_>> for Sqlite {
    async fn run(
        operation: &MarkedOf<'_>,
        app: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<Vec<UserId>, sqlx::Error> {
        let Some((profile, is_marked)) = app.marked(operation.mark, "headcount_profile") else {
            return Ok(Vec::new());
        };
        let users = operation
            .keys(&profile.id)
            .map(|user| key(user, &profile.id))
            .collect::<Result<Vec<_>, _>>()?;
        let sql = format!(
            "SELECT CAST(headcount_profile.{id} AS TEXT) FROM {profiles} AS headcount_profile
             WHERE headcount_profile.{id} IN (SELECT value FROM json_each(?1)) AND {is_marked}",
            id = profile.id,
            profiles = profile.table,
        );
        let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(sqlx::types::Json(users))
            .fetch_all(connection)
            .await?;
        rows.into_iter()
            .map(|user| Ok(UserId::new(read_key(user, &profile.id)?)))
            .collect()
    }
}
