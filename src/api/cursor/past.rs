//! The cursor of past visitors: the window of the first page, and where the previous one ended. Opaque to clients.
//!
//! base64url (no padding) of a version byte, the window's end in milliseconds and what the last entry is sorted by (both
//! big-endian `i64`), and its user id. Whatever matches [`PATTERN`] is read: it only says where to continue. A window
//! that ended long ago is refused where the query is parsed. Pure.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};

use super::MAX_USER_ID;
use crate::ids::UserId;
use crate::store::PastPlace;

const VERSION: u8 = 2;
/// The year 4253, in microseconds: more than any number of visits, too.
const MAX_VALUE: i64 = (1 << 56) - 1;

/// Every cursor, and nothing else: the version byte, times up to the year 10889, then eight bytes and one to 255 more in
/// groups of three, of which the last may be shorter.
pub(in crate::api) const PATTERN: &str = "^AgAA[A-Za-z0-9_-]{8}([A-Za-z0-9_-]{4}){3,87}\
     ([A-Za-z0-9_-]{2}[AEIMQUYcgkosw048]|[A-Za-z0-9_-][AQgw])?$";

/// Where a page of past visitors continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::api) struct PastCursor {
    /// End of the window, in whole milliseconds.
    pub(in crate::api) to: DateTime<Utc>,
    /// The last entry.
    pub(in crate::api) place: PastPlace,
}

impl PastCursor {
    /// Its text.
    pub(in crate::api) fn encode(&self) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.to.timestamp_millis().to_be_bytes());
        bytes.extend_from_slice(&self.place.value.to_be_bytes());
        bytes.extend_from_slice(self.place.user.as_str().as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// From its text; `None` for anything that [`PastCursor::encode`] does not make.
    pub(in crate::api) fn decode(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (&VERSION, rest) = bytes.split_first()? else {
            return None;
        };
        let (millis, rest) = rest.split_first_chunk::<8>()?;
        let (value, user) = rest.split_first_chunk::<8>()?;
        let millis = i64::from_be_bytes(*millis);
        if millis < 0 || user.is_empty() || user.len() > MAX_USER_ID {
            return None;
        }
        Some(Self {
            to: DateTime::from_timestamp_millis(millis)?,
            place: PastPlace {
                value: i64::from_be_bytes(*value).clamp(0, MAX_VALUE),
                user: UserId::from(&*String::from_utf8_lossy(user)),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;

    proptest! {
        #[test]
        fn s31_a_cursor_reads_back_and_has_its_pattern(
            millis in 0i64..(1 << 48),
            value in 0..=MAX_VALUE,
            user in "[a-z0-9-]{1,255}",
        ) {
            let place = PastPlace { value, user: UserId::from(&*user) };
            let cursor = PastCursor { to: DateTime::from_timestamp_millis(millis).unwrap(), place };
            let text = cursor.encode();
            prop_assert!(Regex::new(PATTERN).unwrap().is_match(&text), "{}", text);
            prop_assert_eq!(PastCursor::decode(&text), Some(cursor));
        }

        #[test]
        fn s31_whatever_has_the_pattern_is_a_cursor(text in PATTERN.trim_matches(['^', '$'])) {
            prop_assert!(PastCursor::decode(&text).is_some(), "{}", text);
        }
    }

    #[test]
    fn s31_what_is_no_cursor_is_refused() {
        for text in [
            "",
            "x",
            "AgAA",
            "AQAAAAAAAAAANw",
            "AgAAAAAAAAAAAAAAAAAAAAA",
            "AgAAAAAAAAAAAAAAAAAAAADh!",
        ] {
            assert_eq!(PastCursor::decode(text), None, "{text}");
        }
    }
}
