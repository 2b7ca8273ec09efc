//! Recent pages for the dashboard: which pages were recorded last, and when; never by whom. Bounded, in memory, and
//! cheap for the request path.
//!
//! A path may hold a secret. So it keeps no query, no path of a page that no route names, and no part of a path that
//! looks like a key or an address. Where that is not enough, `privacy.recent_pages` keeps routes only, or nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

use crate::config::RecentPrecision;
use crate::ids::CommunityId;
use crate::page_view::PageView;
use crate::routes::CommunityRef;

/// Number of pages kept.
pub const KEPT: usize = 50;
/// Longest path kept, in characters.
const MAX_PATH: usize = 200;
/// Replaces a part of a path that looks secret.
const HIDDEN: &str = "…";
/// A piece with this many letters and digits is no word.
const KEY_LENGTH: usize = 16;

/// The latest page views. A handle.
#[derive(Debug, Clone)]
pub struct RecentPages {
    precision: RecentPrecision,
    kept: Arc<Mutex<KeptPages>>,
}

#[derive(Debug, Default)]
struct KeptPages {
    /// Number of pages noted so far.
    noted: u64,
    /// By time, and by number within the same time. A view whose visitor was looked up late is inserted at its time.
    pages: BTreeMap<(DateTime<Utc>, u64), Arc<RecentPage>>,
}

/// One page view, as the dashboard shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentPage {
    /// Start of the request.
    pub at: DateTime<Utc>,
    /// Path without query; `None` where it is not shown.
    pub path: Option<String>,
    /// Name of the route.
    pub route: Option<Arc<str>>,
    /// The route's page type.
    pub page_type: Option<Arc<str>>,
    /// The community of the page.
    pub community: Option<CommunityId>,
    /// The community's slug, where the path names it.
    pub slug: Option<Arc<str>>,
}

impl RecentPages {
    /// No pages so far.
    pub fn new(precision: RecentPrecision) -> Self {
        Self {
            precision,
            kept: Arc::default(),
        }
    }

    /// Adds a page view. The lock is held briefly, here and by readers.
    pub fn note(&self, view: &PageView, community: Option<&CommunityId>) {
        if self.precision == RecentPrecision::None {
            return;
        }
        let page = Arc::new(RecentPage {
            at: view.at,
            path: (self.precision == RecentPrecision::Path && view.route.is_some()).then(|| path(&view.url)),
            route: view.route.clone(),
            page_type: view.page_type.clone(),
            community: community.cloned(),
            slug: match &view.community {
                Some(CommunityRef::Slug(slug)) => Some(Arc::clone(slug)),
                Some(CommunityRef::Id(_) | CommunityRef::Lookup(..)) | None => None,
            },
        });
        let oldest = {
            let mut kept = self.lock();
            kept.noted += 1;
            let number = kept.noted;
            kept.pages.insert((page.at, number), page);
            (kept.pages.len() > KEPT).then(|| kept.pages.pop_first())
        };
        drop(oldest);
    }

    /// Pages with their numbers, latest first.
    pub fn latest(&self) -> Vec<(u64, Arc<RecentPage>)> {
        let kept = self.lock();
        let latest = kept.pages.iter().rev();
        latest
            .map(|((_, number), page)| (*number, Arc::clone(page)))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, KeptPages> {
        // Nothing panics while it holds the lock.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The path of a recorded URL, without parts that look secret.
fn path(url: &str) -> String {
    let path = url.split('?').next().unwrap_or_default();
    let mut shown = String::with_capacity(path.len());
    for (at, part) in path.split('/').enumerate() {
        if at > 0 {
            shown.push('/');
        }
        shown.push_str(if looks_secret(part) { HIDDEN } else { part });
    }
    // Characters have a byte at least.
    if shown.len() > MAX_PATH
        && let Some((end, _)) = shown.char_indices().nth(MAX_PATH)
    {
        shown.truncate(end);
        shown.push_str(HIDDEN);
    }
    shown
}

/// Whether a part of a path may be a key or a mail address: random letters and digits in one long piece, capital
/// and small letters and digits mixed, or an `@`. Slugs, numbers and UUIDs are not.
fn looks_secret(part: &str) -> bool {
    if part.len() < KEY_LENGTH {
        return part.contains('@');
    }
    let has = |text: &str, is: fn(&char) -> bool| text.chars().any(|character| is(&character));
    let is_random = |word: &str| {
        word.len() >= KEY_LENGTH && has(word, char::is_ascii_digit) && has(word, char::is_ascii_alphabetic)
    };
    let is_mixed = has(part, char::is_ascii_digit)
        && has(part, char::is_ascii_lowercase)
        && has(part, char::is_ascii_uppercase);
    part.contains('@')
        || is_mixed
        || part
            .split(|character: char| !character.is_ascii_alphanumeric())
            .any(is_random)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page_view::RouteEvent;
    use crate::page_view::device::DeviceInfo;

    fn view(url: &str, route: Option<&str>) -> PageView {
        PageView {
            at: DateTime::UNIX_EPOCH,
            url: url.into(),
            route: route.map(Into::into),
            page_type: route.map(Into::into),
            community: Some(CommunityRef::Slug("rust".into())),
            finer: Arc::default(),
            referrer: Some("https://secret.example/".into()),
            search_query: Some("secret".into()),
            status: 200,
            duration_ms: 1,
            client_ip: None,
            user_agent: "secret".into(),
            device: Arc::new(DeviceInfo::default()),
            event: RouteEvent::default(),
        }
    }

    #[test]
    fn the_latest_pages_are_kept_and_no_more() {
        let recent = RecentPages::new(RecentPrecision::Path);
        for number in 0..KEPT + 3 {
            recent.note(&view(&format!("/c/rust/{number}"), Some("c")), Some(&"42".into()));
        }
        let latest = recent.latest();
        assert_eq!(latest.len(), KEPT);
        let expected = RecentPage {
            at: DateTime::UNIX_EPOCH,
            path: Some("/c/rust/52".into()),
            route: Some("c".into()),
            page_type: Some("c".into()),
            community: Some("42".into()),
            slug: Some("rust".into()),
        };
        assert_eq!((latest[0].0, &*latest[0].1), (53, &expected));
        assert_eq!(latest.last().map(|(number, _)| *number), Some(4));
    }

    #[test]
    fn a_view_that_was_looked_up_late_comes_to_its_place() {
        let recent = RecentPages::new(RecentPrecision::Path);
        let seen = |second: usize| PageView {
            at: DateTime::from_timestamp(i64::try_from(second).unwrap(), 0).unwrap(),
            ..view(&format!("/{second}"), Some("c"))
        };
        for second in [1, 3, 2] {
            recent.note(&seen(second), None);
        }
        let paths = || -> Vec<_> {
            let latest = recent.latest();
            latest
                .iter()
                .map(|(_, page)| page.path.clone().unwrap())
                .collect()
        };
        assert_eq!(paths(), ["/3", "/2", "/1"]);
        for second in 4..4 + KEPT {
            recent.note(&seen(second), None);
        }
        recent.note(&seen(0), None);
        assert_eq!(
            paths().last().unwrap(),
            "/4",
            "what is older than all is not kept"
        );
    }

    #[test]
    fn w5_no_query_is_shown_even_if_it_is_recorded() {
        assert_eq!(path("/c/rust?page=2&token=x"), "/c/rust");
    }

    #[test]
    fn the_path_of_a_page_that_no_route_names_is_not_shown() {
        let recent = RecentPages::new(RecentPrecision::Path);
        recent.note(&view("/anything", None), None);
        assert_eq!(recent.latest()[0].1.path, None);
    }

    #[test]
    fn as_little_is_kept_as_was_asked_for() {
        let recent = RecentPages::new(RecentPrecision::Route);
        recent.note(&view("/c/rust", Some("c")), None);
        let page = recent.latest()[0].1.clone();
        assert_eq!((page.path.as_deref(), page.route.as_deref()), (None, Some("c")));
        let recent = RecentPages::new(RecentPrecision::None);
        recent.note(&view("/c/rust", Some("c")), None);
        assert!(recent.latest().is_empty());
    }

    #[test]
    fn w5_what_looks_like_a_key_or_an_address_is_not_shown() {
        for secret in [
            "c8k3j2-0a1b2c3d4e5f60718293a4b5c6d7e8f9",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOjF9",
            "Zm9vYmFyYmF6-cXV4_1",
            "0123456789abcdef",
            "alice@example.org",
        ] {
            assert_eq!(path(&format!("/invite/{secret}/")), "/invite/…/", "{secret}");
        }
    }

    #[test]
    fn slugs_numbers_and_uuids_are_shown() {
        for plain in [
            "/communities/42/posts/1234567890123456789/",
            "/c/the-rust-programming-language-2024-edition/",
            "/communities/0190a5b2-7c3d-7e4f-8a9b-0c1d2e3f4a5b/",
            "/c/internationalisation/",
            "/c/größe/",
        ] {
            assert_eq!(path(plain), plain);
        }
    }

    #[test]
    fn a_long_path_is_cut() {
        let shown = path(&"/ö".repeat(MAX_PATH));
        assert_eq!(shown.chars().count(), MAX_PATH + 1);
    }
}
