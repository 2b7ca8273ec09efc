//! A column of `[schema.profile]` that may be in another table, such as names that are stored with the account.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::config::rules::{Checked, ensure};

/// The column with a value of a profile.
#[derive(Clone, PartialEq, Eq)]
pub enum ProfileColumn {
    /// A column of the profile table; `""` where the app has none.
    Own(String),
    /// A column of another table, found by a key.
    Joined(JoinedColumn),
}

/// A column of the row of another table whose key is in the profile.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinedColumn {
    /// The other table, optionally `schema.table` on Postgres.
    pub table: String,
    /// Its key: unique, so that a profile has one row there.
    pub key: String,
    /// The column of the profile table that holds that key.
    pub of: String,
    /// The column with the value.
    pub column: String,
}

impl ProfileColumn {
    /// Whether the app has no such column.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Own(name) if name.is_empty())
    }

    /// The other table, for a column that is there.
    pub fn joined(&self) -> Option<&JoinedColumn> {
        match self {
            Self::Own(_) => None,
            Self::Joined(joined) => Some(joined),
        }
    }

    /// Names are not checked here, only whether all are given.
    pub(super) fn check(&self, key: &'static str) -> Checked {
        let Self::Joined(JoinedColumn {
            table,
            key: found_by,
            of,
            column,
        }) = self
        else {
            return Ok(());
        };
        let are_given = [table, found_by, of, column]
            .iter()
            .all(|name| !name.trim().is_empty());
        ensure(
            are_given,
            key,
            format!("table, key, of and column must not be empty: {EXAMPLE}"),
        )
    }
}

/// A name as text, as the other columns are.
impl fmt::Debug for ProfileColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(name) => name.fmt(f),
            Self::Joined(joined) => joined.fmt(f),
        }
    }
}

impl From<&str> for ProfileColumn {
    fn from(name: &str) -> Self {
        Self::Own(name.into())
    }
}

const EXAMPLE: &str =
    "for example { table = \"auth_user\", key = \"id\", of = \"user_id\", column = \"username\" }";

/// By hand: an untagged enum would say only that no variant matches.
impl<'de> Deserialize<'de> for ProfileColumn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrTable;

        impl<'de> Visitor<'de> for NameOrTable {
            type Value = ProfileColumn;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a column's name, or a column of another table, {EXAMPLE}")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<ProfileColumn, E> {
                Ok(name.into())
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ProfileColumn, A::Error> {
                JoinedColumn::deserialize(MapAccessDeserializer::new(map)).map(ProfileColumn::Joined)
            }
        }

        deserializer.deserialize_any(NameOrTable)
    }
}
