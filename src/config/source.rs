//! Source of the configuration: the file's text, and errors about it with file, line or variable.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use toml::Table;
use toml_edit::TableLike;

use super::error::{ConfigError, SetBy};
use super::keyed::Keyed;

/// A configuration file's text, kept to find the line of a key.
pub(super) struct Source {
    pub path: PathBuf,
    pub text: String,
    /// Dotted key → variable name.
    pub overridden: BTreeMap<String, String>,
}

impl Source {
    /// Reads the file as a type.
    pub(super) fn typed<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        typed(&self.table()?).map_err(|(key, problem)| self.error_at(key, problem))
    }

    /// Parses the file.
    pub(super) fn table(&self) -> Result<Table, ConfigError> {
        toml::from_str(&self.text).map_err(|error: toml::de::Error| {
            let line = error.span().map(|span| line_of(&self.text, span.start));
            ConfigError {
                set_by: SetBy::File(self.path.clone(), line),
                key: None,
                problem: in_words(error.message()),
            }
        })
    }

    /// An error about one key, placed where the key was written.
    pub(super) fn error_at(&self, key: String, problem: String) -> ConfigError {
        let set_by = self.set_by(&key);
        ConfigError {
            set_by,
            key: Some(key),
            problem,
        }
    }

    /// Where a key was written, as errors print it; `None` where neither it nor its section was.
    pub(super) fn place_of(&self, key: &str) -> Option<String> {
        match self.set_by(key) {
            SetBy::File(path, Some(line)) => Some(format!("{}:{line}", path.display())),
            SetBy::File(_, None) => None,
            SetBy::Variable(name) => Some(format!("environment variable {name}")),
        }
    }

    fn set_by(&self, key: &str) -> SetBy {
        let is_of = |overridden: &str| key == overridden || key.starts_with(&format!("{overridden}["));
        match self.overridden.iter().find(|(overridden, _)| is_of(overridden)) {
            Some((_, variable)) => SetBy::Variable(variable.clone()),
            None => SetBy::File(self.path.clone(), self.line_of_key(key)),
        }
    }

    /// The line of a dotted key, or of the nearest table above it in the file.
    fn line_of_key(&self, key: &str) -> Option<usize> {
        let document = toml_edit::Document::parse(self.text.as_str()).ok()?;
        let mut table: &dyn TableLike = document.as_table();
        let mut line = None;
        for part in key.split('.') {
            let (name, index) = part.split_once('[').unwrap_or((part, ""));
            let Some((key, item)) = table.get_key_value(name) else {
                break;
            };
            let mut span = key.span().or_else(|| item.span());
            let within = match item.as_array_of_tables() {
                Some(tables) => {
                    let index = index.trim_end_matches(']').parse().ok();
                    let one = index.and_then(|index| tables.get(index));
                    span = one.and_then(toml_edit::Table::span).or(span);
                    one.map(|one| one as &dyn TableLike)
                }
                None => item.as_table_like(),
            };
            line = span.map(|span| line_of(&self.text, span.start)).or(line);
            let Some(within) = within else { break };
            table = within;
        }
        line
    }
}

/// Reads a table as a type; the error is the dotted key and what is wrong with it.
///
/// A type's derived code is large, and there is as much of it again for each format that it is read from: hence from one,
/// JSON's values, which the rest of the sidecar reads, too.
pub(super) fn typed<T: DeserializeOwned>(table: &Table) -> Result<T, (String, String)> {
    T::deserialize(Keyed(&json_table(table))).map_err(|error| (error.key(), in_words(&error.to_string())))
}

fn json_table(table: &Table) -> serde_json::Value {
    let entries = table.iter().map(|(key, value)| (key.clone(), json(value)));
    serde_json::Value::Object(entries.collect())
}

/// TOML as JSON. Dates keep the form in which they are read as dates and as nothing else.
fn json(value: &toml::Value) -> serde_json::Value {
    match value {
        toml::Value::Table(table) => json_table(table),
        toml::Value::Array(values) => values.iter().map(json).collect(),
        toml::Value::String(text) => text.as_str().into(),
        toml::Value::Integer(number) => (*number).into(),
        toml::Value::Boolean(flag) => (*flag).into(),
        toml::Value::Float(number) if number.is_finite() => (*number).into(),
        // No number in JSON: a text, which is no number where one is wanted.
        toml::Value::Float(number) => number.to_string().into(),
        toml::Value::Datetime(date) => serde_json::to_value(date).unwrap_or_default(),
    }
}

/// A parser's message on one line, with an example for durations and sizes.
fn in_words(message: &str) -> String {
    let message = message.trim().replace('\n', "; ");
    for (end, example) in [
        ("expected a duration", "expected a duration, for example \"5s\""),
        (
            "invalid socket address syntax",
            "expected an address with its port, for example \"127.0.0.1:8080\" or \"[::1]:8080\"; names are not taken",
        ),
        (
            "expected parsable string",
            "expected a size, for example \"64KiB\"",
        ),
    ] {
        if let Some(start) = message.strip_suffix(end) {
            return format!("{start}{example}");
        }
    }
    message
}

/// Line number, from 1, of a byte offset.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()
        .iter()
        .take(offset)
        .filter(|byte| **byte == b'\n')
        .count()
        + 1
}
