//! What a group of a URL pattern names: the community, or a row that belongs to one.

use super::PatternReader;
use crate::init::catalogue::{AppTable, is_count, singular};
use crate::init::guess::communities::{has_unique_slug, slug};
use crate::init::guess::routes::own_page::words;
use crate::init::guess::routes::path::{inside, literals};
use crate::store::catalogue::CatalogueColumn;

/// Tables of people: a page about a person is no page of the community that the person's row refers to.
const PEOPLE: &[&str] = &["user", "profile", "userprofile", "account", "person"];
/// Tables of what one person gets or watches: pages of such a row lead somewhere else.
const PERSONAL: &[&str] = &["notification", "watchedthread", "subscription", "bookmark"];

/// What a group of a pattern names.
pub(super) enum GroupTarget<'a> {
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
    pub(super) fn table(&self) -> Option<&AppTable> {
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
    /// The group that names the community, what it names, and whether another group names the community too. A row that
    /// belongs to a community takes precedence, since a path may name any community beside it; then the community's id,
    /// then its slug.
    pub(super) fn community_of(
        &self,
        path: &str,
        groups: &[String],
    ) -> Option<(String, GroupTarget<'a>, bool)> {
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
        if PEOPLE.iter().chain(PERSONAL).any(|people| owner.is_of(people)) {
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
            word => return of_word(word).map(|table| (table, !fits_key(path, group, table))),
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
        let says = |name: &str, word: &str| {
            name.to_ascii_lowercase()
                .split(['_', '-'])
                .any(|part| part == word)
        };
        if says(&view, &word) || says(&self.pattern.name, &word) {
            return Some((self.community, generic));
        }
        self.called_like_its_page().map(|table| (table, generic))
    }

    /// The table of rows of communities that view and pattern are both called after, as a `ThreadView` with the name `thread`.
    fn called_like_its_page(&self) -> Option<&'a AppTable> {
        let view = words(self.pattern.view.rsplit('.').next().unwrap_or_default());
        let name = words(self.pattern.name.rsplit(':').next().unwrap_or_default());
        let is_named = |table: &&AppTable| {
            let word = table.word();
            view.contains(&word) && name.contains(&word)
        };
        let mut tables = self.tables.0.iter();
        tables.find(|table| is_named(table) && self.reference(table).is_some())
    }
}

/// Whether the text of a group may be a key of the table: one that takes letters is no whole number.
fn fits_key(path: &str, group: &str, table: &AppTable) -> bool {
    let takes_letters = || {
        let pattern = format!("^(?:{})$", inside(path, group));
        regex::Regex::new(&pattern).is_ok_and(|pattern| pattern.is_match("a-b"))
    };
    !table.key().is_some_and(|key| is_count(key.kind)) || !takes_letters()
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
