//! Dead letters: page views that the database refused for good, kept with the reason until a person decides.
//!
//! `headcount dead-letters` works on the files themselves, whether or not a sidecar has them open; SQLite's locks
//! keep the two apart. A view that is tried again goes back into its file under its old key, so the ledger ensures
//! that it is written once.

use std::path::Path;

use chrono::{DateTime, Utc};
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection as _, SqliteConnection};

use super::counts::Change;
use super::directory::Directory;
use super::encode::READY;
use super::encode::Stored;
use super::rows::begin;
use super::{Spool, SpoolError, file};
use crate::batch::{BatchKey, RecordedView, WriterId};
use crate::from_row::from_row;

/// Dead letters moved or decided on in one transaction.
const AT_A_TIME: u64 = 500;

/// Most passes over all files.
const MOST_PASSES: u32 = 5;

/// A dead letter.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Its key.
    pub key: BatchKey,
    /// What the database said.
    pub reason: String,
    /// When.
    pub refused_at: DateTime<Utc>,
    /// The page view; `None` if its bytes are damaged.
    pub view: Option<RecordedView>,
}

/// What to do with dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetterAction {
    /// Try them again.
    Retry,
    /// Delete them.
    Drop,
}

struct StoredLetter {
    writer_id: String,
    batch_seq: i64,
    reason: String,
    refused_at: i64,
    checksum: i64,
    body: Vec<u8>,
}

from_row!(SqliteRow => StoredLetter { writer_id, batch_seq, reason, refused_at, checksum, body });

impl StoredLetter {
    fn letter(self) -> Option<DeadLetter> {
        let key = BatchKey {
            writer: WriterId::parse(&self.writer_id)?,
            seq: self.batch_seq,
        };
        let view = match Stored::decode(&self.body, false, self.checksum) {
            Some(Stored::Recorded(views)) => views.into_iter().next(),
            _ => None,
        };
        Some(DeadLetter {
            key,
            reason: self.reason,
            refused_at: DateTime::from_timestamp_millis(self.refused_at).unwrap_or_default(),
            view,
        })
    }
}

impl Directory {
    /// All dead letters, file by file.
    ///
    /// # Errors
    /// A file cannot be read.
    pub async fn dead_letters(&self) -> Result<Vec<DeadLetter>, SpoolError> {
        let mut letters = Vec::new();
        for id in self.spools()? {
            if let Some(mut connection) = connect(&self.database(id)).await? {
                let stored: Vec<StoredLetter> = sqlx::query_as(
                    "SELECT writer_id, batch_seq, reason, refused_at, checksum, body
                     FROM dead_letter ORDER BY oldest_at, batch_seq",
                )
                .fetch_all(&mut connection)
                .await?;
                letters.extend(stored.into_iter().filter_map(StoredLetter::letter));
                let _ = connection.close().await;
            }
        }
        Ok(letters)
    }

    /// Applies `fate` to the dead letters named, or to all; returns how many.
    ///
    /// # Errors
    /// A file cannot be written; those before it are done.
    pub async fn decide(&self, fate: LetterAction, keys: Option<&[BatchKey]>) -> Result<u64, SpoolError> {
        // Letters that are refused again meanwhile are left alone.
        let before = Utc::now();
        let mut decided = 0;
        // While a spool is adopted, its letters may move to a file that was handled already, or to a new one.
        for pass in 1..=MOST_PASSES {
            let some = self.decide_once(fate, keys, before).await?;
            decided += some;
            if some == 0 && pass > 1 {
                break;
            }
        }
        Ok(decided)
    }

    /// One pass over all files.
    async fn decide_once(
        &self,
        fate: LetterAction,
        keys: Option<&[BatchKey]>,
        before: DateTime<Utc>,
    ) -> Result<u64, SpoolError> {
        let mut decided = 0;
        for id in self.spools()? {
            let database = self.database(id);
            if let Some(mut connection) = connect(&database).await? {
                // A bounded number at a time: the sidecar waits for its file meanwhile.
                loop {
                    let some = decide(&mut connection, &database, fate, keys, before).await?;
                    decided += some;
                    if some < AT_A_TIME {
                        break;
                    }
                }
                let _ = connection.close().await;
            }
        }
        Ok(decided)
    }
}

/// Opens a spool file for a moment; `None` if it is gone, or no spool of this version.
async fn connect(database: &Path) -> Result<Option<SqliteConnection>, SpoolError> {
    // A file that is no spool is not opened, since opening would change it.
    match file::check_header(database) {
        Ok(None) => {}
        Ok(Some(_)) => return Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    match file::open(database, true, false).await {
        Ok(file::Opened::Spool(connection)) => Ok(Some(connection)),
        Ok(file::Opened::Nothing(_) | file::Opened::UnusableFile(_)) => Ok(None),
        Err(_) if !database.exists() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Applies `fate` to some of the letters that are meant; returns how many.
async fn decide(
    connection: &mut SqliteConnection,
    database: &Path,
    fate: LetterAction,
    keys: Option<&[BatchKey]>,
    before: DateTime<Utc>,
) -> Result<u64, SpoolError> {
    let mut transaction = begin(connection).await?;
    if !database.exists() {
        // Removed by its owner, which made sure that it was empty.
        return Ok(0);
    }
    let all: Vec<(String, i64)> =
        sqlx::query_as("SELECT writer_id, batch_seq FROM dead_letter WHERE refused_at <= ?1")
            .bind(before.timestamp_millis())
            .fetch_all(&mut *transaction)
            .await?;
    let is_meant = |writer_id: &str, batch_seq: i64| {
        keys.is_none_or(|keys| {
            keys.iter()
                .any(|key| key.seq == batch_seq && key.writer.to_string() == writer_id)
        })
    };
    let meant = all
        .into_iter()
        .filter(|(writer_id, seq)| is_meant(writer_id, *seq));
    let mut decided = 0;
    for (writer_id, batch_seq) in meant.take(usize::try_from(AT_A_TIME).unwrap_or(usize::MAX)) {
        if fate == LetterAction::Retry {
            sqlx::query(
                "INSERT OR IGNORE INTO batch
                     (writer_id, batch_seq, state, views, bytes, checksum, oldest_at, body)
                 SELECT writer_id, batch_seq, ?3, 1, bytes, checksum, oldest_at, body
                 FROM dead_letter WHERE writer_id = ?1 AND batch_seq = ?2",
            )
            .bind(&writer_id)
            .bind(batch_seq)
            .bind(READY)
            .execute(&mut *transaction)
            .await?;
        }
        sqlx::query("DELETE FROM dead_letter WHERE writer_id = ?1 AND batch_seq = ?2")
            .bind(&writer_id)
            .bind(batch_seq)
            .execute(&mut *transaction)
            .await?;
        decided += 1;
    }
    transaction.commit().await?;
    Ok(decided)
}

/// A dead letter as it moves from file to file.
type Moved = (String, i64, String, i64, i64, i64, i64, Vec<u8>);

impl Spool {
    /// Takes over the dead letters of another spool. They keep their keys, so a copy that a crash in between
    /// leaves behind is the same letter, not a second one.
    pub(super) async fn move_letters_from(&self, other: &Self) -> Result<(), SpoolError> {
        while self.move_some_letters_from(other).await? {}
        Ok(())
    }

    /// Moves some of them; returns whether there were any.
    async fn move_some_letters_from(&self, other: &Self) -> Result<bool, SpoolError> {
        let mut theirs = other.lease().await?;
        let mut leaving = begin(theirs.connection()).await?;
        let letters: Vec<Moved> = sqlx::query_as(
            "SELECT writer_id, batch_seq, reason, refused_at, bytes, checksum, oldest_at, body
             FROM dead_letter ORDER BY writer_id, batch_seq LIMIT ?1",
        )
        .bind(i64::try_from(AT_A_TIME).unwrap_or(i64::MAX))
        .fetch_all(&mut *leaving)
        .await?;
        let Some((writer, seq)) = letters.last().map(|letter| (letter.0.clone(), letter.1)) else {
            leaving.rollback().await?;
            theirs.done();
            return Ok(false);
        };
        self.insert_letters(letters).await?;
        sqlx::query("DELETE FROM dead_letter WHERE (writer_id, batch_seq) <= (?1, ?2)")
            .bind(writer)
            .bind(seq)
            .execute(&mut *leaving)
            .await?;
        leaving.commit().await?;
        other.recount(theirs.connection()).await?;
        theirs.done();
        Ok(true)
    }

    async fn insert_letters(&self, letters: Vec<Moved>) -> Result<(), SpoolError> {
        let mut ours = self.lease().await?;
        let mut arriving = begin(ours.connection()).await?;
        let mut change = Change::default();
        for (writer, seq, reason, refused_at, bytes, checksum, oldest_at, body) in letters {
            let arrived: Option<i64> = sqlx::query_scalar(
                "INSERT OR IGNORE INTO dead_letter
                     (writer_id, batch_seq, reason, refused_at, bytes, checksum, oldest_at, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) RETURNING bytes",
            )
            .bind(writer)
            .bind(seq)
            .bind(reason)
            .bind(refused_at)
            .bind(bytes)
            .bind(checksum)
            .bind(oldest_at)
            .bind(body)
            .fetch_optional(&mut *arriving)
            .await?;
            change.add(Change::of_letter(arrived));
        }
        arriving.commit().await?;
        self.note(ours.connection(), change).await;
        ours.done();
        Ok(())
    }
}
