//! Configuration error: place, key, problem and remedy in one message.

use std::fmt;
use std::path::PathBuf;

/// A fault of the configuration, for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// Where it was written.
    pub place: Place,
    /// Dotted key, where the problem is with one key.
    pub key: Option<String>,
    /// What is wrong, and what to write instead.
    pub problem: String,
}

/// Where a setting was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file, and a line of it where known (from 1).
    File(PathBuf, Option<usize>),
    /// An environment variable.
    Variable(String),
    /// Nowhere: a default, or a key that is missing.
    Default,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File(path, Some(line)) => write!(f, "{}:{line}: ", path.display())?,
            Place::File(path, None) => write!(f, "{}: ", path.display())?,
            Place::Variable(name) => write!(f, "environment variable {name}: ")?,
            Place::Default => {}
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.problem)
    }
}
