//! What a failed use of the database rouses: the checks that otherwise look at it periodically.

use tokio::sync::Notify;

/// Each has one waiter; an alarm that nobody waits for is kept for the next wait.
#[derive(Debug, Default)]
pub struct Alarms {
    /// A statement failed in a way that the app's tables, or the role's rights on them, may be the reason of.
    pub tables: Notify,
    /// The database did not answer, or answered after a wait.
    pub database: Notify,
}
