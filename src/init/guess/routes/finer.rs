//! A proposal for pages that a lookup leads from to their community: to count the visitors of each by themselves. The row's key
//! is captured once more, as the group of the lookup's name stands for the community.

use super::{GuessedRoute, path};

/// A pattern that matches as the route's does and captures the key, and a `presence` that names what it captures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::init) struct FinerProposal {
    pub pattern: String,
    pub presence: String,
}

impl GuessedRoute {
    /// What to write to count by themselves those who are at the row that the path names; `None` where the page is not the
    /// row's own.
    pub(in crate::init) fn finer(&self) -> Option<FinerProposal> {
        let name = &self.lookup.as_ref()?.name;
        if self.page_type.as_ref() != Some(name) || self.is_proposal {
            return None;
        }
        let start = format!("(?P<{name}>");
        let (before, _) = self.pattern.split_once(&start)?;
        let (inside, after) = (
            path::inside(&self.pattern, name),
            path::after(&self.pattern, name),
        );
        Some(FinerProposal {
            pattern: format!("{before}{start}(?P<{name}_key>{inside})){after}"),
            presence: format!("[\"{name}\", {{ capture = \"{name}_key\", path = \"{name}s\" }}]"),
        })
    }
}
