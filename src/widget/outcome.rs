//! Outcomes for pages that could have got the widget. Pure.

use super::csp::Blocked;
use crate::metrics::label_values;

label_values! {
    /// One variant per value of `headcount_widget_pages_total`'s `outcome`.
    pub enum Outcome as "outcome" {
        /// The tag was put in.
        Injected => "injected",
        /// A Content Security Policy forbids the script.
        ScriptBlocked => "script_blocked",
        /// A Content Security Policy forbids the live connection.
        ConnectionBlocked => "connection_blocked",
        /// Request or response say `Cache-Control: no-transform`.
        NoTransform => "no_transform",
        /// Compressed in a way that was not asked for.
        Encoding => "encoding",
        /// The character encoding does not keep ASCII.
        Charset => "charset",
        /// No community has this slug, or its id is not known yet.
        UnknownCommunity => "unknown_community",
        /// Shared caches may serve it to visitors who are not signed in, too.
        SharedCache => "shared_cache",
        /// Its `<base>` is, or may be, of another origin: the script would come from there.
        ForeignBase => "foreign_base",
        /// A frameset, or not a page at all.
        NoPlace => "no_place",
        /// It cannot be searched: a tag is too long, or the body is not compressed as its headers say.
        Failed => "failed",
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
