//! Compiled route table: all patterns are tried at once; the first one in file order wins.

use std::sync::Arc;

use regex::{Captures, RegexSet, RegexSetBuilder};

use super::event::MAX_VALUE;
use super::file::{self, CheckedRoute, CommunityGroup};
use super::presence::{self, FinerKind};
use super::{CommunityRef, Route, RouteError, RouteFile, RouteMatch, RouteNames, ValueSource};

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
    names: RouteNames,
    kinds: Vec<FinerKind>,
}

/// An event type that a route writes, and where it is configured.
#[derive(Debug, Clone, Copy)]
pub struct WrittenType<'a> {
    /// The type.
    pub event_type: &'a Arc<str>,
    /// The route.
    pub route: &'a str,
    /// `file:line` of the type.
    pub source: &'a str,
}

impl Default for RouteTable {
    fn default() -> Self {
        Self {
            set: RegexSet::empty(),
            routes: Vec::new(),
            names: RouteNames::default(),
            kinds: Vec::new(),
        }
    }
}

impl RouteTable {
    /// Compiles route files, given in the order of their names, in which they apply. Returns the first fault; then no
    /// file is used.
    pub fn compile(files: &[RouteFile]) -> Result<Self, RouteError> {
        Self::compile_with(files, &RouteNames::default())
    }

    /// The same, where the configuration has these names.
    pub fn compile_with(files: &[RouteFile], names: &RouteNames) -> Result<Self, RouteError> {
        let (routes, kinds) = file::check(files, names)?;
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
        Ok(Self {
            set,
            routes,
            names: names.clone(),
            kinds,
        })
    }

    /// The first route whose pattern matches the path, which must be decoded by
    /// [`decode_path`](super::decode_path). Linear in the path's length, whatever the patterns.
    pub fn find(&self, decoded_path: &str) -> Option<RouteMatch> {
        let route = self.first(decoded_path)?;
        let named = route.group.as_ref().and_then(|group| {
            let captures = route.regex.captures(decoded_path)?;
            let (community, is_own) = community(group, &captures, decoded_path)?;
            Some((community, is_own, presence::finer(&route.finer, &captures)))
        });
        let (community, is_communitys_own, finer) = match named {
            Some((community, is_own, finer)) => (Some(community), is_own, finer),
            None => (None, false, Arc::default()),
        };
        Some(RouteMatch {
            route: Arc::clone(&route.route),
            community,
            finer,
            is_communitys_own,
            captures: captures(route, decoded_path),
        })
    }

    /// The same without what the path names: only the route, for its name.
    pub fn find_route(&self, decoded_path: &str) -> Option<RouteMatch> {
        let route = self.first(decoded_path)?;
        Some(RouteMatch {
            route: Arc::clone(&route.route),
            community: None,
            finer: Arc::default(),
            is_communitys_own: false,
            captures: Vec::new(),
        })
    }

    fn first(&self, decoded_path: &str) -> Option<&CheckedRoute> {
        let first = self.set.matches(decoded_path).into_iter().next()?;
        self.routes.get(first)
    }

    /// The names that it was compiled with.
    pub fn names(&self) -> &RouteNames {
        &self.names
    }

    /// The event types that routes write besides [`PAGE_VIEW`](super::PAGE_VIEW), in the order of the routes.
    pub fn event_types(&self) -> impl Iterator<Item = WrittenType<'_>> {
        self.routes.iter().filter_map(|checked| {
            Some(WrittenType {
                event_type: checked.route.event.event_type.as_ref()?,
                route: &checked.route.name,
                source: &checked.event_source,
            })
        })
    }

    /// The kinds of things that are finer than communities.
    pub fn finer_kinds(&self) -> &[FinerKind] {
        &self.kinds
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

    /// The first route that names communities by slugs.
    pub fn by_slug(&self) -> Option<&Route> {
        let by_slug = |route: &&CheckedRoute| matches!(route.group, Some(CommunityGroup::Slug(_)));
        self.routes.iter().find(by_slug).map(|route| &*route.route)
    }

    pub(super) fn checked(&self) -> &[CheckedRoute] {
        &self.routes
    }
}

/// The group whose text, after a community's key, is that community's slug, as in `/category/5/rust/`.
const OWN_SLUG: &str = "slug";

/// The community that a path names, and whether nothing below it is named: its name is in the last segment, or only its
/// slug follows.
fn community(group: &CommunityGroup, captures: &Captures<'_>, path: &str) -> Option<(CommunityRef, bool)> {
    let (community, end) = match group {
        CommunityGroup::Id(index) => {
            let (id, end) = captured(captures, *index, MAX_COMMUNITY_ID)?;
            (CommunityRef::Id(Arc::from(id)), end)
        }
        CommunityGroup::Slug(index) => {
            let (slug, end) = captured(captures, *index, MAX_COMMUNITY_SLUG)?;
            (CommunityRef::Slug(Arc::from(slug)), end)
        }
        CommunityGroup::Lookup(index, lookup) => {
            let (key, _) = captured(captures, *index, MAX_COMMUNITY_SLUG)?;
            let named = CommunityRef::Lookup(Arc::clone(lookup), Arc::from(key));
            // It is the page of something in the community.
            return Some((named, false));
        }
    };
    let rest = path.get(end..).unwrap_or_default().trim_end_matches('/');
    let is_its_slug = || {
        let (slug, named) = (rest.strip_prefix('/')?, captures.name(OWN_SLUG)?);
        let is_whole = named.start() == end + 1 && named.as_str().trim_end_matches('/') == slug;
        Some(is_whole && !slug.contains('/'))
    };
    let is_own = !rest.contains('/') || is_its_slug().unwrap_or_default();
    Some((community, is_own))
}

/// The texts of the groups that the route's events need, without those that take no part in the match.
fn captures(route: &CheckedRoute, path: &str) -> Vec<(Arc<str>, Arc<str>)> {
    let mut wanted = route.route.event.sources().filter_map(|source| match source {
        ValueSource::Capture(name) => Some(name),
        ValueSource::Parameter(_) => None,
    });
    let Some(first) = wanted.next() else {
        return Vec::new();
    };
    let Some(captures) = route.regex.captures(path) else {
        return Vec::new();
    };
    let text = |name: &Arc<str>| {
        let text = captures.name(name)?.as_str();
        let end = text
            .char_indices()
            .nth(MAX_VALUE)
            .map_or(text.len(), |(end, _)| end);
        Some((Arc::clone(name), Arc::from(&text[..end])))
    };
    std::iter::once(first).chain(wanted).filter_map(text).collect()
}

/// The text of a group, and where it ends.
fn captured<'p>(captures: &Captures<'p>, index: usize, max: usize) -> Option<(&'p str, usize)> {
    let group = captures.get(index)?;
    let text = group.as_str();
    let usable = !text.is_empty() && text.chars().nth(max).is_none() && !text.chars().any(char::is_control);
    usable.then_some((text, group.end()))
}

#[cfg(test)]
mod tests;
