//! Step 2, match: which route a path belongs to, and which community it names.
//!
//! Patterns come from route files and see the path only, decoded once as the app sees it. All patterns are
//! compiled into one [`regex::RegexSet`]; the first match in file order wins. Pure: reading the files is
//! `reload`'s, turning a slug into an id is `community`'s at the edge.

pub mod community;
pub mod pattern;

use std::sync::Arc;

use crate::ids::CommunityId;

pub use pattern::{RouteError, RouteFile, RouteTable};

/// What a request's path matched.
#[derive(Debug, Clone)]
pub struct RouteMatch {
    /// The route.
    pub route: Arc<Route>,
    /// The community that the path names, where it names one.
    pub community: Option<CommunityRef>,
}

/// One route of a route file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Unique name; a metric label and `metadata.route`.
    pub name: Arc<str>,
    /// `metadata.page_type`; the route's name where the file gives none.
    pub page_type: Arc<str>,
    /// What is recorded of requests on this route.
    pub track: Track,
    /// Query parameter that holds the text searched for, where the route is a search page.
    pub search_param: Option<Arc<str>>,
}

/// What is recorded of requests that match a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Track {
    /// Nothing.
    None,
    /// Page views.
    #[default]
    Page,
    /// Every GET answered 200, as for a JSON API behind a single-page app.
    Request,
}

/// A community as a path names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CommunityRef {
    /// By primary key.
    Id(CommunityId),
    /// By slug; `community` looks it up.
    Slug(Arc<str>),
}
