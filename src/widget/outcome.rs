//! Outcomes for pages that could have got the widget. Pure.

use super::csp::Blocked;

/// One variant per value of `headcount_widget_pages_total`'s `outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The tag was put in.
    Injected,
    /// A Content Security Policy forbids the script.
    ScriptBlocked,
    /// A Content Security Policy forbids the live connection.
    ConnectionBlocked,
    /// Request or response say `Cache-Control: no-transform`.
    NoTransform,
    /// Compressed in a way that was not asked for.
    Encoding,
    /// The character encoding does not keep ASCII.
    Charset,
    /// No community has this slug, or its id is not known yet.
    UnknownCommunity,
    /// Shared caches may serve it to visitors who are not signed in, too.
    SharedCache,
    /// Its `<base>` is, or may be, of another origin: the script would come from there.
    ForeignBase,
    /// A frameset, or not a page at all.
    NoPlace,
    /// It cannot be searched: a tag is too long, or the body is not compressed as its headers say.
    Failed,
}

impl Outcome {
    /// Every outcome.
    pub(crate) const ALL: [Self; 11] = [
        Self::Injected,
        Self::ScriptBlocked,
        Self::ConnectionBlocked,
        Self::NoTransform,
        Self::Encoding,
        Self::Charset,
        Self::UnknownCommunity,
        Self::SharedCache,
        Self::ForeignBase,
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
            Self::SharedCache => "shared_cache",
            Self::ForeignBase => "foreign_base",
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
