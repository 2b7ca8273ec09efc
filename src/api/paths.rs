//! The API's paths. Pure. A path is parsed once, raw, as it stands in the request line ([`Paths::parse`]); all else
//! goes by the [`ApiPath`].
//!
//! [`Operation::template`] is the one place that spells a path: parser and contract are made from it.

use http::Method;
use percent_encoding::percent_decode_str;

use crate::config::{self, Scope};
use crate::metrics::{LabelValue as _, label_values};

/// Stands for one non-empty path segment in a template.
const COMMUNITY: &str = "{community}";
/// The same, of a user.
const USER: &str = "{user}";

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
        /// How many are in each of several communities.
        Counts => "counts",
        /// The same, each time one changes.
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
    Scope(Scope),
    /// The same for everybody: keys are not looked at.
    Anybody,
    /// A visitor's alone.
    Nobody,
}

impl Operation {
    /// What it is to a server. Each operation decides: there is no default.
    pub(super) fn for_servers(self) -> ForServers {
        match self {
            Self::Count | Self::Counts | Self::Stats | Self::Live | Self::LiveOfMany => {
                ForServers::Scope(Scope::Counts)
            }
            Self::List | Self::History | Self::HistoryOfOne => ForServers::Scope(Scope::Identities),
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
            | Self::Counts
            | Self::LiveOfMany => true,
            Self::Visits | Self::Widget | Self::Contract => false,
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
            Self::Counts => "/visitors/counts",
            Self::LiveOfMany => "/visitors/live",
            Self::Visits => "/visits",
            Self::Widget => "/visitors/widget.js",
            Self::Contract => "/visitors/openapi.json",
        }
    }

    /// Whether it opens live connections.
    pub(super) fn is_live(self) -> bool {
        matches!(self, Self::Live | Self::LiveOfMany)
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
            Self::Live | Self::LiveOfMany => "GET",
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
                Self::Live | Self::LiveOfMany | Self::Widget => settings.live,
                Self::Visits => settings.beacon,
                Self::List
                | Self::Count
                | Self::Stats
                | Self::History
                | Self::HistoryOfOne
                | Self::Counts
                | Self::Contract => true,
            }
    }

    /// The raw segments of the community and of the user of a raw path below the prefix, without trailing slash, if that
    /// is the operation's path; empty if it has none.
    fn segments(self, path: &str) -> Option<(&str, &str)> {
        let (mut asked, mut expected) = (path.split('/'), self.template().split('/'));
        let (mut community, mut user) = ("", "");
        loop {
            match (asked.next(), expected.next()) {
                (None, None) => return Some((community, user)),
                (Some(segment), Some(COMMUNITY)) if !segment.is_empty() => community = segment,
                (Some(segment), Some(USER)) if !segment.is_empty() => user = segment,
                (Some(segment), Some(literal))
                    if segment == literal && ![COMMUNITY, USER].contains(&literal) => {}
                _ => return None,
            }
        }
    }
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

/// Whether the sidecar answers this raw path itself, under this configuration. Pure.
pub fn is_own_path(settings: &config::Api, path: &str) -> bool {
    Paths::new(settings).parse(path).is_some()
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

    /// Reads a raw path, with or without one trailing slash; `None` if it is the app's.
    pub(super) fn parse(&self, path: &str) -> Option<ApiPath> {
        let below = path.strip_prefix(&self.prefix)?;
        let below = below.strip_suffix('/').unwrap_or(below);
        self.operations().find_map(|operation| {
            let (community, user) = operation.segments(below)?;
            let decoded = |segment| percent_decode_str(segment).decode_utf8().ok().map(Into::into);
            Some(ApiPath {
                operation,
                community: decoded(community),
                user: decoded(user),
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
