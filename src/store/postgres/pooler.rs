//! Whether connections are one's own, or lent by a pooler for a transaction at a time.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use tokio::time::timeout;

/// Longest time to find out. A pooler with one connection to lend for a session makes the second client wait.
const LIMIT: Duration = Duration::from_secs(5);

/// What is said where a connection of one's own is needed.
pub(in crate::store) const NEEDS_ITS_OWN: &str = "the connection goes through a pooler that lends it by the transaction: set database.direct_url to a URL of the \
     server itself, or of a pooler that lends by the session";

/// Rounds of asking: with one, others that use the pooler could keep what is looked for from showing.
const ROUNDS: u32 = 3;

/// Whether the server's end of a connection changes, or is another's too. Where that cannot be found out, it is taken
/// for one's own.
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

/// The server's process at the other end. Asked by the simple protocol: one message.
async fn server_process(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    use sqlx::Row as _;
    sqlx::raw_sql("SELECT pg_catalog.pg_backend_pid()")
        .fetch_one(connection)
        .await?
        .try_get(0)
}
