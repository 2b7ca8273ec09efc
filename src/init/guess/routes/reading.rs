//! One URL pattern of the site as a route: which of its groups names the community, or something that belongs to one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::path::{after, groups, joined, literals};
use super::{Grants, Lookup, Route, route_name};
use crate::init::catalogue::{Table, Tables, singular};
use crate::init::django::Pattern;
use crate::init::guess::places::{has_unique_slug, slug};
use crate::store::catalogue::CatalogueColumn;

/// Pages below a community that those see who are not members yet, by words of the path.
const FOR_EVERYBODY: &[&str] = &[
    "join",
    "joining",
    "request",
    "apply",
    "application",
    "invite",
    "invitation",
    "invitations",
    "signup",
    "register",
    "registration",
    "subscribe",
    "enroll",
    "enrol",
    "follow",
    "about",
    "preview",
    "landing",
    "welcome",
];
/// Tables of people, whose reference to a community is not that of a page about them.
const PEOPLE: &[&str] = &["user", "profile", "userprofile", "account", "person"];
/// Longest page type, in characters.
const MAX_PAGE_TYPE: usize = 64;

/// What routes before it have taken.
pub(super) struct Taken {
    names: BTreeSet<String>,
    lookups: BTreeMap<String, Lookup>,
    /// Page types, with the view and name of the pattern.
    page_types: BTreeMap<String, (String, String)>,
}

impl Taken {
    pub(super) fn new(names: &[&str]) -> Self {
        Self {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            lookups: BTreeMap::new(),
            page_types: BTreeMap::new(),
        }
    }

    /// A name that no route has.
    fn name(&mut self, base: &str) -> String {
        let numbered = (2..).map(|number| format!("{base}-{number}"));
        let mut names = std::iter::once(base.to_owned()).chain(numbered);
        let free = names.find(|name| !self.names.contains(name)).unwrap_or_default();
        self.names.insert(free.clone());
        free
    }

    /// The lookup by a name that no other has: where two tables are of one word, the second is called by its name.
    fn lookup(&mut self, mut lookup: Lookup) -> Lookup {
        let is_free = |name: &str| {
            self.lookups.get(name).is_none_or(|other| {
                Lookup {
                    name: name.into(),
                    ..lookup.clone()
                } == *other
            })
        };
        if !is_free(&lookup.name) {
            lookup.name = group_name(&format!("{}_by_{}", lookup.table, lookup.key));
        }
        self.lookups.insert(lookup.name.clone(), lookup.clone());
        lookup
    }

    /// The page type, if it is that of no other page; otherwise the route's name.
    fn page_type(&mut self, wanted: &str, name: &str, pattern: &Pattern) -> String {
        let page = (pattern.view.clone(), pattern.name.clone());
        let wanted: String = wanted.chars().take(MAX_PAGE_TYPE).collect();
        let has_it = self
            .page_types
            .entry(wanted.clone())
            .or_insert_with(|| page.clone());
        if *has_it == page { wanted } else { name.to_owned() }
    }
}

/// One pattern of the site.
pub(super) struct Reading<'a> {
    pub tables: &'a Tables,
    pub community: &'a Table,
    pub pattern: &'a Pattern,
}

/// What a group of a pattern names.
enum Named<'a> {
    Id,
    Slug,
    /// A row that belongs to a community: the column that paths name it by, and its reference.
    Row {
        table: &'a Table,
        key: &'a CatalogueColumn,
        community: &'a CatalogueColumn,
    },
}

impl<'a> Reading<'a> {
    /// The route of a pattern that names a community.
    pub(super) fn route(&self, taken: &mut Taken) -> Option<Route> {
        if self.pattern.view.contains(".admin.") || self.pattern.view.starts_with("django.contrib.") {
            return None;
        }
        let path = joined(&self.pattern.parts);
        let groups = groups(&path);
        let (group, named, is_named_too) = self.community_of(&path, &groups)?;
        let (lookup, word) = match &named {
            Named::Id | Named::Slug => (None, self.community.word()),
            Named::Row {
                table,
                key,
                community,
            } => {
                let lookup = taken.lookup(lookup(table, key, community));
                (Some(lookup), table.word())
            }
        };
        let new_name = match (&named, &lookup) {
            (_, Some(lookup)) => &*lookup.name,
            (Named::Slug, None) => "community_slug",
            (_, None) => "community",
        };
        let mut regex = format!("^/{path}");
        // Its slug behind its id, at the end of the path: it is the community's own page, which the route must tell.
        let own = format!(r"\(\?P<{group}>[^()]*\)/\(\?P<slug>[^()]*\)/?(\\Z|\$)?$");
        let is_own_slug =
            matches!(named, Named::Id) && regex::Regex::new(&own).is_ok_and(|own| own.is_match(&path));
        for other in groups.iter().filter(|other| !(is_own_slug && *other == "slug")) {
            let (from, to) = (format!("(?P<{other}>"), format!("(?P<{new_name}>"));
            regex = regex.replace(&from, if *other == group { &to } else { "(?:" });
        }
        let below = after(&path, &group);
        let segments = literals(below);
        let is_own = is_own_slug || !below.trim_end_matches(['$', '?', '/']).contains('/');
        let is_api = path.starts_with("api/") || path.contains("/api/");
        let usable = regex::Regex::new(&regex).is_ok();
        let name = taken.name(&self.name(&word));
        let wanted = if is_own || lookup.is_some() && segments.is_empty() {
            &word
        } else {
            &name
        };
        let grants = grants(&segments, is_own, lookup.is_some());
        let mut reason = match (usable, is_api) {
            (false, _) => format!(
                "{}: not usable as it is, because it looks around or back",
                self.pattern.view
            ),
            (_, true) => format!(
                "{}: for a single-page app, with track = \"request\"; a page and its API are not both views",
                self.pattern.view
            ),
            _ => format!("{} ({group} is the {new_name})", self.pattern.view),
        };
        if lookup.is_some() && is_named_too {
            let _ = write!(
                reason,
                "; it counts for the {0} of that row, whatever {0} the path names",
                self.community.word()
            );
        }
        reason += match grants {
            Grants::Default => "",
            Grants::Proposed => {
                "; below the community: grants = true where the app checks, before it answers, that its visitor may see the \
                 community of the path"
            }
            Grants::No => {
                "; grants = false: those who are not members see such a page too, so that it shows nobody the community"
            }
        };
        Some(Route {
            page_type: Some(taken.page_type(wanted, &name, self.pattern)),
            name,
            pattern: regex,
            is_excluded: false,
            is_proposal: is_api || !usable,
            search_param: (literals(&path).last().is_some_and(|last| last == "search")).then_some("q"),
            grants,
            reason,
            lookup,
        })
    }

    /// The group that names the community, and whether another one names it, too. A row that belongs to a community goes
    /// before it: a path may name any community beside it. Otherwise the community's id goes before its slug.
    fn community_of(&self, path: &str, groups: &[String]) -> Option<(String, Named<'a>, bool)> {
        let mut named: Vec<_> = groups
            .iter()
            .filter_map(|group| Some((group.clone(), self.named(path, group)?)))
            .collect();
        let position = |wanted: fn(&Named<'_>) -> bool| named.iter().rposition(|(_, named)| wanted(named));
        let row = position(|named| matches!(named, Named::Row { .. }));
        let own = named
            .iter()
            .position(|(_, named)| matches!(named, Named::Id))
            .or_else(|| named.iter().position(|(_, named)| matches!(named, Named::Slug)));
        let (group, found) = named.swap_remove(row.or(own)?);
        Some((group, found, own.is_some()))
    }

    fn named(&self, path: &str, group: &str) -> Option<Named<'a>> {
        let (owner, is_slug) = self.owner(path, group)?;
        if std::ptr::eq(owner, self.community) {
            return match is_slug {
                false => Some(Named::Id),
                true if has_unique_slug(owner) => Some(Named::Slug),
                true => None,
            };
        }
        if PEOPLE.iter().any(|people| owner.is_of(people)) {
            return None;
        }
        let key = if is_slug {
            slug(owner).filter(|column| column.is_unique)?
        } else {
            owner.key()?
        };
        Some(Named::Row {
            table: owner,
            key,
            community: self.reference(owner)?,
        })
    }

    /// The column of a row that refers to its community: of several the one that is called like it.
    fn reference(&self, table: &'a Table) -> Option<&'a CatalogueColumn> {
        let word = self.community.word();
        let is_called = |column: &CatalogueColumn| {
            let name = column.name.strip_suffix("_id").unwrap_or(&column.name);
            name == word || name == "community"
        };
        let refers = table.columns.iter().filter(|column| {
            let target = self.tables.target(column);
            target.is_some_and(|target| std::ptr::eq(target, self.community))
        });
        refers.min_by_key(|column| !is_called(column))
    }

    /// The table whose row a group names, and whether by its slug.
    fn owner(&self, path: &str, group: &str) -> Option<(&'a Table, bool)> {
        let of_word = |word: &str| {
            let is_of = |table: &&Table| table.is_of(word);
            std::iter::once(self.community)
                .find(|table| table.is_of(word) || table.ends_with(word))
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
    fn name(&self, word: &str) -> String {
        let own = match &*self.pattern.name {
            "" => self.pattern.view.rsplit('.').next().unwrap_or_default(),
            name => name,
        };
        let (own, word) = (route_name(own), route_name(word));
        if own.contains(&word) {
            own
        } else {
            route_name(&format!("{word}-{own}"))
        }
    }
}

fn lookup(table: &Table, key: &CatalogueColumn, community: &CatalogueColumn) -> Lookup {
    let word = table.word();
    let word = if key.is_key {
        word
    } else {
        format!("{word}_{}", key.name)
    };
    let word = if word.starts_with("community") {
        format!("of_{word}")
    } else {
        word
    };
    Lookup {
        name: group_name(&word),
        table: table.configured(),
        key: key.name.clone(),
        community: community.name.clone(),
    }
}

/// A name that a pattern's group may have.
fn group_name(text: &str) -> String {
    let fitting = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = text.chars().map(fitting).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        format!("_{name}")
    } else {
        name
    }
}

/// What an answer says of its visitor and the community. `segments` are below what names it.
fn grants(segments: &[String], is_own: bool, is_row: bool) -> Grants {
    let mut words = segments.iter().flat_map(|segment| segment.split(['-', '_']));
    if words.any(|word| FOR_EVERYBODY.contains(&word)) {
        Grants::No
    } else if is_own || is_row {
        Grants::Default
    } else {
        Grants::Proposed
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
