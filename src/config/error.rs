//! Configuration error: file or variable, key, problem and remedy in one message.

use std::fmt;
use std::path::PathBuf;

/// A fault of the configuration, for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// What sets the value.
    pub set_by: SetBy,
    /// Dotted key, where the problem is with one key.
    pub key: Option<String>,
    /// What is wrong, and what to write instead.
    pub problem: String,
}

/// What sets a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetBy {
    /// A file, and a line of it where known (from 1).
    File(PathBuf, Option<usize>),
    /// An environment variable.
    Variable(String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.set_by {
            SetBy::File(path, Some(line)) => write!(f, "{}:{line}: ", path.display())?,
            SetBy::File(path, None) => write!(f, "{}: ", path.display())?,
            SetBy::Variable(name) => write!(f, "environment variable {name}: ")?,
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.problem)
    }
}
