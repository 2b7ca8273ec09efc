//! What became of a page that could have had the widget. Pure.

use super::csp::Blocked;

/// One variant per value of `headcount_widget_pages_total`'s `outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The tag is in.
    Injected,
    /// A Content Security Policy forbids the script.
    ScriptBlocked,
    /// A Content Security Policy forbids the live connection.
    ConnectionBlocked,
    /// Request or response say `Cache-Control: no-transform`.
    NoTransform,
    /// Compressed in a way that was not asked for.
    Encoding,
    /// In an encoding that does not keep ASCII.
    Charset,
    /// No community has this slug, or it is not known yet which.
    UnknownCommunity,
    /// A frameset, or no page at all.
    NoPlace,
    /// A tag of the page is too long.
    Failed,
}

impl Outcome {
    /// Every outcome.
    pub(crate) const ALL: [Self; 9] = [
        Self::Injected,
        Self::ScriptBlocked,
        Self::ConnectionBlocked,
        Self::NoTransform,
        Self::Encoding,
        Self::Charset,
        Self::UnknownCommunity,
        Self::NoPlace,
        Self::Failed,
    ];

    /// The label value.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Injected => "injected",
            Self::ScriptBlocked => "script_blocked",
            Self::ConnectionBlocked => "connection_blocked",
            Self::NoTransform => "no_transform",
            Self::Encoding => "encoding",
            Self::Charset => "charset",
            Self::UnknownCommunity => "unknown_community",
            Self::NoPlace => "no_place",
            Self::Failed => "failed",
        }
    }
}

impl From<Blocked> for Outcome {
    fn from(blocked: Blocked) -> Self {
        match blocked {
            Blocked::Script => Self::ScriptBlocked,
            Blocked::Connection => Self::ConnectionBlocked,
        }
    }
}
