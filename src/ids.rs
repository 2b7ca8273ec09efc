//! Identifiers of the app's rows and the session token, as types that cannot be confused.
//!
//! The app's primary keys may be `bigint`, `uuid` or text; here they are text in the form that the app itself prints
//! (`42`, `0190…-…`), which is also the form in JSON and Redis. [`key_type`](crate::key_type) converts other spellings
//! to that form, `store` translates to and from the column's type. No I/O.

mod finer;
mod session_token;
mod site;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use finer::Finer;
pub use session_token::{Claims, SessionToken};
pub use site::{SiteIdentity, are_different};

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes the text form as it is.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The text form.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }
    };
}

text_id! {
    /// Primary key of the app's user profile: what events and sessions refer to.
    UserId
}
text_id! {
    /// Primary key of the account (Django: `auth_user`) that sessions name: a user's, or that of a profile's account.
    AccountId
}
text_id! {
    /// Primary key of the app's community.
    CommunityId
}
text_id! {
    /// Primary key of the app's session row, or the SHA-256 of the token's column where that is the key. Not the token: safe to log
    /// and to send.
    BrowserSessionId
}

impl BrowserSessionId {
    /// The id of a session whose table has no key but the token, or its hash: the SHA-256 of what the table holds, in
    /// hexadecimal digits.
    pub fn of_token(token: &SessionToken) -> Self {
        Self::new(hexadecimal(&token.sha256()))
    }
}

/// Bytes in small hexadecimal digits.
pub fn hexadecimal(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut digits, byte| {
        // Writing to a string does not fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

/// The first 16 bits of a token's SHA-256: enough to find the tokens without a session for which one may have appeared,
/// and not enough to reveal the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenFingerprint(u16);

impl TokenFingerprint {
    /// The number of fingerprints.
    pub const COUNT: usize = 1 << 16;

    /// Parses the four hexadecimal digits of a fingerprint.
    pub fn parse(digits: &str) -> Option<Self> {
        let is_one = digits.len() == 4 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_one
            .then(|| u16::from_str_radix(digits, 16).ok())
            .flatten()
            .map(Self)
    }

    /// From 0 up to [`Self::COUNT`].
    pub fn index(self) -> usize {
        self.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_what_a_database_makes_of_the_token() {
        // printf 'abc' | sha256sum
        let fingerprint = SessionToken::new("abc").fingerprint();
        assert_eq!(TokenFingerprint::parse("ba78"), Some(fingerprint));
        assert_eq!(fingerprint.index(), 0xba78);
        let id = BrowserSessionId::of_token(&SessionToken::new("abc"));
        assert_eq!(
            id.as_str(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        for other in ["", "ba7", "ba78f", "+a78", "ba7g", "bä7"] {
            assert_eq!(TokenFingerprint::parse(other), None, "{other}");
        }
    }

    #[test]
    fn identifiers_print_and_serialise_as_plain_text() {
        assert_eq!(CommunityId::from("42").to_string(), "42");
        assert_eq!(serde_json::to_string(&UserId::from("7")).unwrap(), "\"7\"");
    }
}
