//! What users are counted in: the whole site, a community, or something finer in a community, such as one post. Pure.
//!
//! A community and what is finer in it are touched together: they share a partition of the keys, and one call of the
//! store. The whole site is a partition's guest of its own, touched in a call of its own.

use std::fmt;
use std::sync::Arc;

use crate::ids::{CommunityId, Finer};
use crate::routes::MOST_FINER;

/// Longest community id, in bytes, that presence keeps. Primary keys are far shorter; a longer text is no
/// key, and must not become one here.
pub const MAX_COMMUNITY_BYTES: usize = 255;

/// Separates the parts of a scope in key names.
pub(super) const SEPARATOR: char = '\u{1f}';

/// Whether presence keeps this community: neither empty, nor longer than [`MAX_COMMUNITY_BYTES`], nor with what separates
/// the parts of a scope.
pub fn is_keyable(community: &CommunityId) -> bool {
    (1..=MAX_COMMUNITY_BYTES).contains(&community.as_str().len()) && !community.as_str().contains(SEPARATOR)
}

/// Where users are counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Everywhere: pages of communities and pages of none.
    Site,
    /// A community.
    Community(CommunityId),
    /// Something in a community.
    Finer(CommunityId, Finer),
}

impl Scope {
    #[must_use]
    /// What is touched in one call with it: a community for what is finer in it, else itself.
    pub fn group(&self) -> Self {
        match self {
            Self::Finer(community, _) => Self::Community(community.clone()),
            other => other.clone(),
        }
    }

    /// The community that it is, or is in: access to it is access to this.
    pub fn community(&self) -> Option<&CommunityId> {
        match self {
            Self::Site => None,
            Self::Community(community) | Self::Finer(community, _) => Some(community),
        }
    }

    /// What is finer than a community in it.
    pub fn finer(&self) -> Option<&Finer> {
        match self {
            Self::Finer(_, finer) => Some(finer),
            Self::Site | Self::Community(_) => None,
        }
    }

    /// A community, or something in it.
    pub fn of(community: CommunityId, finer: Option<Finer>) -> Self {
        match finer {
            Some(finer) => Self::Finer(community, finer),
            None => Self::Community(community),
        }
    }
}

impl From<CommunityId> for Scope {
    fn from(community: CommunityId) -> Self {
        Self::Community(community)
    }
}

impl From<&CommunityId> for Scope {
    fn from(community: &CommunityId) -> Self {
        Self::Community(community.clone())
    }
}

/// A community by its id.
impl From<&str> for Scope {
    fn from(community: &str) -> Self {
        Self::Community(community.into())
    }
}

/// As in keys, with spaces for what separates the parts; for messages.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Site => f.write_str("the whole site"),
            Self::Community(community) => community.fmt(f),
            Self::Finer(community, finer) => write!(f, "{community} {} {}", finer.kind(), finer.key()),
        }
    }
}

/// Where a user was seen: on the site in any case.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Whereabouts {
    /// The community, if the page is one of a community that presence keeps.
    community: Option<CommunityId>,
    /// What is finer in that, at most [`MOST_FINER`].
    finer: Arc<[Finer]>,
}

impl Whereabouts {
    /// On a page of a community, if of any, and of these things in it.
    pub fn new(community: Option<CommunityId>, finer: Arc<[Finer]>) -> Self {
        let community = community.filter(is_keyable);
        Self { community, finer }
    }

    /// The community.
    pub fn community(&self) -> Option<&CommunityId> {
        self.community.as_ref()
    }

    /// The community, and what is finer in it; nothing on a page of no community.
    pub fn scopes(&self) -> impl Iterator<Item = Scope> {
        self.community.iter().flat_map(|community| {
            let finer = self.finer.iter().take(MOST_FINER);
            let finer = finer.map(|finer| Scope::Finer(community.clone(), finer.clone()));
            std::iter::once(Scope::Community(community.clone())).chain(finer)
        })
    }
}

impl From<CommunityId> for Whereabouts {
    fn from(community: CommunityId) -> Self {
        Self::new(Some(community), Arc::default())
    }
}

/// A page of this, and nothing finer.
impl From<&Scope> for Whereabouts {
    fn from(scope: &Scope) -> Self {
        let finer = scope.finer().cloned().into_iter().collect();
        Self::new(scope.community().cloned(), finer)
    }
}

impl From<&str> for Whereabouts {
    fn from(community: &str) -> Self {
        CommunityId::from(community).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p23_a_view_is_in_a_community_and_in_what_is_finer_there() {
        let post = Finer::new("post", "7").unwrap();
        let seen = Whereabouts::new(Some("42".into()), [post.clone()].into());
        let scopes: Vec<_> = seen.scopes().collect();
        assert_eq!(scopes, ["42".into(), Scope::Finer("42".into(), post.clone())]);
        assert!(scopes.iter().all(|scope| scope.group() == "42".into()));
        let of_none = Whereabouts::new(None, [post].into());
        assert_eq!(of_none.scopes().count(), 0);
    }

    #[test]
    fn p24_scopes_are_bounded() {
        let many: Vec<_> = (0..9)
            .map(|n| Finer::new("post", &n.to_string()).unwrap())
            .collect();
        let seen = Whereabouts::new(Some("42".into()), many.into());
        assert_eq!(seen.scopes().count(), 1 + MOST_FINER);
    }
}
