//! Metrics of the app's database.

use crate::metrics::{IntGauge, metrics};

metrics! {
    /// Metrics of the app's database.
    pub struct Metrics {
        /// 1 while the app's database answers, 0 while it does not
        database_up: IntGauge = "database_up",
        /// 1 unless the ledger of applied batches was found missing, newer or forbidden
        ledger_ok: IntGauge = "ledger_ok" at 1,
    }
}
