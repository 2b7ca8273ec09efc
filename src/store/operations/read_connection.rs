//! A connection to read from, with or without a transaction.

use std::ops::{Deref, DerefMut};

use sqlx::{Database, Transaction};

/// A connection to read from.
pub(in crate::store) enum ReadConnection<'c, B: Database> {
    /// Without a transaction.
    Connection(&'c mut B::Connection),
    /// In a transaction, which ends when this is dropped: the driver rolls it back with the next message that it
    /// sends.
    Transaction(Transaction<'c, B>),
}

impl<B: Database> Deref for ReadConnection<'_, B> {
    type Target = B::Connection;

    fn deref(&self) -> &B::Connection {
        match self {
            Self::Connection(connection) => connection,
            Self::Transaction(transaction) => transaction,
        }
    }
}

impl<B: Database> DerefMut for ReadConnection<'_, B> {
    fn deref_mut(&mut self) -> &mut B::Connection {
        match self {
            Self::Connection(connection) => connection,
            Self::Transaction(transaction) => transaction,
        }
    }
}
