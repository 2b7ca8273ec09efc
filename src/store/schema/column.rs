//! Tables' names, columns, the kinds of their values, and how a database quotes names. Pure.

use std::fmt;

use chrono_tz::Tz;

use crate::key_type::KeyType;

/// A table's name; prints quoted, with its schema where it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    /// Decides the quotes.
    pub dialect: Dialect,
    /// Schema, on Postgres.
    pub schema: Option<String>,
    /// Name.
    pub name: String,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{}.", self.dialect.quoted(schema))?;
        }
        f.write_str(&self.dialect.quoted(&self.name))
    }
}

/// A column; prints as its quoted name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Decides the quotes.
    pub dialect: Dialect,
    /// Name, unquoted.
    pub name: String,
    /// The kind of its values.
    pub kind: Kind,
    /// The type as the database writes it, for casts: `bigint`, `character varying(20)`.
    pub type_name: String,
    /// Whether it is nullable.
    pub nullable: bool,
    /// Most characters, for `varchar(n)`.
    pub max_length: Option<usize>,
    /// Whether different texts are equal: its type or collation ignores case, or spaces at the end.
    pub is_loose: bool,
    /// Zone of moments without one.
    pub zone: Tz,
}

impl Column {
    /// Whether `text` is the canonical form of a value of this key column, as in paths and JSON. Other spellings
    /// (`042`, a `uuid` in capitals) would make two communities of one.
    pub(in crate::store) fn is_key(&self, text: &str) -> bool {
        self.key_type().canonical(text).is_some_and(|key| key == text)
    }

    /// Whether it holds texts, and `text` has more characters than it takes. Values of other kinds have forms of their own: SQLite
    /// has a `uuid` in 32 characters, however it is spelt.
    pub(in crate::store) fn cuts(&self, text: &str) -> bool {
        let limit = self.max_length.filter(|_| self.kind == Kind::Text);
        limit.is_some_and(|limit| text.chars().count() > limit)
    }

    /// Whether SQL compares its values with those of another column.
    pub(in crate::store) fn compares_with(&self, other: &Self) -> bool {
        let is_integer = |kind| matches!(kind, Kind::SmallInt | Kind::Integer | Kind::BigInt);
        self.kind == other.kind || (is_integer(self.kind) && is_integer(other.kind))
    }

    /// The type of its values as keys.
    pub(in crate::store) fn key_type(&self) -> KeyType {
        match self.kind {
            Kind::SmallInt => KeyType::Integer(i16::MIN.into(), i16::MAX.into()),
            Kind::Integer => KeyType::Integer(i32::MIN.into(), i32::MAX.into()),
            Kind::BigInt => KeyType::BIGINT,
            Kind::Uuid => KeyType::Uuid,
            _ => {
                // SQLite keeps whatever is written, however long its column says that it may be.
                let limit = self.max_length.filter(|_| self.dialect == Dialect::Postgres);
                if self.is_loose {
                    KeyType::LooseText(limit)
                } else {
                    KeyType::Text(limit)
                }
            }
        }
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.dialect.quoted(&self.name))
    }
}

/// The kind of a column's values, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as the SQL types")]
pub enum Kind {
    SmallInt,
    Integer,
    BigInt,
    /// On SQLite: `char(32)`, hexadecimal digits without dashes, as Django writes it.
    Uuid,
    Text,
    Bool,
    /// A moment with zone.
    TimestampTz,
    /// A moment without zone. All of SQLite's moments.
    Timestamp,
    Json,
    Jsonb,
    Inet,
    /// Anything else.
    Other,
}

/// The kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "their names")]
pub enum Dialect {
    Postgres,
    Sqlite,
}

impl Dialect {
    /// An identifier for SQL: in quotes, inner ones doubled. On SQLite not in double quotes: there a double-quoted
    /// name that is no column is a string, and a renamed column would read as its own name.
    pub(in crate::store) fn quoted(self, name: &str) -> String {
        let quote = match self {
            Self::Postgres => "\"",
            Self::Sqlite => "`",
        };
        format!("{quote}{}{quote}", name.replace(quote, &quote.repeat(2)))
    }
}

#[cfg(test)]
impl Column {
    /// A column for tests.
    pub(in crate::store) fn sample(dialect: Dialect, kind: Kind) -> Self {
        Self {
            dialect,
            name: "c".into(),
            kind,
            type_name: String::new(),
            nullable: false,
            max_length: None,
            is_loose: false,
            zone: Tz::UTC,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(kind: Kind) -> Column {
        Column::sample(Dialect::Postgres, kind)
    }

    #[test]
    fn a_key_has_one_spelling() {
        assert!(column(Kind::BigInt).is_key("42"));
        for other in ["042", "+42", " 42", "42.0", "", "general", "99999999999999999999"] {
            assert!(!column(Kind::BigInt).is_key(other), "{other}");
        }
        assert!(!column(Kind::Integer).is_key("3000000000"));
        assert!(column(Kind::Uuid).is_key("0190163d-8694-739b-aea5-966c26f8ad91"));
        for other in [
            "0190163D-8694-739B-AEA5-966C26F8AD91",
            "0190163d8694739baea5966c26f8ad91",
            "{0190163d-8694-739b-aea5-966c26f8ad91}",
            "42",
        ] {
            assert!(!column(Kind::Uuid).is_key(other), "{other}");
        }
        assert!(column(Kind::Text).is_key("general"));
    }

    #[test]
    fn v21_only_postgres_has_no_key_that_is_longer_than_declared() {
        let declared = |dialect| Column {
            dialect,
            max_length: Some(3),
            ..column(Kind::Text)
        };
        assert!(!declared(Dialect::Postgres).is_key("rust"));
        assert!(declared(Dialect::Postgres).is_key("ust"));
        assert!(declared(Dialect::Sqlite).is_key("rust"));
    }

    #[test]
    fn identifiers_are_quoted() {
        let mut table = TableName {
            dialect: Dialect::Postgres,
            schema: Some("fo\"rum".into()),
            name: "User".into(),
        };
        assert_eq!(table.to_string(), "\"fo\"\"rum\".\"User\"");
        table.dialect = Dialect::Sqlite;
        table.schema = None;
        assert_eq!(table.to_string(), "`User`");
    }
}
