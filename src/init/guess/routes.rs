//! Routes of the pages of communities: from the site's URL patterns (`url_pattern`), else from conventional paths
//! (`conventional`). `path` has helpers for the text of patterns.

mod conventional;
mod finer;
mod mount;
mod own_page;
mod path;
mod url_pattern;

use super::super::catalogue::{AppTable, AppTables};
use super::super::django::{DjangoSite, Pattern};
use super::Guess;
pub(in crate::init) use mount::of as mounted_at;
use own_page::OwnPage;
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
    /// `false`: the path ends at the community, but the page is not its own.
    NotOwn,
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

pub(super) fn routes<'t>(
    tables: &'t AppTables,
    community: Option<&'t AppTable>,
    site: Option<&'t DjangoSite>,
) -> Vec<GuessedRoute> {
    let mut routes = conventional::excluded(site);
    let Some(community) = community else { return routes };
    match site {
        Some(site) => {
            let mut taken = TakenNames::new(&["static", "admin"]);
            let mount = mount::optional(site);
            let reader = |pattern: &'t Pattern| PatternReader {
                tables,
                community,
                pattern,
                mount: &mount,
            };
            let readers: Vec<_> = site.patterns.iter().map(reader).collect();
            let candidates: Vec<_> = readers.iter().map(PatternReader::candidate).collect();
            let own = OwnPage::find(community, &candidates);
            for reader in &readers {
                if routes.len() >= MOST {
                    break;
                }
                routes.extend(reader.route(&mut taken, &own));
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
    let has_own = used.iter().any(|route| {
        !route.is_excluded && matches!(route.grants, GrantsKey::Default) && route.lookup.is_none()
    });
    if !has_own
        && used
            .iter()
            .any(|route| !route.is_excluded && matches!(route.grants, GrantsKey::No | GrantsKey::NotOwn))
    {
        guess.open.push(
            "routes.d: which page is the community's own, the one that the app shows only to those who may see the community; \
             remove grants = false from its route. Until then no page shows a visitor who is there (api.access = \"visited\")"
                .into(),
        );
    }
    let by = |name: &str| {
        used.iter()
            .any(|route| route.pattern.contains(&format!("(?P<{name}>")))
    };
    if by("community_slug") {
        let key = if by("community") { "either" } else { "slug" };
        guess.set_text("api", "community_key", key, "the site's paths have slugs");
    }
    let sorted = |routes: &[GuessedRoute]| {
        let mut lookups: Vec<_> = routes.iter().filter_map(|route| route.lookup.clone()).collect();
        lookups.sort_by(|a, b| a.name.cmp(&b.name));
        lookups.dedup();
        lookups
    };
    let lookups = sorted(&used);
    // A route that is written as a comment needs its lookup, too, once it is used.
    let of_proposals = sorted(&guess.routes);
    let of_proposals = of_proposals
        .into_iter()
        .filter(|lookup| !lookups.contains(lookup));
    for (lookup, is_proposal) in lookups
        .iter()
        .map(|lookup| (lookup.clone(), false))
        .chain(of_proposals.map(|lookup| (lookup, true)))
        .collect::<Vec<_>>()
    {
        let value = format!(
            "{{ table = {}, key = {}, community = {} }}",
            super::text(&lookup.table),
            super::text(&lookup.key),
            super::text(&lookup.community)
        );
        let reason = format!("paths name the {}, whose row names the community", lookup.name);
        if is_proposal {
            let reason = format!("{reason}: needed by routes that are comments in routes.d");
            guess.propose("schema.lookup", &lookup.name, value, reason);
        } else {
            guess.set("schema.lookup", &lookup.name, value, reason);
        }
    }
}
