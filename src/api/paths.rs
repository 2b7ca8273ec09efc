//! The API's paths. Pure. A path is parsed once, raw, as it stands in the request line ([`Paths::parse`]); all else
//! goes by the [`ApiPath`].
//!
//! [`Operation::template`] is the one place that spells a path: parser and contract are made from it.

use std::sync::Arc;

use http::Method;
use percent_encoding::percent_decode_str;

use crate::config::{self, KeyScope};
use crate::ids::Finer;
use crate::metrics::{LabelValue as _, label_values};
use crate::routes::{FinerKind, RouteTable};

/// Stands for one non-empty path segment in a template.
const COMMUNITY: &str = "{community}";
/// The same, of a user.
const USER: &str = "{user}";
/// Stands for the segment of a kind of things that are finer than communities.
pub(super) const SCOPES: &str = "{scopes}";
/// Stands for one non-empty segment, the key of such a thing.
pub(super) const SCOPE: &str = "{scope}";

label_values! {
    /// An operation of the API.
    pub enum Operation as "operation" {
        /// Who is here.
        List => "visitors",
        /// How many are here.
        Count => "count",
        /// Numbers over days.
        Stats => "stats",
        /// Who was here over days.
        History => "history",
        /// What one user did here over days.
        HistoryOfOne => "history_of_one",
        /// How many are here, each time it changes.
        Live => "live",
        /// Who is at something in a community.
        FinerList => "finer_visitors",
        /// How many are.
        FinerCount => "finer_count",
        /// How many are, each time it changes.
        FinerLive => "finer_live",
        /// How many are on the whole site.
        SiteCount => "site_count",
        /// Who is.
        Online => "online",
        /// Which of some users are.
        UsersOnline => "users_online",
        /// How many are in each of several communities.
        Counts => "counts",
        /// The same, each time one changes; or of the whole site.
        LiveOfMany => "live_of_many",
        /// A page view that a page reports.
        Visits => "visits",
        /// The script of the widget.
        Widget => "widget",
        /// The `OpenAPI` document.
        Contract => "openapi",
    }
}

/// What an operation is to a server that asks with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ForServers {
    /// One that needs this scope.
    Scope(KeyScope),
    /// The same for everybody: keys are not looked at.
    Anybody,
    /// A visitor's alone.
    Nobody,
}

impl Operation {
    /// What it is to a server. Each operation decides: there is no default.
    pub(super) fn for_servers(self) -> ForServers {
        match self {
            Self::Count
            | Self::Counts
            | Self::Stats
            | Self::Live
            | Self::LiveOfMany
            | Self::FinerCount
            | Self::FinerLive
            | Self::SiteCount => ForServers::Scope(KeyScope::Counts),
            Self::List
            | Self::FinerList
            | Self::History
            | Self::HistoryOfOne
            | Self::Online
            | Self::UsersOnline => ForServers::Scope(KeyScope::Identities),
            // A view is somebody's, and a key nobody's.
            Self::Visits => ForServers::Nobody,
            Self::Widget | Self::Contract => ForServers::Anybody,
        }
    }

    /// Whether it is of communities that the request names, of which each caller sees those that it may. Otherwise it is of
    /// the whole site, and not for a key that is limited to some communities.
    pub(super) fn names_communities(self) -> bool {
        match self {
            Self::List
            | Self::Count
            | Self::Stats
            | Self::History
            | Self::HistoryOfOne
            | Self::Live
            | Self::FinerList
            | Self::FinerCount
            | Self::FinerLive
            | Self::Counts
            | Self::LiveOfMany => true,
            Self::SiteCount
            | Self::Online
            | Self::UsersOnline
            | Self::Visits
            | Self::Widget
            | Self::Contract => false,
        }
    }

    /// The path below the prefix, without trailing slash.
    pub(super) fn template(self) -> &'static str {
        match self {
            Self::List => "/communities/{community}/visitors",
            Self::Count => "/communities/{community}/visitors/count",
            Self::Stats => "/communities/{community}/visitors/stats",
            Self::History => "/communities/{community}/visitors/history",
            Self::HistoryOfOne => "/communities/{community}/visitors/history/{user}",
            Self::Live => "/communities/{community}/visitors/live",
            Self::FinerList => "/communities/{community}/{scopes}/{scope}/visitors",
            Self::FinerCount => "/communities/{community}/{scopes}/{scope}/visitors/count",
            Self::FinerLive => "/communities/{community}/{scopes}/{scope}/visitors/live",
            Self::SiteCount => "/visitors/count",
            Self::Online => "/visitors/online",
            Self::UsersOnline => "/visitors/users",
            Self::Counts => "/visitors/counts",
            Self::LiveOfMany => "/visitors/live",
            Self::Visits => "/visits",
            Self::Widget => "/visitors/widget.js",
            Self::Contract => "/visitors/openapi.json",
        }
    }

    /// Whether it opens live connections.
    pub(super) fn is_live(self) -> bool {
        matches!(self, Self::Live | Self::FinerLive | Self::LiveOfMany)
    }

    /// Whether a request with this method is one of its. The handshake of a live connection refuses HEAD itself.
    pub(super) fn takes(self, method: &Method) -> bool {
        match self {
            Self::Visits => method == Method::POST,
            _ => method == Method::GET || method == Method::HEAD,
        }
    }

    /// Its methods, as in `Allow`.
    pub(super) fn methods(self) -> &'static str {
        match self {
            Self::Visits => "POST",
            Self::Live | Self::FinerLive | Self::LiveOfMany => "GET",
            _ => "GET,HEAD",
        }
    }

    /// Whether allowed pages of other origins may call it. Reports are accepted from the site's own pages only;
    /// the script can be loaded by any.
    pub(super) fn is_for_other_origins(self) -> bool {
        !matches!(self, Self::Visits | Self::Widget)
    }

    /// Whether it is enabled by the configuration. Paths of disabled operations are the app's.
    fn is_enabled(self, settings: &config::Api) -> bool {
        settings.enabled
            && match self {
                Self::Live | Self::FinerLive | Self::LiveOfMany | Self::Widget => settings.live,
                Self::Visits => settings.beacon,
                Self::List
                | Self::Count
                | Self::Stats
                | Self::History
                | Self::HistoryOfOne
                | Self::FinerList
                | Self::FinerCount
                | Self::SiteCount
                | Self::Online
                | Self::UsersOnline
                | Self::Counts
                | Self::Contract => true,
            }
    }

    /// What a raw path below the prefix, without trailing slash, names, if it is the operation's path.
    fn segments(self, path: &str) -> Option<Segments<'_>> {
        let (mut asked, mut expected) = (path.split('/'), self.template().split('/'));
        let mut found = Segments::default();
        loop {
            match (asked.next(), expected.next()) {
                (None, None) => return Some(found),
                (Some(segment), Some(COMMUNITY)) if !segment.is_empty() => found.community = segment,
                (Some(segment), Some(USER)) if !segment.is_empty() => found.user = segment,
                (Some(segment), Some(SCOPES)) if !segment.is_empty() => found.scopes = segment,
                (Some(segment), Some(SCOPE)) if !segment.is_empty() => found.scope = segment,
                (Some(segment), Some(literal)) if segment == literal && !literal.starts_with('{') => {}
                _ => return None,
            }
        }
    }
}

/// Raw segments of a path; empty where it has none.
#[derive(Default)]
struct Segments<'a> {
    community: &'a str,
    user: &'a str,
    scopes: &'a str,
    scope: &'a str,
}

/// A path of the API, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiPath {
    /// What is asked for.
    pub(super) operation: Operation,
    /// The community that it names, decoded once; `None` if that is not UTF-8. Empty if it names none.
    pub(super) community: Option<String>,
    /// The user that it names, in the same way.
    pub(super) user: Option<String>,
    /// What is finer in it that the path names, if it names any.
    pub(super) finer: Option<AskedFiner>,
}

/// Something finer than a community, as a path names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AskedFiner {
    /// What presence may keep.
    Known(Finer),
    /// A key of this kind that cannot be one.
    NoKey(Arc<str>),
}

impl ApiPath {
    /// Whether its answers are live connections.
    pub fn is_live(&self) -> bool {
        self.operation.is_live()
    }

    /// Whether its requests have a body, of at most [`MAX_REPORT`](super::MAX_REPORT) bytes.
    pub fn takes_a_report(&self) -> bool {
        self.operation == Operation::Visits
    }
}

/// Whether the sidecar answers this raw path itself, under this configuration and these routes. Pure.
pub fn is_own_path(settings: &config::Api, routes: &RouteTable, path: &str) -> bool {
    Paths::new(settings)
        .parse(path, || routes.finer_kinds().to_vec())
        .is_some()
}

/// The paths of the widget's script, and of a page's live connection.
pub fn widget_paths(settings: &config::Api) -> (String, String) {
    let paths = Paths::new(settings);
    let path = |operation: Operation| paths.documented(operation.template());
    (path(Operation::Widget), path(Operation::Live))
}

/// The API's paths under one prefix.
#[derive(Debug)]
pub(super) struct Paths {
    /// Starts with a slash and ends without one; empty for the root.
    prefix: String,
    operations: Vec<Operation>,
}

impl Paths {
    /// Takes the prefix with or without slashes around it.
    pub(super) fn new(settings: &config::Api) -> Self {
        let bare = settings.prefix.trim_matches('/');
        let prefix = if bare.is_empty() {
            String::new()
        } else {
            format!("/{bare}")
        };
        let operations = Operation::ALL.iter().copied();
        let operations = operations
            .filter(|operation| operation.is_enabled(settings))
            .collect();
        Self { prefix, operations }
    }

    /// The enabled operations.
    pub(super) fn operations(&self) -> impl Iterator<Item = Operation> {
        self.operations.iter().copied()
    }

    /// Reads a raw path, with or without one trailing slash; `None` if it is the app's. `kinds` are those of things finer
    /// than communities; asked for only where the path may name one.
    pub(super) fn parse(&self, path: &str, kinds: impl Fn() -> Vec<FinerKind>) -> Option<ApiPath> {
        let below = path.strip_prefix(&self.prefix)?;
        let below = below.strip_suffix('/').unwrap_or(below);
        self.operations().find_map(|operation| {
            let segments = operation.segments(below)?;
            let finer = match segments.scopes {
                "" => None,
                scopes => {
                    let kind = kinds().into_iter().find(|kind| *kind.segment == *scopes)?.kind;
                    let key = percent_decode_str(segments.scope).decode_utf8().ok();
                    let finer = key.and_then(|key| Finer::new(&kind, &key));
                    Some(finer.map_or(AskedFiner::NoKey(kind), AskedFiner::Known))
                }
            };
            let decoded = |segment| percent_decode_str(segment).decode_utf8().ok().map(Into::into);
            Some(ApiPath {
                operation,
                community: decoded(segments.community),
                user: decoded(segments.user),
                finer,
            })
        })
    }

    /// Prefix of all paths.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The operation's path as the contract shows it.
    pub(super) fn documented(&self, template: &str) -> String {
        format!("{}{template}", self.prefix)
    }
}
