//! Routes (step 2, match): which route a path belongs to, and which community it names. Pure: `reload` reads the files, and
//! `communities` turns slugs into ids.
//!
//! `file` has the keys of route files and their checks, except those about events (`event`) and about presence in things finer
//! than a community (`presence`); `error` is the message for a fault. `pattern` compiles all routes into one [`RouteTable`],
//! in which the first match in file order wins; patterns see the path only, decoded once as the app sees it
//! ([`decode_path`]). `counted` gives the event types that count, and [`Explanation`] shows the match of one URL.

mod counted;
mod error;
mod event;
mod explain;
mod file;
mod handles;
mod path;
pub mod pattern;
mod presence;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::ids::Finer;

pub use counted::CountedTypes;
pub use error::RouteError;
pub use event::{EventForm, MAX_METADATA, MAX_VALUE, OWN_KEYS, Template, ValueSource};
pub use explain::{Explanation, Tried};
pub use file::RouteFile;
pub use handles::RouteHandles;
pub use path::decode_path;
pub use pattern::{RouteTable, WrittenType};
pub use presence::{FinerKind, MOST_FINER};

/// `event_type` of page views whose route has none of its own.
pub const PAGE_VIEW: &str = "page_view";

/// Names of the configuration that routes refer to.
#[derive(Debug, Clone, Default)]
pub struct RouteNames {
    /// The names in `[schema.lookup]`: a group with such a name leads to a community.
    pub lookups: Arc<[Arc<str>]>,
    /// `privacy.query_allow`: the query parameters that may be recorded.
    pub parameters: Arc<[String]>,
}

impl RouteNames {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Self {
        Self {
            lookups: config.schema.lookups(),
            parameters: config.privacy.query_allow.as_slice().into(),
        }
    }
}

/// The route of a request's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteMatch {
    /// The route.
    pub route: Arc<Route>,
    /// The community that the path names, where it names one.
    pub community: Option<CommunityRef>,
    /// The things in the community that the path names, if the route counts presence in them.
    pub finer: Arc<[Finer]>,
    /// Whether it is the community's own page: the path names nothing below the community, except perhaps its slug.
    pub is_communitys_own: bool,
    /// The texts of the groups that the route's events need.
    pub captures: Vec<(Arc<str>, Arc<str>)>,
}

impl RouteMatch {
    /// The text of a group that the route's events need.
    pub fn capture(&self, name: &str) -> Option<&str> {
        let named = self.captures.iter().find(|(group, _)| **group == *name);
        named.map(|(_, text)| &**text)
    }

    /// Whether a 200 shows that its visitor may see the community. By default the community's own page does. A page below the
    /// community does not: the app may have found it by the key of a topic alone, without a check of the community in the path.
    /// Nor does a page whose community was looked up: some apps show a row, such as a private conversation, to people who
    /// may not see its community.
    pub fn grants(&self) -> bool {
        self.route.grants.unwrap_or(self.is_communitys_own)
    }
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
    /// Query parameter that holds the search text, where the route is a search page.
    pub search_param: Option<Arc<str>>,
    /// Whether the widget may be put into its pages, where they are a community's.
    pub widget: bool,
    /// The key `grants`: whether an answer shows that its visitor may see the community. Without it, the default of
    /// [`RouteMatch::grants`].
    pub grants: Option<bool>,
    /// The form of its events.
    pub event: EventForm,
    /// The metrics of its requests.
    pub handles: RouteHandles,
}

/// What is recorded of requests that match a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommunityRef {
    /// By primary key, as the path spells it: its canonical form depends on the type of the app's keys.
    Id(Arc<str>),
    /// By slug, to be looked up.
    Slug(Arc<str>),
    /// By a row that belongs to it: the name of the lookup in `[schema.lookup]`, and the key in its table.
    Lookup(Arc<str>, Arc<str>),
}
