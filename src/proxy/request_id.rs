//! Request ids: what identifies an exchange in the app's log and in ours, where no trusted proxy sends an id.

use std::fmt;

use chrono::{DateTime, Utc};
use uuid::Builder;
use uuid::fmt::Hyphenated;

/// A new id: a UUID of version 7 (RFC 9562, 5.7), so that ids sort by the start of their requests, to the millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestId(Hyphenated);

impl RequestId {
    /// Characters of its text.
    pub(super) const LENGTH: usize = Hyphenated::LENGTH;

    /// The id of a request that began at `at`. Its random part comes from the thread's generator, which is seeded by the
    /// system: [`uuid::Uuid::now_v7`] asks the system for each id, which is a system call per request.
    pub(super) fn new(at: DateTime<Utc>) -> Self {
        let milliseconds = u64::try_from(at.timestamp_millis()).unwrap_or_default();
        // As an array they would take a number of the generator for each byte.
        let (first, last): (u64, u16) = rand::random();
        let mut random = [0; 10];
        random[..8].copy_from_slice(&first.to_ne_bytes());
        random[8..].copy_from_slice(&last.to_ne_bytes());
        let id = Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid();
        Self(id.hyphenated())
    }

    /// Its text, written into `buffer`.
    pub(super) fn text(self, buffer: &mut [u8; Self::LENGTH]) -> &str {
        self.0.encode_lower(buffer)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn ids_differ_and_sort_by_time() {
        let at = Utc::now();
        let (one, other) = (RequestId::new(at), RequestId::new(at));
        let later = RequestId::new(at + TimeDelta::milliseconds(1));
        assert_ne!(one, other);
        assert!(later.to_string() > one.to_string() && later.to_string() > other.to_string());
        let mut buffer = [0; RequestId::LENGTH];
        assert_eq!(one.text(&mut buffer), one.to_string());
        let id = uuid::Uuid::parse_str(&one.to_string()).unwrap();
        assert_eq!(id.get_version_num(), 7);
    }
}
