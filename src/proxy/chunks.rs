//! Chunked request bodies: finds their end, so that the client's socket hands out no byte behind it. Pure. See
//! [`super::client_socket`].
//!
//! Pingora reads such a body as it comes, and does not give back what it has read beyond its end. Chunk sizes are read
//! by the parser that Pingora uses for them. Where the two disagree nothing is served behind the body: Pingora refuses
//! it or waits for more until a timeout, or the connection ends because the end of the body was not found here.

/// Longest line with a chunk's size and its extensions; Pingora accepts no longer one.
const MAX_LINE: usize = 8 * 1024;

/// Follows a body as its bytes pass.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    at: At,
    /// The line with a chunk's size, as far as it has come.
    line: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    /// A line with a chunk's size.
    #[default]
    Size,
    /// The number of bytes to the end of a chunk and its line.
    Data(u64),
    /// A line behind the last chunk, and whether it is empty so far; an empty one ends the body.
    Trailer { is_empty: bool },
    /// The body has ended.
    End,
    /// The bytes are no chunked body.
    Nonsense,
}

impl Chunks {
    /// How many of the next bytes belong to the body: all, or those up to its end.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            taken += match self.at {
                At::End => break,
                At::Nonsense => rest.len(),
                At::Data(left) => {
                    let piece = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    let left = left - piece as u64;
                    self.at = if left == 0 { At::Size } else { At::Data(left) };
                    piece
                }
                At::Size => self.size(rest),
                At::Trailer { is_empty } => self.trailer(rest, is_empty),
            };
        }
        taken
    }

    /// Whether the whole body has passed.
    pub(super) fn is_over(&self) -> bool {
        self.at == At::End
    }

    /// Takes bytes of a line with a size; returns how many.
    fn size(&mut self, rest: &[u8]) -> usize {
        let end = rest.iter().position(|byte| *byte == b'\n');
        let piece = end.map_or(rest.len(), |end| end + 1);
        self.line.extend_from_slice(&rest[..piece]);
        if end.is_some() {
            // The parser reads an empty line as 0.
            let begins = self.line.first().is_some_and(u8::is_ascii_hexdigit);
            self.at = match httparse::parse_chunk_size(&self.line) {
                _ if !begins => At::Nonsense,
                Ok(httparse::Status::Complete((_, 0))) => At::Trailer { is_empty: true },
                // A line's end follows the data.
                Ok(httparse::Status::Complete((_, size))) => {
                    size.checked_add(2).map_or(At::Nonsense, At::Data)
                }
                Ok(httparse::Status::Partial) | Err(_) => At::Nonsense,
            };
            self.line.clear();
        } else if self.line.len() > MAX_LINE {
            self.at = At::Nonsense;
            self.line = Vec::new();
        }
        piece
    }

    /// Takes bytes of a line behind the last chunk; returns how many.
    fn trailer(&mut self, rest: &[u8], is_empty: bool) -> usize {
        let end = rest.iter().position(|byte| *byte == b'\n');
        let piece = &rest[..end.unwrap_or(rest.len())];
        let is_empty = is_empty && piece.iter().all(|byte| *byte == b'\r');
        self.at = match end {
            Some(_) if is_empty => At::End,
            Some(_) => At::Trailer { is_empty: true },
            None => At::Trailer { is_empty },
        };
        end.map_or(rest.len(), |end| end + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the body at the start of these bytes ends, however they are cut in two.
    fn end(bytes: &[u8]) -> Option<usize> {
        let ends: Vec<_> = (0..=bytes.len())
            .map(|cut| {
                let mut chunks = Chunks::default();
                let mut taken = chunks.take(&bytes[..cut]);
                if taken == cut {
                    taken += chunks.take(&bytes[cut..]);
                }
                chunks.is_over().then_some(taken)
            })
            .collect();
        assert!(
            ends.iter().all(|end| *end == ends[0]),
            "{} {ends:?}",
            bytes.escape_ascii()
        );
        ends[0]
    }

    #[test]
    fn e20_the_end_of_a_chunked_body_is_found_wherever_reading_was_interrupted() {
        for body in [
            &b"0\r\n\r\n"[..],
            b"2\r\nok\r\n0\r\n\r\n",
            b"00A\r\n0123456789\r\n2;a=\"b;\"\r\n\r\n\r\n000;x\r\n\r\n",
            b"1\r\na\r\n0\r\nX-A: b\r\nX: \r\n\r\n",
        ] {
            assert_eq!(end(body), Some(body.len()), "{}", body.escape_ascii());
            let more = [body, b"GET / HTTP/1.1\r\n\r\n0\r\n\r\n"].concat();
            assert_eq!(end(&more), Some(body.len()), "{}", more.escape_ascii());
            assert_eq!(end(&body[..body.len() - 1]), None, "{}", body.escape_ascii());
        }
    }

    #[test]
    fn e20_what_is_no_chunked_body_has_no_end() {
        let long = [
            b"1;".to_vec(),
            vec![b'a'; MAX_LINE],
            b"\r\na\r\n0\r\n\r\n".to_vec(),
        ]
        .concat();
        for body in [
            &b"zz\r\n0\r\n\r\n"[..],
            b"\r\n0\r\n\r\n",
            b"fffffffffffffffff\r\n0\r\n\r\n",
            b"ffffffffffffffff\r\n0\r\n\r\n",
            b"2\nok\r\n0\r\n\r\n",
        ] {
            assert_eq!(end(body), None, "{}", body.escape_ascii());
        }
        let mut chunks = Chunks::default();
        for byte in &long {
            assert_eq!(chunks.take(&[*byte]), 1);
        }
        assert!(!chunks.is_over());
    }
}
