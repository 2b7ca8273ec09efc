//! Error of a route file: its place, the fault, and the remedy.

use std::fmt;
use std::path::{Path, PathBuf};

/// Why a set of route files was refused. `Display` is one readable message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteError {
    /// The file.
    pub file: PathBuf,
    /// Line in the file, from 1.
    pub line: usize,
    /// The route, where the fault is in one and its name is known.
    pub route: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file.display(), self.line)?;
        if let Some(route) = &self.route {
            write!(f, "route `{route}`: ")?;
        }
        write!(f, "{}; {}", self.problem, self.remedy)
    }
}

impl std::error::Error for RouteError {}

/// A fault of one key, before its line and route are known.
#[derive(Debug)]
pub(super) struct KeyFault {
    /// Offset in the file, in bytes.
    pub(super) at: usize,
    /// What is wrong.
    pub(super) problem: String,
    /// What to do.
    pub(super) remedy: String,
}

impl KeyFault {
    pub(super) fn new(at: usize, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            at,
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
}

/// The error of a file that is not TOML, or has unknown keys or values.
pub(super) fn unreadable(path: &Path, text: &str, error: &toml::de::Error) -> RouteError {
    let offset = error.span().map_or(0, |span| span.start);
    let problem = error.message().trim().replace('\n', ", ");
    let remedy = if text.parse::<toml::Table>().is_err() {
        "correct the TOML syntax"
    } else if problem.starts_with("missing field") {
        "add it"
    } else {
        "correct or remove it"
    };
    RouteError {
        file: path.to_owned(),
        line: line_of(text, offset),
        route: route_at(text, offset),
        problem,
        remedy: remedy.into(),
    }
}

/// Name of the route whose `[[route]]` is the last one up to the offset, where the file is TOML at all.
fn route_at(text: &str, offset: usize) -> Option<String> {
    let table: toml::Table = text.parse().ok()?;
    let line = line_of(text, offset);
    let is_header = |line: &&str| {
        line.split('#')
            .next()
            .is_some_and(|code| code.trim() == "[[route]]")
    };
    let index = text.lines().take(line).filter(is_header).count().checked_sub(1)?;
    let name = table.get("route")?.get(index)?.get("name")?.as_str()?;
    Some(name.to_owned())
}

/// The line of an offset, from 1.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or_default();
    1 + before.split(|&byte| byte == b'\n').count().saturating_sub(1)
}
