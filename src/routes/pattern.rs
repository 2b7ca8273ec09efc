//! Compiled route table: all patterns are tried at once; the first one in file order wins.

use std::sync::Arc;

use regex::{Captures, RegexSet, RegexSetBuilder};

use super::file::{self, CheckedRoute, CommunityGroup};
use super::{CommunityRef, Route, RouteError, RouteFile, RouteMatch};

/// Longest community key in a path, in characters; a longer one names no community.
const MAX_COMMUNITY_ID: usize = 64;
/// Longest community slug in a path, in characters; a longer one names no community.
const MAX_COMMUNITY_SLUG: usize = 255;
/// Largest compiled set of all patterns, in bytes.
const MAX_COMPILED_SET: usize = 32 << 20;

/// All routes, in order. The default table is empty: every path is unmatched.
#[derive(Debug)]
pub struct RouteTable {
    set: RegexSet,
    routes: Vec<CheckedRoute>,
}

impl Default for RouteTable {
    fn default() -> Self {
        Self {
            set: RegexSet::empty(),
            routes: Vec::new(),
        }
    }
}

impl RouteTable {
    /// Compiles route files, given in the order of their names, in which they apply. Returns the first fault; then no
    /// file is used.
    pub fn compile(files: &[RouteFile]) -> Result<Self, RouteError> {
        let routes = file::check(files)?;
        let set = RegexSetBuilder::new(routes.iter().map(|route| file::anchored(&route.pattern)))
            .size_limit(MAX_COMPILED_SET)
            .build()
            .map_err(|error| RouteError {
                file: files.first().map(|file| file.path.clone()).unwrap_or_default(),
                line: 1,
                route: None,
                problem: format!(
                    "the patterns of all files together do not compile: {}",
                    file::reason(&error)
                ),
                remedy: "use fewer or simpler patterns".into(),
            })?;
        Ok(Self { set, routes })
    }

    /// The first route whose pattern matches the path, which must be decoded by
    /// [`decode_path`](super::decode_path). Linear in the path's length, whatever the patterns.
    pub fn find(&self, decoded_path: &str) -> Option<RouteMatch> {
        let first = self.set.matches(decoded_path).into_iter().next()?;
        let route = self.routes.get(first)?;
        Some(RouteMatch {
            route: Arc::clone(&route.route),
            community: community(route, decoded_path),
        })
    }

    /// The number of routes.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether there are no routes.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// The routes in order, for example to initialise their metrics.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter().map(|route| &*route.route)
    }

    pub(super) fn checked(&self) -> &[CheckedRoute] {
        &self.routes
    }
}

fn community(route: &CheckedRoute, path: &str) -> Option<CommunityRef> {
    let group = route.group?;
    let captures = route.regex.captures(path)?;
    match group {
        CommunityGroup::Id(index) => {
            let id = captured(&captures, index, MAX_COMMUNITY_ID)?;
            Some(CommunityRef::Id(Arc::from(id)))
        }
        CommunityGroup::Slug(index) => {
            let slug = captured(&captures, index, MAX_COMMUNITY_SLUG)?;
            Some(CommunityRef::Slug(Arc::from(slug)))
        }
    }
}

fn captured<'p>(captures: &Captures<'p>, index: usize, max: usize) -> Option<&'p str> {
    let text = captures.get(index)?.as_str();
    let usable = !text.is_empty() && text.chars().nth(max).is_none() && !text.chars().any(char::is_control);
    usable.then_some(text)
}

#[cfg(test)]
mod tests;
