//! Which pages of past visitors a caller is told of (`api.pages`).
//!
//! Whoever may see a community may see its own pages. One below it may be of something that the app hides from some of its
//! members, such as a post that waits for approval: its address tells that it is there, its title, and who has read it.

use crate::api::ApiState;
use crate::api::caller::Caller;
use crate::auth::KeyFound;
use crate::config::Pages;
use crate::routes::{RouteTable, Track};

/// Most pages of a visitor that are told.
const MOST: usize = 5;

/// A page's URL as it was recorded, and its views.
type UrlViews = (String, i64);

impl ApiState {
    /// Of a visitor's pages, the most views first, those that a caller is told of.
    pub(super) fn told_pages(&self, caller: &Caller, pages: &[UrlViews]) -> Vec<UrlViews> {
        let told = match (&caller.key, self.settings.pages) {
            (KeyFound::Key(_), _) => Pages::All,
            (_, told) => told,
        };
        let routes = self.intake.routes.load();
        let is_told = |(url, _): &&UrlViews| match told {
            Pages::All => true,
            Pages::Own => is_own(&routes, url),
            Pages::None => false,
        };
        pages.iter().filter(is_told).take(MOST).cloned().collect()
    }
}

/// Leaves out pages that nobody is told of: the first of all and the first of the communities' own stay.
pub(super) fn shorten(routes: &RouteTable, pages: &mut Vec<UrlViews>) {
    let (mut all, mut own) = (0, 0);
    pages.retain(|(url, _)| {
        all += 1;
        let is_told = own < MOST && is_own(routes, url);
        own += usize::from(is_told);
        all <= MOST || is_told
    });
}

/// Whether a recorded URL is of a community's own page, one that the app shows to those who may see the community alone.
fn is_own(routes: &RouteTable, url: &str) -> bool {
    // As it was recorded: decoded once, but for these two.
    let path = url.split('?').next().unwrap_or_default();
    let path = path.replace("%3F", "?").replace("%23", "#");
    routes.find(&path).is_some_and(|found| {
        found.is_communitys_own
            && found.finer.is_empty()
            && found.grants()
            && found.route.track != Track::None
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::RouteFile;

    #[test]
    fn a28_of_many_pages_those_stay_that_somebody_may_be_told_of() {
        let file = RouteFile {
            path: "a.toml".into(),
            text: "[[route]]\nname = 'c'\npattern = '^/c/(?P<community>\\d+)/$'\n\
                   [[route]]\nname = 'joins'\npattern = '^/join/(?P<community>\\d+)/$'\ngrants = false\n\
                   [[route]]\nname = 'below'\npattern = '^/c/(?P<community>\\d+)/.*$'\ngrants = true\n"
                .into(),
        };
        let routes = RouteTable::compile(&[file]).unwrap();
        assert!(is_own(&routes, "/c/42/") && is_own(&routes, "/c/42/?tab=new"));
        for other in [
            "/c/42/posts/7/",
            "/join/42/",
            "/c/42/%3Ftab",
            "/nowhere",
            "https://other/c/42/",
            "",
        ] {
            assert!(!is_own(&routes, other), "{other}");
        }
        let mut pages: Vec<_> = (0..7).map(|n| (format!("/c/42/posts/{n}/"), 9)).collect();
        pages.extend((0..7).map(|n| (format!("/c/42/?page={n}"), 1)));
        shorten(&routes, &mut pages);
        assert_eq!(pages.len(), 10);
        assert_eq!(pages[4].0, "/c/42/posts/4/");
        assert_eq!((&*pages[5].0, &*pages[9].0), ("/c/42/?page=0", "/c/42/?page=4"));
    }
}
