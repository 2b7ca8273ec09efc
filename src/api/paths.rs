//! The API's paths. Pure; paths are compared raw, as they stand in the request line.
//!
//! [`Operation::template`] is the one place that spells a path: `owns`, the router and the contract are all made
//! from it.

use crate::config;
use crate::metrics::{LabelValue as _, label_values};

/// Stands for one non-empty path segment in a template.
const COMMUNITY: &str = "{community}";

label_values! {
    /// An operation of the API.
    pub enum Operation as "operation" {
        /// Who is here.
        List => "visitors",
        /// How many are here.
        Count => "count",
        /// Numbers over days.
        Stats => "stats",
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

impl Operation {
    /// The path below the prefix, without trailing slash.
    pub(super) fn template(self) -> &'static str {
        match self {
            Self::List => "/communities/{community}/visitors",
            Self::Count => "/communities/{community}/visitors/count",
            Self::Stats => "/communities/{community}/visitors/stats",
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
                Self::List | Self::Count | Self::Stats | Self::Counts | Self::Contract => true,
            }
    }

    /// Whether a raw path below the prefix is this operation's, with or without one trailing slash.
    fn matches(self, path: &str) -> bool {
        let mut asked = path.strip_suffix('/').unwrap_or(path).split('/');
        let mut expected = self.template().split('/');
        loop {
            match (asked.next(), expected.next()) {
                (None, None) => return true,
                (Some(segment), Some(COMMUNITY)) if !segment.is_empty() => {}
                (Some(segment), Some(literal)) if segment == literal && literal != COMMUNITY => {}
                _ => return false,
            }
        }
    }
}

/// Whether the sidecar answers this raw path itself, under this configuration. Pure.
pub fn is_own_path(settings: &config::Api, path: &str) -> bool {
    Paths::new(settings).operation(path).is_some()
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

    /// The operation of a raw path.
    pub(super) fn operation(&self, path: &str) -> Option<Operation> {
        let below = path.strip_prefix(&self.prefix)?;
        self.operations().find(|operation| operation.matches(below))
    }

    /// Prefix of all paths.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The operation's path as the contract shows it.
    pub(super) fn documented(&self, template: &str) -> String {
        format!("{}{template}", self.prefix)
    }

    /// The operation's router patterns: with and without trailing slash.
    pub(super) fn patterns(&self, operation: Operation) -> [String; 2] {
        // Braces have a meaning in the router's patterns but not in a prefix.
        let prefix = self.prefix.replace('{', "{{").replace('}', "}}");
        let path = format!("{prefix}{}", operation.template());
        [format!("{path}/"), path]
    }
}
