//! Which communities are to be counted, written or compared.

use std::collections::HashSet;

use super::statement::{communities, texts};
use crate::ids::CommunityId;
use crate::store::operations::{
    Backend, Pending, Runs, ShownPresent, Unchecked, Uncounted, Value, no_columns,
};
use crate::store::schema::AppSchema;

impl<B: Backend> Runs<Uncounted<'_>> for B {
    async fn run(
        operation: &Uncounted<'_>,
        _: &AppSchema,
        connection: &mut B::Connection,
    ) -> Result<Vec<CommunityId>, sqlx::Error> {
        let sql = format!(
            "SELECT community FROM {counter} WHERE NOT counted AND NOT (community {postponed})
             UNION
             SELECT d.community FROM {counter}_delta AS d
             WHERE NOT EXISTS (SELECT 1 FROM {counter} AS k WHERE k.community = d.community)
               AND NOT (d.community {postponed})
             LIMIT $1",
            counter = B::COUNTER,
            postponed = B::among("$2")
        );
        let arguments = vec![Value::Integer(operation.limit), texts(operation.postponed)];
        Ok(communities(B::fetch(connection, sql, arguments).await?))
    }
}

impl<B: Backend> Runs<Pending<'_>> for B {
    async fn run(
        Pending { after, limit }: &Pending<'_>,
        _: &AppSchema,
        connection: &mut B::Connection,
    ) -> Result<Vec<CommunityId>, sqlx::Error> {
        let sql = format!(
            "SELECT community FROM {} WHERE pending AND community > $1 ORDER BY community LIMIT $2",
            B::COUNTER
        );
        // No key is empty.
        let after = after.map_or("", CommunityId::as_str).to_owned();
        let arguments = vec![Value::Text(Some(after)), Value::Integer(*limit)];
        Ok(communities(B::fetch(connection, sql, arguments).await?))
    }
}

impl<B: Backend> Runs<ShownPresent> for B {
    async fn run(
        ShownPresent(limit): &ShownPresent,
        _: &AppSchema,
        connection: &mut B::Connection,
    ) -> Result<Vec<(CommunityId, i64)>, sqlx::Error> {
        let sql = format!(
            "SELECT community, current_visitors FROM {} WHERE current_visitors <> 0 LIMIT $1",
            B::COUNTER
        );
        let rows: Vec<(String, i64)> = B::fetch(connection, sql, vec![Value::Integer(*limit)]).await?;
        let shown = rows.into_iter();
        Ok(shown.map(|(key, shown)| (CommunityId::new(key), shown)).collect())
    }
}

impl<B: Backend> Runs<Unchecked<'_>> for B {
    async fn run(
        operation: &Unchecked<'_>,
        app: &AppSchema,
        connection: &mut B::Connection,
    ) -> Result<(Vec<CommunityId>, Option<CommunityId>), sqlx::Error> {
        let table = app.community.as_ref().ok_or_else(no_columns)?;
        let keys = B::behind(connection, table, operation.after, operation.limit).await?;
        let sql = format!(
            "SELECT community FROM {} WHERE community {} AND counted AND checked_at >= $2",
            B::COUNTER,
            B::among("$1")
        );
        let arguments = vec![texts(&keys), Value::Moment(operation.since)];
        let checked: HashSet<CommunityId> = communities(B::fetch(connection, sql, arguments).await?)
            .into_iter()
            .collect();
        let last = keys.last().cloned();
        let unchecked = keys.into_iter().filter(|key| !checked.contains(key));
        Ok((unchecked.collect(), last))
    }
}
