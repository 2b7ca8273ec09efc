//! Which site a sidecar serves, as its database tells: sidecars of different sites must not share keys in Redis.

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use sha2::{Digest as _, Sha256};

/// The identity of the site; unknown until its database has told, and where that cannot tell. Clones share it.
///
/// It is the same for all sidecars of one site, whatever host, pool, replica or path they reach its database by. A text
/// without spaces: the way it was told, and a hash.
#[derive(Debug, Clone, Default)]
pub struct SiteIdentity(Arc<OnceLock<Arc<str>>>);

impl SiteIdentity {
    /// Notes what identifies the site, told in one of several ways. Only the first time counts.
    pub fn learn(&self, way: &str, what: &str) {
        let digest = Sha256::digest(what);
        let mut text = format!("{way}-");
        for byte in digest.iter().take(8) {
            let _ = write!(text, "{byte:02x}");
        }
        let _ = self.0.set(text.into());
    }

    /// The identity, where it is known.
    pub fn get(&self) -> Option<Arc<str>> {
        self.0.get().cloned()
    }
}

/// Whether two identities are of different sites: they were told in the same way, and are not the same.
pub fn are_different(one: &str, other: &str) -> bool {
    let way = |text: &'_ str| text.split_once('-').map(|(way, _)| way.to_owned());
    way(one) == way(other) && one != other
}
