//! The cursor of the visitor list: where the previous page ended. Opaque to clients. `past` has that of past visitors.
//!
//! base64url (no padding) of a version byte, the last entry's last-seen milliseconds (big-endian `i64`), and its
//! user id. Whatever matches [`PATTERN`] is accepted: it only says where to continue, and is compared with nothing
//! but presence. Pure.

pub(super) mod past;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::DateTime;

use crate::ids::UserId;
use crate::presence::Seen;

const VERSION: u8 = 1;

/// Longest user id in a cursor, in bytes.
const MAX_USER_ID: usize = 255;

/// Every cursor, and nothing else, in a dialect that JSON schemas and Rust share: the version byte, times up to the
/// year 10889, then one to 255 bytes in groups of three, of which the last may be shorter.
pub(super) const PATTERN: &str = "^AQAA[A-Za-z0-9_-]{8}([A-Za-z0-9_-]{4}){0,84}\
     ([A-Za-z0-9_-]{4}|[A-Za-z0-9_-]{2}[AEIMQUYcgkosw048]|[A-Za-z0-9_-][AQgw])$";

/// The cursor that continues after an entry.
pub(super) fn encode(last: &Seen) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&last.last_seen.timestamp_millis().to_be_bytes());
    bytes.extend_from_slice(last.user.as_str().as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The entry that a cursor continues after; `None` for anything that [`encode`] does not make.
pub(super) fn decode(text: &str) -> Option<Seen> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (&VERSION, rest) = bytes.split_first()? else {
        return None;
    };
    let (millis, user) = rest.split_first_chunk::<8>()?;
    if user.is_empty() || user.len() > MAX_USER_ID {
        return None;
    }
    Some(Seen {
        user: UserId::from(&*String::from_utf8_lossy(user)),
        last_seen: DateTime::from_timestamp_millis(i64::from_be_bytes(*millis))?,
    })
}
