//! Rewrites the body of a page that may get the widget: plain, or decompressed, rewritten, and compressed again.
//!
//! Input is passed on at once, compressed or not: a page that streams still does. Decompressed pieces are
//! processed one by one, so that a few bytes which decompress to gigabytes are never held in memory; nor are they
//! decompressed to the end, which would block the proxy's thread.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzDecoder, GzEncoder};

use super::outcome::Outcome;
use super::rewriter::{Insertion, Rewriter};

/// Decompressed bytes of a body below which no ratio is enforced.
const FREE: u64 = 16 * 1024 * 1024;
/// Beyond that, most decompressed bytes for each compressed one: pages compress 5 to 1, tables of one cell 50 to
/// 1, bombs 1000 to 1.
const MAX_RATIO: u64 = 200;

/// The compression of the body, both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// Not compressed.
    Identity,
    /// `Content-Encoding: gzip`
    Gzip,
}

/// One body in transit.
pub(crate) struct PageBody {
    filter: Filter,
    has_begun: bool,
    /// Whether the outcome was reported.
    is_reported: bool,
}

enum Filter {
    Plain(Box<Rewriter>),
    Packed(Box<Packed>),
    /// The body is not compressed as its headers say.
    Through,
}

struct Packed {
    decoder: GzDecoder<Repacked>,
    /// The compressed body has ended; browsers ignore trailing bytes.
    ended: bool,
}

/// The decoder's output.
struct Repacked {
    rewriter: Rewriter,
    encoder: GzEncoder<Vec<u8>>,
    /// Bytes received compressed, and bytes decompressed from them.
    sizes: (u64, u64),
    /// Rewritten bytes, not yet compressed; empty between two calls.
    page: Vec<u8>,
}

impl PageBody {
    /// A body that has not begun.
    pub(crate) fn new(coding: Coding, wanted: Insertion) -> Self {
        let rewriter = Rewriter::new(wanted);
        let filter = match coding {
            Coding::Identity => Filter::Plain(Box::new(rewriter)),
            Coding::Gzip => Filter::Packed(Box::new(Packed {
                decoder: GzDecoder::new(Repacked {
                    rewriter,
                    encoder: GzEncoder::new(Vec::new(), Compression::default()),
                    sizes: (0, 0),
                    page: Vec::new(),
                }),
                ended: false,
            })),
        };
        Self {
            filter,
            has_begun: false,
            is_reported: false,
        }
    }

    /// The bytes to send after `bytes` were received; `end` if they are the last.
    ///
    /// A body that is not compressed as its headers say from the start, or that decompresses to absurd size,
    /// passes unchanged.
    ///
    /// # Errors
    /// The compression breaks off, so no browser could read on; or the body decompresses to absurd size after its
    /// start.
    pub(crate) fn pass(&mut self, bytes: &[u8], end: bool) -> io::Result<Bytes> {
        let begins = !self.has_begun;
        self.has_begun |= !bytes.is_empty();
        let mut out = Vec::new();
        match &mut self.filter {
            _ if !self.has_begun => {}
            Filter::Plain(rewriter) => {
                rewriter.write(bytes, &mut out);
                if end {
                    rewriter.finish(&mut out);
                }
            }
            Filter::Packed(packed) => {
                let passed = packed
                    .write(bytes)
                    .and_then(|()| if end { packed.finish() } else { Ok(()) });
                match passed {
                    Ok(()) => out.append(packed.decoder.get_mut().encoder.get_mut()),
                    Err(_) if begins => {
                        out.extend_from_slice(bytes);
                        self.filter = Filter::Through;
                    }
                    Err(error) => return Err(error),
                }
            }
            Filter::Through => out.extend_from_slice(bytes),
        }
        Ok(out.into())
    }

    /// Whether the rest passes unchanged.
    pub(crate) fn is_done(&self) -> bool {
        match &self.filter {
            Filter::Plain(rewriter) => rewriter.is_done(),
            Filter::Packed(_) => false,
            Filter::Through => true,
        }
    }

    /// The outcome for the page: once, when it is known. At the end it always is.
    pub(crate) fn outcome(&mut self, end: bool) -> Option<Outcome> {
        let found = match &self.filter {
            Filter::Plain(rewriter) => rewriter.outcome(),
            Filter::Packed(packed) => packed.decoder.get_ref().rewriter.outcome(),
            Filter::Through => Some(Outcome::Failed),
        };
        let outcome = found.or_else(|| end.then_some(Outcome::NoPlace));
        if outcome.is_none() || std::mem::replace(&mut self.is_reported, true) {
            return None;
        }
        outcome
    }
}

impl Packed {
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.decoder.get_mut().sizes.0 += bytes.len() as u64;
        while !bytes.is_empty() && !self.ended {
            let taken = self.decoder.write(bytes)?;
            self.ended = taken == 0;
            bytes = &bytes[taken..];
        }
        self.decoder.flush()
    }

    fn finish(&mut self) -> io::Result<()> {
        // A truncated body is truncated for the browser, too.
        let is_whole = self.decoder.try_finish().is_ok();
        let inner = self.decoder.get_mut();
        inner.rewriter.finish(&mut inner.page);
        inner.pack()?;
        if is_whole {
            inner.encoder.try_finish()
        } else {
            inner.encoder.flush()
        }
    }
}

impl Repacked {
    fn pack(&mut self) -> io::Result<()> {
        self.encoder.write_all(&self.page)?;
        self.page.clear();
        Ok(())
    }
}

impl Write for Repacked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (packed, unpacked) = &mut self.sizes;
        *unpacked += bytes.len() as u64;
        if *unpacked > FREE && *unpacked / MAX_RATIO > *packed {
            return Err(io::Error::other("the page unpacks to far more than it is"));
        }
        self.rewriter.write(bytes, &mut self.page);
        self.pack()?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.encoder.flush()
    }
}

#[cfg(test)]
mod tests;
