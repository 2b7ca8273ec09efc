//! The session tokens of unresolved views: in a file beside the database that is overwritten in place.
//!
//! A token must be gone once its view is resolved. SQLite cannot promise that: it copies cells from page to page
//! and leaves the old bytes behind. Here the bytes of a token are written once, at a place that the view's row
//! remembers, and overwritten with zeros at that place; when no view refers to the file any more, it is truncated.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use tokio::task::spawn_blocking;

use crate::ids::SessionToken;

/// Where a token stands in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) struct TokenRange {
    pub(super) at: u64,
    pub(super) len: u16,
}

/// The token file of one spool.
#[derive(Debug)]
pub(super) struct Tokens {
    file: Arc<File>,
    /// Where the next token goes.
    end: u64,
    fsync: bool,
}

impl Tokens {
    /// Opens the file, creating it where it is missing.
    pub(super) fn open(path: &Path, fsync: bool) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(path)?;
        let end = file.metadata()?.len();
        Ok(Self {
            file: Arc::new(file),
            end,
            fsync,
        })
    }

    /// Where the next token goes.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Makes the next token overwrite what was appended since.
    pub(super) fn rewind(&mut self, end: u64) {
        self.end = end;
    }

    /// Writes and syncs tokens; returns their places.
    pub(super) async fn append(&mut self, tokens: &[&SessionToken]) -> io::Result<Vec<TokenRange>> {
        let (mut places, mut bytes) = (Vec::with_capacity(tokens.len()), Vec::new());
        for token in tokens {
            let token = token.expose_secret().as_bytes();
            let len = u16::try_from(token.len()).map_err(io::Error::other)?;
            let at = self.end + bytes.len() as u64;
            places.push(TokenRange { at, len });
            bytes.extend_from_slice(token);
        }
        let end = self.end + bytes.len() as u64;
        self.write(vec![(self.end, bytes)]).await?;
        self.end = end;
        Ok(places)
    }

    /// The tokens at these places; `None` where one is missing or damaged.
    pub(super) async fn read(&self, places: Vec<TokenRange>) -> io::Result<Option<Vec<SessionToken>>> {
        let file = Arc::clone(&self.file);
        blocking(move || {
            let read = |place: &TokenRange| {
                let mut bytes = vec![0; place.len.into()];
                file.read_exact_at(&mut bytes, place.at)?;
                let token =
                    String::from_utf8(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
                // Zeros: it was erased.
                if token.contains('\0') {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                SessionToken::restored(token).ok_or(io::ErrorKind::InvalidData.into())
            };
            match places.iter().map(read).collect::<io::Result<Vec<_>>>() {
                Ok(tokens) => Ok(Some(tokens)),
                Err(error) if is_damage(&error) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Overwrites the tokens at these places.
    pub(super) async fn erase(&self, places: &[TokenRange]) -> io::Result<()> {
        let zeros = |place: &TokenRange| (place.at, vec![0; place.len.into()]);
        self.write(places.iter().map(zeros).collect()).await
    }

    /// Truncates the file: no view refers to it.
    pub(super) async fn clear(&mut self) -> io::Result<()> {
        if self.end == 0 {
            return Ok(());
        }
        let (file, fsync) = (Arc::clone(&self.file), self.fsync);
        blocking(move || {
            file.set_len(0)?;
            if fsync { file.sync_data() } else { Ok(()) }
        })
        .await?;
        self.end = 0;
        Ok(())
    }

    async fn write(&self, pieces: Vec<(u64, Vec<u8>)>) -> io::Result<()> {
        let (file, fsync) = (Arc::clone(&self.file), self.fsync);
        blocking(move || {
            for (at, bytes) in pieces {
                file.write_all_at(&bytes, at)?;
            }
            if fsync { file.sync_data() } else { Ok(()) }
        })
        .await
    }
}

/// Whether the bytes are not there, or are not what was written.
fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData
    )
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}
