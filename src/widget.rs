//! The widget: the element `<live-visitors>`, which shows how many are in a community, live.
//!
//! Two parts. The [`Script`] is served by the API for pages that have the element; its sources are under `script/`, and
//! served as they are written, without a build. The [`Injector`] puts a tag for that script into pages of an unchanged app, where
//! that is configured: `inject` decides and changes heads, `body` and `rewriter` change bodies as they stream by,
//! `csp`, `etags`, `charset`, `tag` and `outcome` are the pure parts. The proxy calls it; here is no Pingora.
//!
//! Invariant: a page passes, whatever is in it. It never waits for its end, and is never kept in memory.

mod body;
mod charset;
mod csp;
pub(crate) mod etags;
mod inject;
mod outcome;
mod rewriter;
mod script;
mod tag;

pub use inject::Injector;

pub(crate) use body::Body;
pub(crate) use csp::Page;
pub(crate) use inject::Decision;
pub(crate) use outcome::Outcome;
pub(crate) use script::Script;
