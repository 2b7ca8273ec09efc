//! Key types: the app's primary keys and their canonical form, one in paths, Redis, JSON and the app's metadata. Pure.
//!
//! | column | canonical form | also accepted in paths |
//! |---|---|---|
//! | `smallint`, `integer`, `bigint` | digits without leading zeros | `0042` |
//! | `uuid`; SQLite: `char(32)` | lower case, with hyphens | capital letters, 32 digits, braces, `urn:uuid:` |
//! | text, `varchar(n)` | as it is | nothing else |
//! | `citext`, `char(n)`, text that is compared without regard to case | as the row has it | what the database takes for equal |

use std::borrow::Cow;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use uuid::Uuid;

use crate::ids::{AccountId, CommunityId, UserId};

/// The type of a key column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyType {
    /// An integer, with the least and the greatest value that the column holds.
    Integer(i64, i64),
    /// A `uuid`.
    Uuid,
    /// Text, with the column's limit in characters, if it has one.
    Text(Option<usize>),
    /// The same, where the database takes several texts as equal: only the row tells which of them is the key.
    LooseText(Option<usize>),
}

impl KeyType {
    /// `bigint`.
    pub const BIGINT: Self = Self::Integer(i64::MIN, i64::MAX);

    /// The canonical form of a spelling; `None` where it is no key of this type. [`KeyType::LooseText`] stays as it is.
    pub fn canonical(self, spelling: &str) -> Option<Cow<'_, str>> {
        match self {
            Self::Integer(least, greatest) => {
                let digits = spelling.strip_prefix('-').unwrap_or(spelling);
                if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    return None;
                }
                let number: i64 = spelling.parse().ok()?;
                let key = number.to_string();
                let fits = (least..=greatest).contains(&number);
                fits.then(|| {
                    if key == spelling {
                        spelling.into()
                    } else {
                        key.into()
                    }
                })
            }
            Self::Uuid => {
                let key = Uuid::try_parse(spelling).ok()?.hyphenated().to_string();
                Some(if key == spelling {
                    spelling.into()
                } else {
                    key.into()
                })
            }
            Self::Text(limit) | Self::LooseText(limit) => {
                let is_short = limit.is_none_or(|limit| spelling.chars().nth(limit).is_none());
                let is_key = is_short && !spelling.is_empty() && !spelling.contains('\0');
                is_key.then_some(spelling.into())
            }
        }
    }

    /// What such a key is, for messages.
    pub fn in_words(self) -> String {
        match self {
            Self::Integer(..) => "integers".into(),
            Self::Uuid => "UUIDs".into(),
            Self::Text(None) | Self::LooseText(None) => "texts".into(),
            Self::Text(Some(limit)) | Self::LooseText(Some(limit)) => {
                format!("texts of at most {limit} characters")
            }
        }
    }

    /// Every text that the app may have written into JSON for a key in canonical form.
    pub fn spellings(self, key: &str) -> Vec<String> {
        let mut spellings = vec![key.to_owned()];
        if let Self::Uuid = self {
            let simple = key.replace('-', "");
            spellings.extend([key.to_uppercase(), simple.to_uppercase(), simple]);
            spellings.extend([format!("{{{key}}}"), format!("urn:uuid:{key}")]);
        }
        spellings
    }

    /// The number of a key in canonical form, where keys are integers.
    pub fn number(self, key: &str) -> Option<i64> {
        match self {
            Self::Integer(..) => key.parse().ok().filter(|number: &i64| number.to_string() == key),
            Self::Uuid | Self::Text(_) | Self::LooseText(_) => None,
        }
    }
}

/// The types of the keys that appear in answers and in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyTypes {
    /// The key of the app's communities.
    pub community: KeyType,
    /// The key of its user profiles.
    pub user: KeyType,
}

/// The types of the app's keys in the live schema: unknown until the database has answered once. A handle; never waits.
#[derive(Debug, Clone, Default)]
pub struct AppKeys(Arc<ArcSwapOption<KeyTypes>>);

impl AppKeys {
    /// Types that are known from the start.
    pub fn of(types: KeyTypes) -> Self {
        let keys = Self::default();
        keys.learn(types);
        keys
    }

    /// Stores the types that were read from the live schema.
    pub fn learn(&self, types: KeyTypes) {
        if self.get() != Some(types) {
            self.0.store(Some(Arc::new(types)));
        }
    }

    /// The types, where they are known.
    pub fn get(&self) -> Option<KeyTypes> {
        self.0.load().as_deref().copied()
    }

    /// The canonical id of a spelling; the spelling itself where it is no key, or the types are unknown.
    pub fn community(&self, spelling: &str) -> CommunityId {
        let canonical = self.get().and_then(|types| types.community.canonical(spelling));
        CommunityId::from(&*canonical.unwrap_or(spelling.into()))
    }

    /// The user of an account, where the app's users have no other key; `None` for what is no key of the column's type, once
    /// that is known.
    pub fn user(&self, spelling: &AccountId) -> Option<UserId> {
        let Some(types) = self.get() else {
            return Some(UserId::from(spelling.as_str()));
        };
        let canonical = types.user.canonical(spelling.as_str())?;
        Some(UserId::from(&*canonical))
    }

    /// The canonical id of a user whose key somebody spells; `None` for what is no key of the column's type, once that is
    /// known.
    pub fn user_key(&self, spelling: &str) -> Option<UserId> {
        self.user(&AccountId::from(spelling))
    }

    /// What the keys of communities are where a text is none; `None` where it may be one, or the types are unknown.
    pub fn no_community(&self, spelling: &str) -> Option<String> {
        let keys = self.get()?.community;
        keys.canonical(spelling).is_none().then(|| keys.in_words())
    }

    /// The number of a community's key, where keys are integers.
    pub fn community_number(&self, community: &CommunityId) -> Option<i64> {
        self.get()?.community.number(community.as_str())
    }

    /// The number of a user's key, where keys are integers.
    pub fn user_number(&self, user: &UserId) -> Option<i64> {
        self.get()?.user.number(user.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "0190163d-8694-739b-aea5-966c26f8ad91";

    #[test]
    fn v20_a_key_has_one_form_whatever_its_spelling() {
        let canonical = |kind: KeyType, text| kind.canonical(text).map(Cow::into_owned);
        for (spelling, key) in [
            ("42", "42"),
            ("0042", "42"),
            ("0", "0"),
            ("000", "0"),
            ("-7", "-7"),
            ("-0", "0"),
        ] {
            assert_eq!(
                canonical(KeyType::BIGINT, spelling).as_deref(),
                Some(key),
                "{spelling}"
            );
        }
        for spelling in [
            UUID,
            "0190163D-8694-739B-AEA5-966C26F8AD91",
            "0190163d8694739baea5966c26f8ad91",
            "{0190163D-8694-739b-aea5-966c26f8ad91}",
            "urn:uuid:0190163d-8694-739b-aea5-966c26f8ad91",
        ] {
            assert_eq!(
                canonical(KeyType::Uuid, spelling).as_deref(),
                Some(UUID),
                "{spelling}"
            );
        }
        for text in ["007", "General", UUID, "0190163d8694739baea5966c26f8ad91"] {
            assert_eq!(canonical(KeyType::Text(None), text).as_deref(), Some(text));
        }
    }

    #[test]
    fn v21_what_is_no_key_of_its_type_is_none() {
        for text in [
            "",
            "-",
            "+7",
            " 7",
            "7 ",
            "7.0",
            "1e3",
            "abc",
            "٤٢",
            "9223372036854775808",
        ] {
            assert_eq!(KeyType::BIGINT.canonical(text), None, "{text}");
        }
        assert_eq!(KeyType::Integer(-32_768, 32_767).canonical("32768"), None);
        for text in [
            "",
            "42",
            "0190163d8694739baea5966c26f8ad9",
            "0190163d-8694-739b-aea5-966c26f8ad9g",
        ] {
            assert_eq!(KeyType::Uuid.canonical(text), None, "{text}");
        }
        for text in ["", "a\0", "äöüä"] {
            assert_eq!(KeyType::Text(Some(3)).canonical(text), None, "{text}");
        }
        assert!(KeyType::Text(Some(3)).canonical("äöü").is_some());
    }

    #[test]
    fn v22_only_keys_that_are_integers_are_numbers() {
        assert_eq!(KeyType::BIGINT.number("7"), Some(7));
        assert_eq!(KeyType::Text(None).number("7"), None);
        assert_eq!(KeyType::Uuid.number(UUID), None);
    }

    #[test]
    fn what_is_not_known_is_left_as_it_is() {
        let keys = AppKeys::default();
        assert_eq!(keys.community("007").as_str(), "007");
        assert_eq!(keys.community_number(&"7".into()), None);
        let (community, user) = (KeyType::BIGINT, KeyType::Text(None));
        keys.learn(KeyTypes { community, user });
        assert_eq!(keys.community("007").as_str(), "7");
        assert_eq!(keys.community("abc").as_str(), "abc");
        assert_eq!(keys.community_number(&"7".into()), Some(7));
        assert_eq!(keys.user_number(&"7".into()), None);
    }
}
