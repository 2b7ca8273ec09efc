//! Turns one URL pattern of the site into a route: finds the group that names the community, or a row that belongs to one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::path::{after, groups, joined, literals};
use super::{GrantsKey, GuessedLookup, GuessedRoute, route_name};
use crate::init::catalogue::{AppTable, AppTables, singular};
use crate::init::django::Pattern;
use crate::init::guess::communities::{has_unique_slug, slug};
use crate::store::catalogue::CatalogueColumn;

/// Words in paths of pages that are shown to people who are not members yet.
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
/// Tables of people: a page about a person is no page of the community that the person's row refers to.
const PEOPLE: &[&str] = &["user", "profile", "userprofile", "account", "person"];
/// Longest page type, in characters.
const MAX_PAGE_TYPE: usize = 64;

/// Names, lookups and page types of the routes so far.
pub(super) struct TakenNames {
    names: BTreeSet<String>,
    lookups: BTreeMap<String, GuessedLookup>,
    /// Page types, with the view and name of the pattern.
    page_types: BTreeMap<String, (String, String)>,
}

impl TakenNames {
    pub(super) fn new(names: &[&str]) -> Self {
        Self {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            lookups: BTreeMap::new(),
            page_types: BTreeMap::new(),
        }
    }

    /// A name that no other route has.
    fn name(&mut self, base: &str) -> String {
        let numbered = (2..).map(|number| format!("{base}-{number}"));
        let mut names = std::iter::once(base.to_owned()).chain(numbered);
        let free = names.find(|name| !self.names.contains(name)).unwrap_or_default();
        self.names.insert(free.clone());
        free
    }

    /// The lookup with a name that no other has: if two tables have the same word, the second is named after table and key.
    fn lookup(&mut self, mut lookup: GuessedLookup) -> GuessedLookup {
        let is_free = |name: &str| {
            self.lookups.get(name).is_none_or(|other| {
                GuessedLookup {
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

    /// The page type, unless another page has it; then the route's name.
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

/// One URL pattern of the site, and the tables that its groups may name.
pub(super) struct PatternReader<'a> {
    pub tables: &'a AppTables,
    pub community: &'a AppTable,
    pub pattern: &'a Pattern,
}

/// What a group of a pattern names.
enum GroupTarget<'a> {
    Id,
    Slug,
    /// A row that belongs to a community: its table, the column that paths name it by, and the column of its community.
    Row {
        table: &'a AppTable,
        key: &'a CatalogueColumn,
        community: &'a CatalogueColumn,
    },
}

impl GroupTarget<'_> {
    /// The table of the row, where it is not the community's.
    fn table(&self) -> Option<&AppTable> {
        match self {
            Self::Id | Self::Slug => None,
            Self::Row { table, .. } => Some(table),
        }
    }
}

/// Whether the name of a group does not say of what it is the key.
fn is_generic(group: &str) -> bool {
    matches!(group, "pk" | "id" | "uuid" | "key" | "slug")
}

impl<'a> PatternReader<'a> {
    /// The route of a pattern that names a community.
    pub(super) fn route(&self, taken: &mut TakenNames) -> Option<GuessedRoute> {
        if self.pattern.view.contains(".admin.") || self.pattern.view.starts_with("django.contrib.") {
            return None;
        }
        let path = joined(&self.pattern.parts);
        let groups = groups(&path);
        let (group, named, is_named_too) = self.community_of(&path, &groups)?;
        let (lookup, word) = match &named {
            GroupTarget::Id | GroupTarget::Slug => (None, self.community.word()),
            GroupTarget::Row {
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
            (GroupTarget::Slug, None) => "community_slug",
            (_, None) => "community",
        };
        let mut regex = format!("^/{path}");
        // A path that ends with the community's id and slug is the community's own page: the group `slug` stays.
        let own = format!(r"\(\?P<{group}>[^()]*\)/\(\?P<slug>[^()]*\)/?(\\Z|\$)?$");
        let is_own_slug =
            matches!(named, GroupTarget::Id) && regex::Regex::new(&own).is_ok_and(|own| own.is_match(&path));
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
        let grants = grants(&segments, is_own && lookup.is_none());
        let mut reason = match (usable, is_api) {
            (false, _) => format!(
                "{}: the pattern needs look-around or a back reference, which routes do not support; rewrite it",
                self.pattern.view
            ),
            (_, true) => format!(
                "{}: an API; use it (track = \"request\") for a single-page app only, so that a page and its API do not count twice",
                self.pattern.view
            ),
            _ => format!("{} ({group} is the {new_name})", self.pattern.view),
        };
        if lookup.is_some() && is_named_too {
            let _ = write!(
                reason,
                "; visitors count for the {0} of that row, not for the {0} in the path",
                self.community.word()
            );
        }
        reason += match grants {
            GrantsKey::Default => "",
            GrantsKey::Proposed if lookup.is_some() => {
                "; set grants = true if the app shows this page only to those who may see its community"
            }
            GrantsKey::Proposed => {
                "; a page below the community: set grants = true if the app checks, before it answers, that the visitor may see the \
                 community in the path"
            }
            GrantsKey::No => {
                "; grants = false: people who are not members see such a page too, so that it proves no access to the community"
            }
        };
        Some(GuessedRoute {
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

    /// The group that names the community, what it names, and whether another group names the community too. A row that
    /// belongs to a community takes precedence, since a path may name any community beside it; then the community's id,
    /// then its slug.
    fn community_of(&self, path: &str, groups: &[String]) -> Option<(String, GroupTarget<'a>, bool)> {
        let mut named: Vec<_> = groups
            .iter()
            .filter_map(|group| Some((group.clone(), self.named(path, group)?)))
            .collect();
        // In `topic/<topic_pk>/<pk>/` the second is the key of something else, such as a post of the topic.
        let said: Vec<_> = named
            .iter()
            .filter(|(group, _)| !is_generic(group))
            .filter_map(|(_, named)| named.table())
            .map(std::ptr::from_ref)
            .collect();
        named.retain(|(group, named)| {
            let table = named.table().map(std::ptr::from_ref);
            !is_generic(group) || !table.is_some_and(|table| said.contains(&table))
        });
        let position =
            |wanted: fn(&GroupTarget<'_>) -> bool| named.iter().rposition(|(_, named)| wanted(named));
        let row = position(|named| matches!(named, GroupTarget::Row { .. }));
        let own = named
            .iter()
            .position(|(_, named)| matches!(named, GroupTarget::Id))
            .or_else(|| {
                named
                    .iter()
                    .position(|(_, named)| matches!(named, GroupTarget::Slug))
            });
        let (group, found) = named.swap_remove(row.or(own)?);
        Some((group, found, own.is_some()))
    }

    fn named(&self, path: &str, group: &str) -> Option<GroupTarget<'a>> {
        let (owner, is_slug) = self.owner(path, group)?;
        if std::ptr::eq(owner, self.community) {
            return match is_slug {
                false => Some(GroupTarget::Id),
                true if has_unique_slug(owner) => Some(GroupTarget::Slug),
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
        Some(GroupTarget::Row {
            table: owner,
            key,
            community: self.reference(owner)?,
        })
    }

    /// The column that refers to the community; of several, the one named after it.
    fn reference(&self, table: &'a AppTable) -> Option<&'a CatalogueColumn> {
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

    /// The table whose row a group names, and whether the group holds a slug.
    fn owner(&self, path: &str, group: &str) -> Option<(&'a AppTable, bool)> {
        let of_word = |word: &str| {
            let is_of = |table: &&AppTable| table.is_of(word);
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
        // The literal segment before the group.
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

    /// The route's name: that of the pattern, else of the view.
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

fn lookup(table: &AppTable, key: &CatalogueColumn, community: &CatalogueColumn) -> GuessedLookup {
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
    GuessedLookup {
        name: group_name(&word),
        table: table.configured(),
        key: key.name.clone(),
        community: community.name.clone(),
    }
}

/// The text as a valid name of a group.
fn group_name(text: &str) -> String {
    let fitting = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = text.chars().map(fitting).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        format!("_{name}")
    } else {
        name
    }
}

/// The key `grants` of a route. `segments` are the literal ones after the group that names the community.
fn grants(segments: &[String], is_own: bool) -> GrantsKey {
    let mut words = segments.iter().flat_map(|segment| segment.split(['-', '_']));
    if words.any(|word| FOR_EVERYBODY.contains(&word)) {
        GrantsKey::No
    } else if is_own {
        GrantsKey::Default
    } else {
        GrantsKey::Proposed
    }
}

/// Whether a key after these segments is a user's, as in `user/topics/`, which lists the topics of a user.
fn is_of_a_user(segments: &[String]) -> bool {
    const USERS: &[&str] = &[
        "user", "member", "profile", "account", "author", "people", "person",
    ];
    let [before @ .., last] = segments else {
        return false;
    };
    singular(last) != *last && before.iter().any(|segment| USERS.contains(&&*singular(segment)))
}
