//! Routes of the pages of communities: from the site's URL patterns (`url_pattern`), else from conventional paths
//! (`conventional`). `path` has helpers for the text of patterns.

mod conventional;
mod finer;
mod path;
mod url_pattern;

use super::super::catalogue::{AppTable, AppTables};
use super::super::django::DjangoSite;
use super::Guess;
use url_pattern::{PatternReader, TakenNames};

/// Most routes that are written; all route files together may have 500.
const MOST: usize = 400;

/// One route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::init) struct GuessedRoute {
    pub name: String,
    pub pattern: String,
    pub page_type: Option<String>,
    /// Whether its paths are no pages: written with `track = "none"`.
    pub is_excluded: bool,
    /// Whether it is written as a comment.
    pub is_proposal: bool,
    pub search_param: Option<&'static str>,
    pub lookup: Option<GuessedLookup>,
    pub grants: GrantsKey,
    pub reason: String,
}

/// The route's key `grants`: whether an answer shows that its visitor may see the community.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::init) enum GrantsKey {
    /// Left out: the default of routes.
    Default,
    /// `true`, written as a comment.
    Proposed,
    /// `false`: everybody sees these pages.
    No,
}

/// An entry of `[schema.lookup]`: a table whose rows name their community.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::init) struct GuessedLookup {
    /// Name of the group.
    pub name: String,
    pub table: String,
    pub key: String,
    pub community: String,
}

pub(super) fn routes(
    tables: &AppTables,
    community: Option<&AppTable>,
    site: Option<&DjangoSite>,
) -> Vec<GuessedRoute> {
    let mut routes = conventional::excluded(site);
    let Some(community) = community else { return routes };
    match site {
        Some(site) => {
            let mut taken = TakenNames::new(&["static", "admin"]);
            for pattern in &site.patterns {
                if routes.len() >= MOST {
                    break;
                }
                let named = PatternReader {
                    tables,
                    community,
                    pattern,
                };
                routes.extend(named.route(&mut taken));
            }
        }
        None => routes.extend(conventional::routes(community)),
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

/// Adds the settings that the routes need: lookups, and slugs in the API.
pub(super) fn add_settings(guess: &mut Guess, community: Option<&AppTable>) {
    let used: Vec<_> = guess
        .routes
        .iter()
        .filter(|route| !route.is_proposal)
        .cloned()
        .collect();
    if used.iter().all(|route| route.is_excluded) && community.is_some() {
        guess
            .open
            .push("no URL pattern of the site names a community: write routes in routes.d".into());
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
        let reason = format!("paths name the {}, whose row names the community", lookup.name);
        guess.set("schema.lookup", &lookup.name, value, reason);
    }
}
