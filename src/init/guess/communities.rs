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
    let in_paths = site.is_some_and(|site| {
        let word = table.word();
        let words = [word.clone(), plural(&word)];
        site.patterns.iter().any(|pattern| {
            let path = pattern.parts.concat();
            words.iter().any(|word| path.contains(&format!("{word}/")))
        })
    });
    Some(
        likely
            + points(slug(table).is_some(), 15)
            + points(table.named(TITLE, is_text).is_some(), 5)
            + points(in_paths, 20)
            + tables.that_refer_to(table).count().min(5) * 3,
    )
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
pub(super) fn add_settings(guess: &mut Guess, community: Option<&AppTable>, site: Option<&DjangoSite>) {
    const SECTION: &str = "schema.community.columns";
    let Some(table) = community else {
        guess.set_text(
            "schema.community",
            "table",
            "",
            "no table looks like one of communities (communities, forums, groups …)",
        );
        guess.open.push(
            "schema.community: the table of communities (forums, groups, clubs …), and the routes of its pages in \
             routes.d"
                .into(),
        );
        return;
    };
    let reason = if site.is_some() {
        "by the model's name, its paths and what refers to it"
    } else {
        "by its name and what refers to it"
    };
    guess.set_text("schema.community", "table", &table.configured(), reason);
    guess.set_column(SECTION, "id", table.key(), "id");
    guess.set_column(SECTION, "slug", slug(table), "slug");
}
