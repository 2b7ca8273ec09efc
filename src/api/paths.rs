//! The API's paths. Pure. A path is parsed once, raw, as it stands in the request line ([`Paths::parse`]); all else
//! reads the [`Operation`].
//!
//! [`Operation::template`] is the one place that spells a path: parser and contract are made from it.

use http::Method;
use percent_encoding::percent_decode_str;

use crate::config;

/// Stands for one non-empty path segment in a template.
const COMMUNITY: &str = "{community}";

/// The community that a path names, decoded once; `None` if it is not UTF-8.
pub(super) type Community = Option<String>;

/// An operation of the API, with the parameters in its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Who is here.
    List(Community),
    /// How many are here.
    Count(Community),
    /// Numbers over days.
    Stats(Community),
    /// How many are here, each time it changes.
    Live(Community),
    /// How many are in each of several communities.
    Counts,
    /// The same, each time one changes.
    LiveOfMany,
    /// A page view that a page reports.
    Visits,
    /// The script of the widget.
    Widget,
    /// The `OpenAPI` document.
    Contract,
}

impl Operation {
    /// Every operation, without parameters.
    pub(super) const ALL: [Self; 9] = [
        Self::List(None),
        Self::Count(None),
        Self::Stats(None),
        Self::Live(None),
        Self::Counts,
        Self::LiveOfMany,
        Self::Visits,
        Self::Widget,
        Self::Contract,
    ];

    /// The path below the prefix, without trailing slash.
    pub(super) fn template(&self) -> &'static str {
        match self {
            Self::List(_) => "/communities/{community}/visitors",
            Self::Count(_) => "/communities/{community}/visitors/count",
            Self::Stats(_) => "/communities/{community}/visitors/stats",
            Self::Live(_) => "/communities/{community}/visitors/live",
            Self::Counts => "/visitors/counts",
            Self::LiveOfMany => "/visitors/live",
            Self::Visits => "/visits",
            Self::Widget => "/visitors/widget.js",
            Self::Contract => "/visitors/openapi.json",
        }
    }

    /// Whether it opens live connections.
    pub(super) fn is_live(&self) -> bool {
        matches!(self, Self::Live(_) | Self::LiveOfMany)
    }

    /// Whether its requests have a body, of at most [`MAX_REPORT`](super::MAX_REPORT) bytes.
    pub fn takes_a_report(&self) -> bool {
        *self == Self::Visits
    }

    /// Whether a request with this method is one of its. The handshake of a live connection refuses HEAD itself.
    pub(super) fn takes(&self, method: &Method) -> bool {
        match self {
            Self::Visits => method == Method::POST,
            _ => method == Method::GET || method == Method::HEAD,
        }
    }

    /// Its methods, as in `Allow`.
    pub(super) fn methods(&self) -> &'static str {
        match self {
            Self::Visits => "POST",
            Self::Live(_) | Self::LiveOfMany => "GET",
            _ => "GET,HEAD",
        }
    }

    /// Whether allowed pages of other origins may call it. Reports are accepted from the site's own pages only;
    /// the script can be loaded by any.
    pub(super) fn is_for_other_origins(&self) -> bool {
        !matches!(self, Self::Visits | Self::Widget)
    }

    /// The metric label.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::List(_) => "visitors",
            Self::Count(_) => "count",
            Self::Stats(_) => "stats",
            Self::Live(_) => "live",
            Self::Counts => "counts",
            Self::LiveOfMany => "live_of_many",
            Self::Visits => "visits",
            Self::Widget => "widget",
            Self::Contract => "openapi",
        }
    }

    /// Whether it is enabled by the configuration. Paths of disabled operations are the app's.
    fn is_enabled(&self, settings: &config::Api) -> bool {
        settings.enabled
            && match self {
                Self::Live(_) | Self::LiveOfMany | Self::Widget => settings.live,
                Self::Visits => settings.beacon,
                Self::List(_) | Self::Count(_) | Self::Stats(_) | Self::Counts | Self::Contract => true,
            }
    }

    /// This operation, if a raw path below the prefix, without trailing slash, is its path.
    fn parse(&self, path: &str) -> Option<Self> {
        let (mut asked, mut expected) = (path.split('/'), self.template().split('/'));
        let mut community = "";
        loop {
            match (asked.next(), expected.next()) {
                (None, None) => return Some(self.of(community)),
                (Some(segment), Some(COMMUNITY)) if !segment.is_empty() => community = segment,
                (Some(segment), Some(literal)) if segment == literal && literal != COMMUNITY => {}
                _ => return None,
            }
        }
    }

    fn of(&self, segment: &str) -> Self {
        let community = || percent_decode_str(segment).decode_utf8().ok().map(Into::into);
        match self {
            Self::List(_) => Self::List(community()),
            Self::Count(_) => Self::Count(community()),
            Self::Stats(_) => Self::Stats(community()),
            Self::Live(_) => Self::Live(community()),
            operation => operation.clone(),
        }
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
    (path(Operation::Widget), path(Operation::Live(None)))
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
        let operations = Operation::ALL.into_iter();
        let operations = operations
            .filter(|operation| operation.is_enabled(settings))
            .collect();
        Self { prefix, operations }
    }

    /// The enabled operations.
    pub(super) fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The operation of a raw path, with or without one trailing slash; `None` if the path is the app's.
    pub(super) fn parse(&self, path: &str) -> Option<Operation> {
        let below = path.strip_prefix(&self.prefix)?;
        let below = below.strip_suffix('/').unwrap_or(below);
        self.operations
            .iter()
            .find_map(|operation| operation.parse(below))
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
