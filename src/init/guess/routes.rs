//! Which paths are pages of a community: from the site's URL patterns (`reading`), or as they usually are (`usual`). `path` is
//! about the text of patterns.

mod finer;
mod path;
mod reading;
mod usual;

use super::super::catalogue::{Table, Tables};
use super::super::django::Site;
use super::Guess;
use reading::{Reading, Taken};

/// Most routes that are written; route files may have 500.
const MOST: usize = 400;

/// One route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::init) struct Route {
    pub name: String,
    pub pattern: String,
    pub page_type: Option<String>,
    /// Paths that are no pages.
    pub is_excluded: bool,
    /// Only proposed: written as a comment.
    pub is_proposal: bool,
    pub search_param: Option<&'static str>,
    pub lookup: Option<Lookup>,
    pub grants: Grants,
    pub reason: String,
}

/// What an answer of these pages says of its visitor and the community.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::init) enum Grants {
    /// As the routes have it by default.
    Default,
    /// Perhaps that the visitor may see it: written as a comment.
    Proposed,
    /// Nothing: everybody sees these pages.
    No,
}

/// A community that is found through another table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::init) struct Lookup {
    /// Name of the group.
    pub name: String,
    pub table: String,
    pub key: String,
    pub community: String,
}

pub(super) fn routes(tables: &Tables, community: Option<&Table>, site: Option<&Site>) -> Vec<Route> {
    let mut routes = usual::excluded(site);
    let Some(community) = community else { return routes };
    match site {
        Some(site) => {
            let mut taken = Taken::new(&["static", "admin"]);
            for pattern in &site.patterns {
                if routes.len() >= MOST {
                    break;
                }
                let named = Reading {
                    tables,
                    community,
                    pattern,
                };
                routes.extend(named.route(&mut taken));
            }
        }
        None => routes.extend(usual::conventional(community)),
    }
    routes
}

/// 1 to 64 of `a-z 0-9 - _`, with room for a number.
fn route_name(text: &str) -> String {
    let fitting = |c: char| {
        if c.is_ascii_alphanumeric() || c == '_' {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    let name: String = text.chars().map(fitting).take(56).collect();
    if name.is_empty() { "page".into() } else { name }
}

/// What the routes ask of the configuration: lookups, and slugs in the API.
pub(super) fn say(guess: &mut Guess, community: Option<&Table>) {
    let used: Vec<_> = guess
        .routes
        .iter()
        .filter(|route| !route.is_proposal)
        .cloned()
        .collect();
    if used.iter().all(|route| route.is_excluded) && community.is_some() {
        guess
            .open
            .push("no URL pattern names a community: write routes in routes.d".into());
    }
    let by = |name: &str| {
        used.iter()
            .any(|route| route.pattern.contains(&format!("(?P<{name}>")))
    };
    if by("community_slug") {
        let key = if by("community") { "either" } else { "slug" };
        guess.set_text("api", "community_key", key, "the site's paths have slugs");
    }
    let mut lookups: Vec<_> = used.iter().filter_map(|route| route.lookup.clone()).collect();
    lookups.sort_by(|a, b| a.name.cmp(&b.name));
    lookups.dedup();
    for lookup in lookups {
        let value = format!(
            "{{ table = {}, key = {}, community = {} }}",
            super::text(&lookup.table),
            super::text(&lookup.key),
            super::text(&lookup.community)
        );
        let reason = format!("paths name the {}, and its row the community", lookup.name);
        guess.set("schema.lookup", &lookup.name, value, reason);
    }
}
