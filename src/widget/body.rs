//! The body of a page that may get the widget: as it is, or unpacked, looked through, and packed again.
//!
//! What comes is passed on at once, packed or not: a page that streams still does. Unpacked pieces are passed through
//! one by one, so that a few bytes which unpack to gigabytes never are in memory.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzDecoder, GzEncoder};

use super::outcome::Outcome;
use super::rewriter::{Rewriter, Wanted};

/// How the body is packed, both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// Not at all.
    Identity,
    /// `Content-Encoding: gzip`
    Gzip,
}

/// One body on its way.
pub(crate) struct Body {
    filter: Filter,
    has_begun: bool,
    /// Whether the outcome has been told.
    told: bool,
}

enum Filter {
    Plain(Box<Rewriter>),
    Packed(Box<Packed>),
}

struct Packed {
    decoder: GzDecoder<Repacked>,
    /// The packed body has ended; browsers ignore what comes behind it.
    ended: bool,
}

/// What the decoder writes to.
struct Repacked {
    rewriter: Rewriter,
    encoder: GzEncoder<Vec<u8>>,
    /// Between the two; empty between two calls.
    page: Vec<u8>,
}

impl Body {
    /// A body that has not begun.
    pub(crate) fn new(coding: Coding, wanted: Wanted) -> Self {
        let rewriter = Rewriter::new(wanted);
        let filter = match coding {
            Coding::Identity => Filter::Plain(Box::new(rewriter)),
            Coding::Gzip => Filter::Packed(Box::new(Packed {
                decoder: GzDecoder::new(Repacked {
                    rewriter,
                    encoder: GzEncoder::new(Vec::new(), Compression::default()),
                    page: Vec::new(),
                }),
                ended: false,
            })),
        };
        Self {
            filter,
            has_begun: false,
            told: false,
        }
    }

    /// What is sent once `bytes` have come; `end` when they are the last.
    ///
    /// # Errors
    /// The body is not what its `Content-Encoding` says. No browser can read it.
    pub(crate) fn pass(&mut self, bytes: &[u8], end: bool) -> io::Result<Bytes> {
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
                packed.write(bytes)?;
                if end {
                    packed.finish()?;
                }
                out.append(packed.decoder.get_mut().encoder.get_mut());
            }
        }
        Ok(out.into())
    }

    /// What has become of the page: once, when it is known. At the end it always is.
    pub(crate) fn outcome(&mut self, end: bool) -> Option<Outcome> {
        let rewriter = match &self.filter {
            Filter::Plain(rewriter) => rewriter,
            Filter::Packed(packed) => &packed.decoder.get_ref().rewriter,
        };
        let outcome = rewriter.outcome().or_else(|| end.then_some(Outcome::NoPlace));
        if outcome.is_none() || std::mem::replace(&mut self.told, true) {
            return None;
        }
        outcome
    }
}

impl Packed {
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() && !self.ended {
            let taken = self.decoder.write(bytes)?;
            self.ended = taken == 0;
            bytes = &bytes[taken..];
        }
        self.decoder.flush()
    }

    fn finish(&mut self) -> io::Result<()> {
        // One that was cut off reaches the browser cut off.
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
