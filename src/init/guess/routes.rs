//! Which paths are pages of a community: from the site's URL patterns, or from the name of the communities' table.

use std::collections::BTreeSet;

use super::super::catalogue::{Table, Tables, plural, singular};
use super::super::django::{Pattern, Site};
use super::Guess;
use super::places::{has_unique_slug, slug};
use crate::store::schema::Kind;

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
    pub reason: String,
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

/// What a group of a pattern names.
enum Named {
    Id,
    Slug,
    Through(Lookup),
}

pub(super) fn routes(tables: &Tables, community: Option<&Table>, site: Option<&Site>) -> Vec<Route> {
    let mut routes = excluded(site);
    let Some(community) = community else { return routes };
    match site {
        Some(site) => {
            let mut taken = BTreeSet::from(["static".to_owned(), "admin".to_owned()]);
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
        None => routes.extend(conventional(community)),
    }
    routes
}

/// Paths that are no pages: files, and Django's admin.
fn excluded(site: Option<&Site>) -> Vec<Route> {
    let is_path = |url: &&str| url.len() > 1 && url.starts_with('/');
    let files = |url: Option<&str>, default: &str| {
        let url = url
            .filter(is_path)
            .unwrap_or(default)
            .trim_matches('/')
            .to_owned();
        regex::escape(&url)
    };
    let settings = site.map(|site| &site.settings);
    let static_url = files(
        settings.and_then(|settings| settings.static_url.as_deref()),
        "/static/",
    );
    let media_url = files(
        settings.and_then(|settings| settings.media_url.as_deref()),
        "/media/",
    );
    let exclusion = |name: &str, pattern: String, reason: &str| Route {
        name: name.into(),
        pattern,
        page_type: None,
        is_excluded: true,
        is_proposal: false,
        search_param: None,
        lookup: None,
        reason: reason.into(),
    };
    let mut routes = vec![exclusion(
        "static",
        format!("^/({static_url}|{media_url})/|^/(favicon\\.ico|robots\\.txt)$"),
        "STATIC_URL and MEDIA_URL",
    )];
    let admin = site.and_then(|site| {
        let is_admin = |pattern: &&Pattern| {
            pattern.view.starts_with("django.contrib.admin.sites.") && pattern.name == "index"
        };
        site.patterns.iter().find(is_admin)
    });
    if let Some(pattern) = admin
        && let [before @ .., _] = &*pattern.parts
    {
        let path = joined(before);
        routes.push(exclusion("admin", format!("^/{path}"), "Django's admin"));
    }
    routes
}

/// Without a site to ask: paths as they usually are.
fn conventional(community: &Table) -> Vec<Route> {
    let word = community.word();
    let key = match community.key().map(|key| key.kind) {
        Some(Kind::Uuid) => "[0-9a-fA-F-]{32,36}",
        Some(Kind::Text) => "[^/]+",
        _ => r"\d+",
    };
    let (one, many) = (regex::escape(&word), regex::escape(&plural(&word)));
    let route = |name: String, pattern: String| Route {
        name,
        pattern,
        page_type: Some(word.clone()),
        is_excluded: false,
        is_proposal: false,
        search_param: None,
        lookup: None,
        reason: "a guess from the table's name; `headcount init --django` reads the site's own URL patterns"
            .into(),
    };
    let name = route_name(&word);
    let mut routes = vec![route(
        name.clone(),
        format!("^/(?:{one}|{many})/(?P<community>{key})(?:/|$)"),
    )];
    if has_unique_slug(community) && key != "[^/]+" {
        let pattern = format!(
            "^/(?:{one}|{many}|{})/(?P<community_slug>[-a-zA-Z0-9_]+)(?:/|$)",
            initial(&word)
        );
        routes.push(route(format!("{name}-by-slug"), pattern));
    }
    routes
}

fn initial(word: &str) -> String {
    word.chars().take(1).collect()
}

/// One pattern of the site.
struct Reading<'a> {
    tables: &'a Tables,
    community: &'a Table,
    pattern: &'a Pattern,
}

impl Reading<'_> {
    /// The route of a pattern that names a community.
    fn route(&self, taken: &mut BTreeSet<String>) -> Option<Route> {
        if self.pattern.view.contains(".admin.") || self.pattern.view.starts_with("django.contrib.") {
            return None;
        }
        let path = joined(&self.pattern.parts);
        let groups = groups(&path);
        let (group, named) = self.community_of(&path, &groups)?;
        let new_name = match &named {
            Named::Id => "community".to_owned(),
            Named::Slug => "community_slug".to_owned(),
            Named::Through(lookup) => lookup.name.clone(),
        };
        let mut regex = format!("^/{path}");
        // Its slug behind its id, at the end of the path: it is the community's own page, which the route must tell.
        let own = format!(r"\(\?P<{group}>[^()]*\)/\(\?P<slug>[^()]*\)/?(\\Z|\$)?$");
        let is_own =
            matches!(named, Named::Id) && regex::Regex::new(&own).is_ok_and(|own| own.is_match(&path));
        for other in groups.iter().filter(|other| !(is_own && *other == "slug")) {
            let (from, to) = (format!("(?P<{other}>"), format!("(?P<{new_name}>"));
            regex = regex.replace(&from, if *other == group { &to } else { "(?:" });
        }
        let is_api = path.starts_with("api/") || path.contains("/api/");
        let last = literals(&path).last().cloned().unwrap_or_default();
        let lookup = match named {
            Named::Through(lookup) => Some(lookup),
            Named::Id | Named::Slug => None,
        };
        let word = lookup
            .as_ref()
            .map_or_else(|| self.community.word(), |lookup| lookup.name.clone());
        let usable = regex::Regex::new(&regex).is_ok();
        Some(Route {
            name: self.name(&word, taken),
            pattern: regex,
            page_type: Some(word),
            is_excluded: false,
            is_proposal: is_api || !usable,
            search_param: (last == "search").then_some("q"),
            reason: match (usable, is_api) {
                (false, _) => format!(
                    "{}: not usable as it is, because it looks around or back",
                    self.pattern.view
                ),
                (_, true) => format!(
                    "{}: for a single-page app, with track = \"request\"; a page and its API are not both views",
                    self.pattern.view
                ),
                _ => format!("{} ({group} is the {new_name})", self.pattern.view),
            },
            lookup,
        })
    }

    /// The group that names the community, by its id before its slug, and by itself before through another table.
    fn community_of(&self, path: &str, groups: &[String]) -> Option<(String, Named)> {
        let of = |wanted: fn(&Named) -> bool| {
            let mut named = groups
                .iter()
                .filter_map(|group| Some((group.clone(), self.named(path, group)?)));
            named.find(|(_, named)| wanted(named))
        };
        of(|named| matches!(named, Named::Id))
            .or_else(|| of(|named| matches!(named, Named::Slug)))
            .or_else(|| of(|named| matches!(named, Named::Through(_))))
    }

    fn named(&self, path: &str, group: &str) -> Option<Named> {
        let (owner, is_slug) = self.owner(path, group)?;
        if std::ptr::eq(owner, self.community) {
            return match is_slug {
                false => Some(Named::Id),
                true if slug(owner).is_some() && has_unique_slug(owner) => Some(Named::Slug),
                true => None,
            };
        }
        if is_slug {
            return None;
        }
        let reference = owner.columns.iter().find(|column| {
            let target = self.tables.target(column);
            target.is_some_and(|target| std::ptr::eq(target, self.community))
        })?;
        let name = owner.word().replace('-', "_");
        Some(Named::Through(Lookup {
            name: if name.starts_with("community") {
                format!("of_{name}")
            } else {
                name
            },
            table: owner.configured(),
            key: owner.key()?.name.clone(),
            community: reference.name.clone(),
        }))
    }

    /// The table whose row a group names, and whether by its slug.
    fn owner(&self, path: &str, group: &str) -> Option<(&Table, bool)> {
        let of_word = |word: &str| {
            let is_of = |table: &&Table| table.is_of(word);
            std::iter::once(self.community)
                .find(is_of)
                .or_else(|| self.tables.0.iter().find(is_of))
        };
        for (end, is_slug) in [("_id", false), ("_pk", false), ("_uuid", false), ("_slug", true)] {
            if let Some(word) = group.strip_suffix(end) {
                return of_word(word).map(|table| (table, is_slug));
            }
        }
        let generic = match group {
            "pk" | "id" | "uuid" | "key" => false,
            "slug" => true,
            word => return of_word(word).map(|table| (table, false)),
        };
        let before = path.split(&format!("(?P<{group}>")).next().unwrap_or_default();
        let segments = literals(before);
        let segment = segments.last().map(|last| singular(&last.replace('-', "_")));
        if is_of_a_user(&segments) {
            return None;
        }
        // The segment in front of the group, unless another group stands between.
        if let Some(segment) = &segment
            && let Some(table) = of_word(segment)
        {
            return Some((table, generic));
        }
        if let Some(table) = self
            .pattern
            .table
            .as_deref()
            .and_then(|name| self.tables.by_name(name))
        {
            return Some((table, generic));
        }
        let view = self
            .pattern
            .view
            .rsplit('.')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase();
        let word = self.community.word();
        let says = |name: &str| {
            name.to_ascii_lowercase()
                .split(['_', '-'])
                .any(|part| part == word)
        };
        (says(&view) || says(&self.pattern.name)).then_some((self.community, generic))
    }

    /// A name for metrics: the pattern's own, or the view's.
    fn name(&self, word: &str, taken: &mut BTreeSet<String>) -> String {
        let own = match &*self.pattern.name {
            "" => self.pattern.view.rsplit('.').next().unwrap_or_default(),
            name => name,
        };
        let (own, word) = (route_name(own), route_name(word));
        let base = if own.contains(&word) {
            own
        } else {
            format!("{word}-{own}")
        };
        let mut name = base.clone();
        let mut number = 2;
        while !taken.insert(name.clone()) {
            name = format!("{base}-{number}");
            number += 1;
        }
        name
    }
}

/// Whether a key behind these segments is a user's: `user/topics/` lists the topics of one.
fn is_of_a_user(segments: &[String]) -> bool {
    const USERS: &[&str] = &[
        "user", "member", "profile", "account", "author", "people", "person",
    ];
    let [before @ .., last] = segments else {
        return false;
    };
    singular(last) != *last && before.iter().any(|segment| USERS.contains(&&*singular(segment)))
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

/// The regular expressions of nested patterns as one, in Rust's syntax, without the `^` at its start.
fn joined(parts: &[String]) -> String {
    let whole: String = parts
        .iter()
        .map(|part| part.strip_prefix('^').unwrap_or(part))
        .collect();
    for end in ["\\Z", "\\z"] {
        if let Some(start) = whole.strip_suffix(end) {
            return format!("{start}$");
        }
    }
    whole
}

/// The names of its groups.
fn groups(path: &str) -> Vec<String> {
    let starts = path.split("(?P<").skip(1);
    starts
        .filter_map(|rest| Some(rest.split_once('>')?.0.to_owned()))
        .collect()
}

/// Segments of the path that are text, without groups and escapes, in small letters.
fn literals(path: &str) -> Vec<String> {
    let (mut segments, mut depth, mut in_class, mut is_escaped) =
        (vec![(String::new(), true)], 0_u32, false, false);
    for c in path.chars() {
        let inside = depth > 0 || in_class;
        match c {
            _ if is_escaped => {
                is_escaped = false;
                if let Some((text, _)) = segments.last_mut().filter(|_| !inside) {
                    text.push(c);
                }
            }
            '\\' => is_escaped = true,
            '[' => in_class = true,
            ']' => in_class = false,
            '(' if !in_class => {
                depth += 1;
                if let Some((_, is_text)) = segments.last_mut() {
                    *is_text = false;
                }
            }
            ')' if !in_class => depth = depth.saturating_sub(1),
            '/' if !inside => segments.push((String::new(), true)),
            '^' | '$' | '?' | '+' | '*' => {}
            c if !inside => {
                if let Some((text, _)) = segments.last_mut() {
                    text.push(c.to_ascii_lowercase());
                }
            }
            _ => {}
        }
    }
    let texts = segments
        .into_iter()
        .filter(|(text, is_text)| *is_text && !text.is_empty());
    texts.map(|(text, _)| text).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_a_path_are_told_from_groups() {
        assert_eq!(
            literals(r"forum/forum/(?P<slug>[^/]+)\-(?P<pk>[0-9]+)/topic/(?:a/b)/$"),
            ["forum", "forum", "topic"]
        );
        assert_eq!(literals(r"global\-pin/"), ["global-pin"]);
    }

    #[test]
    fn nested_patterns_are_one_in_rusts_syntax() {
        let parts = ["^", "^topic/", "^(?P<pk>[0-9]+)/\\Z"].map(str::to_owned);
        assert_eq!(joined(&parts), "topic/(?P<pk>[0-9]+)/$");
    }
}
