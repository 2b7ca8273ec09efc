//! The community's own page among the site's URL patterns: the one that may show who may see the community. Pure.
//!
//! A page that a path names by a community alone need not be its own: a subscription to a hidden forum answers to everybody.

use std::collections::BTreeSet;

use super::path::literals;
use crate::init::catalogue::{AppTable, plural};

/// Words in the name of a view that say nothing of what it shows.
const PLAIN: &[&str] = &[
    "view", "views", "detail", "details", "page", "show", "index", "home", "main", "display", "read", "by",
    "slug", "pk", "id", "uuid", "key",
];

/// What is known of a page of the site.
pub(super) struct Candidate<'a> {
    pub view: &'a str,
    /// The community's model says that it is its rows' own (`get_absolute_url`).
    pub is_target: bool,
    /// Its path, where that ends at the community, and is not an API's.
    pub path: Option<String>,
}

/// The views of the community's own page.
#[derive(Debug, Default)]
pub(super) struct OwnPage {
    views: BTreeSet<String>,
}

impl OwnPage {
    /// The page to which the model's `get_absolute_url` leads; else the detail view with the shortest path that ends at the
    /// community.
    pub(super) fn find(community: &AppTable, candidates: &[Candidate<'_>]) -> Self {
        let of = |views: Vec<&str>| Self {
            views: views.into_iter().map(str::to_owned).collect(),
        };
        let targets = candidates.iter().filter(|candidate| candidate.is_target);
        let targets: Vec<_> = targets.map(|candidate| candidate.view).collect();
        if !targets.is_empty() {
            return of(targets);
        }
        let details = candidates.iter().filter_map(|candidate| {
            let length = literals(candidate.path.as_ref()?).len();
            is_plain(candidate.view, community).then_some((length, candidate.view))
        });
        let details: Vec<_> = details.collect();
        let shortest = details.iter().map(|(length, _)| *length).min();
        let shortest = details.iter().filter(|(length, _)| Some(*length) == shortest);
        of(shortest.map(|(_, view)| *view).collect())
    }

    /// Whether a view shows it.
    pub(super) fn is(&self, view: &str) -> bool {
        self.views.contains(view)
    }

    /// The views, for messages; none where no page of the site is known to be the community's own.
    pub(super) fn named(&self) -> Option<String> {
        let views: Vec<&str> = self.views.iter().map(|view| &**view).collect();
        (!views.is_empty()).then(|| views.join(", "))
    }
}

/// Whether the path of an API ends at the community, with nothing before it than the word for communities.
pub(super) fn is_plain_api(path: &str, community: &AppTable) -> bool {
    let word = community.word();
    literals(path)
        .last()
        .is_some_and(|last| *last == word || *last == plural(&word))
}

/// Whether a view is called after the community, and after nothing else.
fn is_plain(view: &str, community: &AppTable) -> bool {
    let name = view.rsplit('.').next().unwrap_or_default();
    let words: Vec<_> = words(name);
    let rest: String = words
        .iter()
        .filter(|word| !PLAIN.contains(&&***word))
        .map(|word| &**word)
        .collect();
    let word = community.word();
    // A view `group` may show a `StudyGroup`.
    word.ends_with(&rest) || rest == plural(&word)
}

/// The words of a name in camel case or with underscores, in lower case.
pub(super) fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for c in name.chars() {
        if c == '_' || c == '-' || c.is_uppercase() && was_lower {
            words.push(String::new());
        }
        was_lower = c.is_lowercase() || c.is_ascii_digit();
        if c != '_' && c != '-' {
            words.last_mut().expect("a word").extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_words() {
        assert_eq!(words("ForumSubscriptionView"), ["forum", "subscription", "view"]);
        assert_eq!(words("club_by_slug"), ["club", "by", "slug"]);
        assert_eq!(words("clubAPI"), ["club", "api"]);
    }
}
