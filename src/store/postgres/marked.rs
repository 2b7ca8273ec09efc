//! Which users the app marks as hidden or active, on Postgres.

use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use super::statement::query_scalar;
use crate::ids::UserId;
use crate::store::operations::{MarkedOf, Runs};
use crate::store::schema::AppSchema;

impl Runs<MarkedOf<'_>> for Postgres {
    async fn run(
        operation: &MarkedOf<'_>,
        app: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<Vec<UserId>, sqlx::Error> {
        let Some((profile, is_marked)) = app.marked(operation.mark, "headcount_profile") else {
            return Ok(Vec::new());
        };
        let users: Vec<&str> = operation.keys(&profile.id).collect();
        let sql = format!(
            "SELECT headcount_profile.{id}::text FROM {profiles} AS headcount_profile
             WHERE headcount_profile.{id} = ANY ($1::text[]::{key}[]) AND {is_marked}",
            id = profile.id,
            profiles = profile.table,
            key = profile.id.type_name,
        );
        let rows: Vec<String> = query_scalar(AssertSqlSafe(sql))
            .bind(users)
            .fetch_all(connection)
            .await?;
        Ok(rows.into_iter().map(UserId::new).collect())
    }
}
