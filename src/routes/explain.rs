//! Explanation of a URL's route, for `headcount routes test` and the admin page.

use serde::Serialize;

use super::{CommunityRef, RouteTable, Track, decode_path};

/// The result for one URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The path that the patterns saw: decoded once.
    pub path: String,
    /// The route that wins; `None` when no pattern matches.
    pub route: Option<String>,
    /// Its page type.
    pub page_type: Option<String>,
    /// What is recorded on the route.
    pub track: Option<Track>,
    /// The community that the path names.
    pub community: Option<CommunityRef>,
    /// Every route, in order.
    pub tried: Vec<Tried>,
}

/// One route, compared with the path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tried {
    /// The route's name.
    pub route: String,
    /// Its pattern as written.
    pub pattern: String,
    /// `file:line`.
    pub source: String,
    /// Whether the pattern matches. The first that does wins; later ones are shadowed.
    pub matched: bool,
}

impl RouteTable {
    /// Explains a URL, a path, or a request target, percent-encoded as it is sent.
    pub fn explain(&self, url: &str) -> Explanation {
        let path = decode_path(url.trim().as_bytes());
        let found = self.find(&path);
        let tried = self
            .checked()
            .iter()
            .map(|route| Tried {
                route: route.route.name.to_string(),
                pattern: route.pattern.clone(),
                source: route.source.clone(),
                matched: route.regex.is_match(&path),
            })
            .collect();
        let route = found.as_ref().map(|found| &found.route);
        Explanation {
            path: path.into_owned(),
            route: route.map(|route| route.name.to_string()),
            page_type: route.map(|route| route.page_type.to_string()),
            track: route.map(|route| route.track),
            community: found.as_ref().and_then(|found| found.community.clone()),
            tried,
        }
    }
}
