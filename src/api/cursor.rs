//! The cursor of the visitor list: where the page before ended. Opaque to clients.
//!
//! base64url (no padding) of a version byte, the last entry's last-seen milliseconds (big-endian `i64`), and
//! its user id. Pure.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::DateTime;

use crate::ids::UserId;
use crate::presence::Seen;

const VERSION: u8 = 1;

/// Longest user id in a cursor, in bytes: more than any integer or uuid key.
const MAX_USER_ID: usize = 64;

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
    let user = std::str::from_utf8(user).ok()?;
    if user.is_empty() || user.len() > MAX_USER_ID || user.chars().any(char::is_control) {
        return None;
    }
    Some(Seen {
        user: UserId::from(user),
        last_seen: DateTime::from_timestamp_millis(i64::from_be_bytes(*millis))?,
    })
}
