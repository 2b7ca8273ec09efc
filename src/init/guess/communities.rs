//! Finds the table of the app's communities.

use super::super::catalogue::{AppTable, AppTables, is_text, plural};
use super::super::django::DjangoSite;
use super::Guess;
use crate::store::catalogue::CatalogueColumn;

/// Names of models of communities, the likeliest first.
const MODELS: &[&str] = &[
    "community",
    "forum",
    "group",
    "club",
    "board",
    "subforum",
    "category",
    "space",
    "room",
    "channel",
    "team",
    "circle",
    "guild",
    "hub",
    "section",
    "course",
    "project",
    "organization",
    "organisation",
    "site",
    "place",
    "event",
    "topic",
];
/// Those that may end a longer name: a `StudyGroup` is a group.
const LAST_WORDS: &[&str] = &[
    "community",
    "forum",
    "group",
    "club",
    "space",
    "room",
    "channel",
    "team",
    "circle",
    "guild",
];
/// Points that a longer name has less.
const LONGER: usize = 8;
/// Names of groups of permissions.
const RIGHTS: &[&str] = &["usergroup", "permissiongroup", "rolegroup", "authgroup"];
/// Tables of Django and of common packages with such names that are no communities.
const OTHERS: &[&str] = &[
    "auth_group",
    "django_site",
    "wagtailcore_site",
    "wagtailcore_collection",
];

/// Tables of people.
const PEOPLE: &[&str] = &[
    "user",
    "profile",
    "userprofile",
    "account",
    "person",
    "session",
    "usersession",
];

const SLUG: &[&str] = &["slug", "handle", "url_name", "short_name", "shortname"];
const TITLE: &[&str] = &["name", "title"];

/// The likeliest table.
pub(super) fn find<'t>(tables: &'t AppTables, site: Option<&DjangoSite>) -> Option<&'t AppTable> {
    let mut scored: Vec<_> = tables
        .0
        .iter()
        .filter_map(|table| Some((score(tables, table, site)?, table)))
        .collect();
    scored.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    scored.first().map(|(_, table)| *table)
}

fn score(tables: &AppTables, table: &AppTable, site: Option<&DjangoSite>) -> Option<usize> {
    if OTHERS.contains(&&*table.name) || RIGHTS.contains(&&*table.word()) || table.only_connects() {
        return None;
    }
    table.key()?;
    let rank = |fits: &dyn Fn(&str) -> bool| MODELS.iter().position(|model| fits(model));
    let likely = match rank(&|model| table.is_of(model)) {
        Some(rank) => (MODELS.len() - rank) * 4,
        None => {
            (MODELS.len() - rank(&|model| LAST_WORDS.contains(&model) && table.ends_with(model))?) * 4
                - LONGER
        }
    };
    let points = |has: bool, points| if has { points } else { 0 };
    Some(
        likely
            + points(slug(table).is_some(), 15)
            + points(table.named(TITLE, is_text).is_some(), 5)
            + points(in_paths(table, site) > 0, 20)
            + tables.that_refer_to(table).count().min(5) * 3,
    )
}

/// Tables that may be those of communities though nothing is called like one, the likeliest first: rows with a name, to which
/// other rows or paths refer.
pub(in crate::init) fn candidates(tables: &AppTables, site: Option<&DjangoSite>) -> Vec<String> {
    const MOST: usize = 8;
    let is_own = |table: &&AppTable| {
        let name = &*table.name;
        let is_djangos = [
            "auth_",
            "django_",
            "wagtail",
            "easy_thumbnails_",
            "account_",
            "socialaccount_",
        ];
        !is_djangos.iter().any(|start| name.starts_with(start))
            && !PEOPLE.iter().any(|people| table.is_of(people))
            && !table.only_connects()
            && table.key().is_some()
    };
    let mut scored: Vec<_> = tables
        .0
        .iter()
        .filter(is_own)
        .filter_map(|table| {
            let referring = tables.that_refer_to(table).count();
            let points = in_paths(table, site) * 4
                + referring.min(10)
                + usize::from(slug(table).is_some()) * 2
                + usize::from(table.named(TITLE, is_text).is_some()) * 2;
            let is_named = slug(table).is_some() || table.named(TITLE, is_text).is_some();
            (points > 2 && (is_named || referring > 2)).then_some((points, table))
        })
        .collect();
    scored.sort_by_key(|(points, _)| std::cmp::Reverse(*points));
    let names = scored.into_iter().take(MOST);
    names.map(|(_, table)| table.configured()).collect()
}

/// In how many of the site's paths the word for its rows is a segment, at most 5.
fn in_paths(table: &AppTable, site: Option<&DjangoSite>) -> usize {
    let word = table.word();
    let words = [format!("{word}/"), format!("{}/", plural(&word))];
    let patterns = site.into_iter().flat_map(|site| &site.patterns);
    let paths = patterns.map(|pattern| pattern.parts.concat());
    paths
        .filter(|path| words.iter().any(|word| path.contains(&**word)))
        .take(5)
        .count()
}

/// Its column of slugs.
pub(super) fn slug(table: &AppTable) -> Option<&CatalogueColumn> {
    table.named(SLUG, is_text)
}

/// Whether a slug names one community only.
pub(super) fn has_unique_slug(table: &AppTable) -> bool {
    slug(table).is_some_and(|column| column.is_unique)
}

/// Adds its settings.
pub(super) fn add_settings(
    guess: &mut Guess,
    community: Option<&AppTable>,
    is_named: bool,
    tables: &AppTables,
    site: Option<&DjangoSite>,
) {
    const SECTION: &str = "schema.community.columns";
    let Some(table) = community else {
        guess.set_text(
            "schema.community",
            "table",
            "",
            "no table looks like one of communities (communities, forums, groups …)",
        );
        let candidates = candidates(tables, site).join(", ");
        let of_these = if candidates.is_empty() {
            String::new()
        } else {
            format!(" Tables that may be it: {candidates}.")
        };
        guess.open.push(format!(
            "schema.community: the table of communities (forums, groups, clubs …), and the routes of its pages in routes.d.\
             {of_these} `headcount init --community TABLE`, or app_label.Model, takes one and derives its routes; where paths \
             name no key of it, see Communities of something else in config/README.md"
        ));
        return;
    };
    let reason = if is_named {
        "--community"
    } else if site.is_some() {
        "by the model's name, its paths and what refers to it"
    } else {
        "by its name and what refers to it"
    };
    guess.set_text("schema.community", "table", &table.configured(), reason);
    guess.set_column(SECTION, "id", table.key(), "id");
    guess.set_column(SECTION, "slug", slug(table), "slug");
}
