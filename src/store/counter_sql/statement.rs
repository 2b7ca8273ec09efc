//! Running one statement, and keys as its arguments and results.

use sqlx::Connection as _;

use crate::ids::CommunityId;
use crate::store::operations::{CounterSql, Value};

/// One statement in a transaction of its own, as poolers need it; how many rows it changed.
pub(super) async fn alone<B: CounterSql>(
    connection: &mut B::Connection,
    sql: String,
    arguments: Vec<Value>,
) -> Result<u64, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let changed = B::execute(&mut transaction, sql, arguments).await?;
    transaction.commit().await?;
    Ok(changed)
}

/// Keys of rows as communities.
pub(super) fn communities(keys: Vec<(String,)>) -> Vec<CommunityId> {
    keys.into_iter().map(|(key,)| CommunityId::new(key)).collect()
}

/// Communities as an argument.
pub(super) fn texts(communities: &[CommunityId]) -> Value {
    Value::Texts(communities.iter().map(|key| key.as_str().to_owned()).collect())
}
