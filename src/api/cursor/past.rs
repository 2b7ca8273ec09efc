//! The cursor of past visitors: the list and the window of the first page, and where the previous one ended. Opaque to
//! clients.
//!
//! base64url (no padding) of a version byte, the window's end in milliseconds and what the last entry is sorted by (both
//! big-endian `i64`), the [`Belonging`], and the last entry's user id. Whatever matches [`PATTERN`] is read: it only says where
//! to continue. A window that ended long ago is refused where the query is parsed, the cursor of another list where the
//! community is known. Pure.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};

use super::MAX_USER_ID;
use crate::ids::{CommunityId, UserId};
use crate::store::{PastPlace, PastSort};

const VERSION: u8 = 3;
/// The year 4253, in microseconds: more than any number of visits, too.
const MAX_VALUE: i64 = (1 << 56) - 1;

/// Every cursor, and nothing else: the version byte, times up to the year 10889, then fourteen bytes and one to 255 more in
/// groups of three, of which the last may be shorter.
pub(in crate::api) const PATTERN: &str = "^AwAA[A-Za-z0-9_-]{8}([A-Za-z0-9_-]{4}){5,89}\
     ([A-Za-z0-9_-]{2}[AEIMQUYcgkosw048]|[A-Za-z0-9_-][AQgw])?$";

/// Which list a cursor is of: a digest of community, days and order, the same on all sidecars. No secret: a cursor gives no
/// access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) struct Belonging([u8; 6]);

impl Belonging {
    /// The list of a community over some days in an order.
    pub(in crate::api) fn new(community: &CommunityId, days: u32, sort: PastSort) -> Self {
        let sort: u8 = match sort {
            PastSort::LastVisit => 0,
            PastSort::VisitCount => 1,
            PastSort::FirstVisit => 2,
        };
        let digest = Sha256::new()
            .chain_update([sort])
            .chain_update(days.to_be_bytes())
            .chain_update(community.as_str());
        let mut belonging = [0; 6];
        for (byte, digest) in belonging.iter_mut().zip(digest.finalize()) {
            *byte = digest;
        }
        Self(belonging)
    }
}

/// Where a page of past visitors continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::api) struct PastCursor {
    /// End of the window, in whole milliseconds.
    pub(in crate::api) to: DateTime<Utc>,
    /// The last entry.
    pub(in crate::api) place: PastPlace,
    /// The list.
    pub(in crate::api) belonging: Belonging,
}

impl PastCursor {
    /// Its text.
    pub(in crate::api) fn encode(&self) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.to.timestamp_millis().to_be_bytes());
        bytes.extend_from_slice(&self.place.value.to_be_bytes());
        bytes.extend_from_slice(&self.belonging.0);
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
        let (value, rest) = rest.split_first_chunk::<8>()?;
        let (belonging, user) = rest.split_first_chunk::<6>()?;
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
            belonging: Belonging(*belonging),
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
            belonging: [u8; 6],
        ) {
            let place = PastPlace { value, user: UserId::from(&*user) };
            let to = DateTime::from_timestamp_millis(millis).unwrap();
            let cursor = PastCursor { to, place, belonging: Belonging(belonging) };
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
            "AwAA",
            "AQAAAAAAAAAANw",
            "AwAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "AwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA!",
            "AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert_eq!(PastCursor::decode(text), None, "{text}");
        }
    }
}
