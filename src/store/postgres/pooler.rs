//! Detects poolers: whether a connection is our own, or lent by a pooler for one transaction at a time.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use tokio::time::timeout;

/// Longest time for detection. A pooler with one connection to lend per session makes the second client wait.
const LIMIT: Duration = Duration::from_secs(5);

/// Error text where a connection of our own is needed.
pub(in crate::store) const NEEDS_ITS_OWN: &str = "the connection goes through a pooler that lends it by the transaction: set database.direct_url to a URL of the \
     server itself, or of a pooler that lends by the session";

/// Rounds of detection: with one, other clients of the pooler could hide the effect.
const ROUNDS: u32 = 3;

/// Whether the server process behind a connection changes, or serves another connection too. False where no second
/// connection can be made, or after [`LIMIT`].
pub(in crate::store) async fn is_lent_by_the_transaction(
    connection: &mut PgConnection,
    options: &PgConnectOptions,
) -> Result<bool, sqlx::Error> {
    let looking = async {
        let Ok(mut other) = options.connect().await else {
            return Ok(false); // no connection to spare
        };
        let mut is_lent = false;
        for _ in 0..ROUNDS {
            let before = server_process(connection).await?;
            let mut transaction = other.begin().await?;
            let others = server_process(&mut transaction).await?;
            let after = server_process(connection).await?;
            transaction.rollback().await?;
            is_lent |= before == others || before != after;
        }
        other.close().await?;
        Ok(is_lent)
    };
    timeout(LIMIT, looking).await.unwrap_or(Ok(false))
}

/// The id of the server process at the other end. Asked by the simple protocol: one message.
async fn server_process(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    use sqlx::Row as _;
    sqlx::raw_sql("SELECT pg_catalog.pg_backend_pid()")
        .fetch_one(connection)
        .await?
        .try_get(0)
}
