//! Deletes the counters of communities that the app has deleted.

use crate::store::operations::{Backend, FORGET_ROWS, ForgetAbsent, Forgotten, Runs, Value};
use crate::store::schema::AppSchema;

impl<B: Backend> Runs<ForgetAbsent<'_>> for B {
    async fn run(
        ForgetAbsent(context): &ForgetAbsent<'_>,
        app: &AppSchema,
        connection: &mut B::Connection,
    ) -> Result<Forgotten, sqlx::Error> {
        let Some(table) = &app.community else {
            return Ok(Forgotten::default());
        };
        let mut transaction = B::begin(connection, context.database).await?;
        let absent = B::absent(&mut transaction, table).await?;
        let (counter, is_absent) = (B::COUNTER, B::among("$1"));
        let mut forgotten = Forgotten::default();
        for (table, key) in [("delta", "id"), ("visitor", "community, user_id")] {
            let sql = format!(
                "DELETE FROM {counter}_{table} WHERE ({key}) IN
                     (SELECT {key} FROM {counter}_{table} WHERE community {is_absent} LIMIT $2)"
            );
            let arguments = vec![Value::Texts(absent.clone()), Value::Integer(FORGET_ROWS)];
            forgotten.rows += B::execute(&mut transaction, sql, arguments).await?;
        }
        let sql = format!(
            "DELETE FROM {counter}
             WHERE community {is_absent}
               AND NOT EXISTS (SELECT 1 FROM {counter}_delta AS d WHERE d.community = {counter}.community)
               AND NOT EXISTS (SELECT 1 FROM {counter}_visitor AS v WHERE v.community = {counter}.community)"
        );
        forgotten.communities = B::execute(&mut transaction, sql, vec![Value::Texts(absent)]).await?;
        forgotten.rows += forgotten.communities;
        transaction.commit().await?;
        Ok(forgotten)
    }
}
