//! Statements of counters that both databases have alike. What differs is behind
//! [`CounterSql`](super::operations::CounterSql), and whole statements, in `postgres` and `sqlite`, where these lock or count in
//! another way.

mod absent;
mod compare;
mod due;
mod lease;
mod omissions;
mod present;
mod statement;

#[cfg(test)]
pub(super) use compare::compare_sql;
pub(super) use lease::holds;
pub(super) use present::overwritten_sql;
