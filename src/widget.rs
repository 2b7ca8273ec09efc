//! The widget: the element `<live-visitors>`, which shows how many are in a community, live.
//!
//! Two parts. The script is served by the API for pages that have the element; its sources are under `script/`,
//! and served as they are written, without a build. The [`Injector`] puts a tag for that script into pages of an
//! unchanged app, where configured: `inject` decides and changes headers, `body` and `rewriter` change bodies as
//! they stream through, `csp`, `page`, `etags`, `charset`, `tag` and `outcome` are pure. The proxy calls it;
//! nothing here depends on Pingora.
//!
//! Invariant: a page always passes, whatever it contains. It is streamed, and never buffered as a whole.

mod body;
mod charset;
mod csp;
pub(crate) mod etags;
mod inject;
mod outcome;
mod page;
mod rewriter;
mod script;
mod tag;

use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

pub use inject::Injector;

pub(crate) use body::PageBody;
pub(crate) use inject::Decision;
pub(crate) use outcome::Outcome;
pub(crate) use page::Page;
pub(crate) use script::Script;
pub(crate) use tag::TagCommunity;

/// Whether the browser accepts gzip, by name or by `*`.
pub(crate) fn accepts_gzip(request: &HeaderMap) -> bool {
    let weight = |name: &str| {
        let values = request.get_all(ACCEPT_ENCODING).iter();
        let mut elements = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','));
        elements.find_map(|element| {
            let mut parts = element.split(';').map(str::trim);
            let is_it = parts.next()?.eq_ignore_ascii_case(name);
            let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
            is_it.then(|| weight.unwrap_or(1.0))
        })
    };
    weight("gzip")
        .or_else(|| weight("*"))
        .is_some_and(|weight| weight > 0.0)
}
