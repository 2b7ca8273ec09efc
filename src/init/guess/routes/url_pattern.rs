//! Turns one URL pattern of the site into a route. Which group names the community, or a row that belongs to one:
//! `group_target`; whether an answer proves access to it: `grants_key`.

mod grants_key;
mod group_target;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use grants_key::{PageKind, grants, why};
use group_target::GroupTarget;

use super::own_page::{Candidate, OwnPage, is_plain_api};
use super::path::{after, groups, joined, literals};
use super::{GuessedLookup, GuessedRoute, route_name};
use crate::init::catalogue::{AppTable, AppTables};
use crate::init::django::Pattern;
use crate::store::catalogue::CatalogueColumn;

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

/// What a pattern says of a community.
struct UrlPage<'a> {
    path: String,
    groups: Vec<String>,
    /// The group that names the community, or a row of it.
    group: String,
    named: GroupTarget<'a>,
    is_named_too: bool,
    is_own_slug: bool,
    /// Whether nothing below the community, or the row, is named.
    is_own: bool,
}

impl UrlPage<'_> {
    fn is_api(&self) -> bool {
        self.path.starts_with("api/") || self.path.contains("/api/")
    }

    /// Whether it names the community itself.
    fn lookup_free(&self) -> bool {
        matches!(self.named, GroupTarget::Id | GroupTarget::Slug)
    }

    /// The literal segments below the community, or the row.
    fn segments(&self) -> Vec<String> {
        literals(after(&self.path, &self.group))
    }

    /// Whether it is what a page of the site does beside being shown: the rest of an API.
    fn only_acts(&self) -> bool {
        self.is_api() && !(self.is_own || !self.lookup_free() && self.segments().is_empty())
    }

    /// Whether it shows the community or the row itself.
    fn shows_thing(&self, kind: PageKind) -> bool {
        self.is_own && kind != PageKind::Beside || !self.lookup_free() && self.segments().is_empty()
    }

    /// The lookup of the row; none where it names the community itself.
    fn lookup(&self) -> Option<GuessedLookup> {
        match self.named {
            GroupTarget::Id | GroupTarget::Slug => None,
            GroupTarget::Row {
                table,
                key,
                community,
            } => Some(lookup(table, key, community)),
        }
    }

    /// The name of its group in the route.
    fn group_name<'l>(&self, lookup: Option<&'l GuessedLookup>) -> &'l str {
        match (&self.named, lookup) {
            (_, Some(lookup)) => &lookup.name,
            (GroupTarget::Slug, None) => "community_slug",
            (_, None) => "community",
        }
    }

    /// The route's pattern, in which that group is called `name` and other groups have no names.
    fn regex(&self, mount: &str, name: &str) -> String {
        let mut regex = format!("^{mount}/{}", self.path);
        let stays = |group: &str| self.is_own_slug && group == "slug";
        for group in self.groups.iter().filter(|group| !stays(group)) {
            let named = format!("(?P<{name}>");
            let to = if *group == self.group { &named } else { "(?:" };
            regex = regex.replace(&format!("(?P<{group}>"), to);
        }
        regex
    }

    fn kind(&self, reader: &PatternReader<'_>, own: &OwnPage) -> PageKind {
        if !self.is_own || !self.lookup_free() {
            return PageKind::Below;
        }
        let is_plain = if self.is_api() {
            let before = self.path.split(&format!("(?P<{}>", self.group)).next();
            is_plain_api(before.unwrap_or_default(), reader.community)
        } else {
            own.is(&reader.pattern.view)
        };
        if is_plain { PageKind::Own } else { PageKind::Beside }
    }
}

/// One URL pattern of the site, and the tables that its groups may name.
pub(super) struct PatternReader<'a> {
    pub tables: &'a AppTables,
    pub community: &'a AppTable,
    pub pattern: &'a Pattern,
    /// What every path of the site may begin with, as a regular expression.
    pub mount: &'a str,
}

impl<'a> PatternReader<'a> {
    /// What the pattern says of the community; none where it names none, or is not one of the site's pages.
    fn page(&self) -> Option<UrlPage<'a>> {
        if self.pattern.view.contains(".admin.") || self.pattern.view.starts_with("django.contrib.") {
            return None;
        }
        let path = joined(&self.pattern.parts);
        let groups = groups(&path);
        let (group, named, is_named_too) = self.community_of(&path, &groups)?;
        // A path that ends with the community's id and slug is the community's own page: the group `slug` stays.
        let own = format!(r"\(\?P<{group}>[^()]*\)/\(\?P<slug>[^()]*\)/?(\\Z|\$)?$");
        let is_own_slug =
            matches!(named, GroupTarget::Id) && regex::Regex::new(&own).is_ok_and(|own| own.is_match(&path));
        let below = after(&path, &group);
        let is_own = is_own_slug || !below.trim_end_matches(['$', '?', '/']).contains('/');
        Some(UrlPage {
            path,
            groups,
            group,
            named,
            is_named_too,
            is_own_slug,
            is_own,
        })
    }

    /// What is known of the page, to find the community's own.
    pub(super) fn candidate(&self) -> Candidate<'a> {
        let is_communitys = |table: &String| {
            let named = self.tables.by_name(table);
            named.is_some_and(|named| std::ptr::eq(named, self.community))
        };
        let page = self.page();
        let page = page.filter(|page| page.is_own && page.lookup_free() && !page.is_api());
        Candidate {
            view: &self.pattern.view,
            is_target: self.pattern.own_of.iter().any(is_communitys),
            path: page.map(|page| page.path),
        }
    }

    /// The route of a pattern that names a community.
    pub(super) fn route(&self, taken: &mut TakenNames, own: &OwnPage) -> Option<GuessedRoute> {
        let page = self.page()?;
        if page.only_acts() {
            return None;
        }
        let kind = page.kind(self, own);
        let lookup = page.lookup().map(|lookup| taken.lookup(lookup));
        let word = page.named.table().unwrap_or(self.community).word();
        let group_name = page.group_name(lookup.as_ref());
        let pattern = page.regex(self.mount, group_name);
        let is_usable = regex::Regex::new(&pattern).is_ok();
        let name = taken.name(&self.name(&word));
        let page_type = if page.shows_thing(kind) { &word } else { &name };
        // What the site itself says goes before words in front of the community.
        let segments = if kind == PageKind::Own {
            page.segments()
        } else {
            literals(&page.path)
        };
        let grants = grants(&segments, kind);
        let reason = self.reason(&page, is_usable, group_name);
        let is_search = literals(&page.path).last().is_some_and(|last| last == "search");
        Some(GuessedRoute {
            page_type: Some(taken.page_type(page_type, &name, self.pattern)),
            name,
            pattern,
            is_excluded: false,
            is_proposal: page.is_api() || !is_usable,
            search_param: is_search.then_some("q"),
            grants,
            reason: reason + &why(grants, lookup.is_some(), self.community, own),
            lookup,
        })
    }

    /// Where the route comes from, and what to know of it.
    fn reason(&self, page: &UrlPage<'_>, is_usable: bool, group_name: &str) -> String {
        let view = &self.pattern.view;
        let mut reason = match (is_usable, page.is_api()) {
            (false, _) => format!(
                "{view}: the pattern needs look-around or a back reference, which routes do not support; rewrite it"
            ),
            (_, true) => format!(
                "{view}: an API; use it (track = \"request\") for a single-page app only, so that a page and its API do not count twice"
            ),
            _ => format!("{view} ({} is the {group_name})", page.group),
        };
        if page.is_named_too && !page.lookup_free() {
            let word = self.community.word();
            let _ = write!(
                reason,
                "; visitors count for the {word} of that row, not for the {word} in the path"
            );
        }
        reason
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
