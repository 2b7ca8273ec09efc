//! What a client asks for: a scope, and how it names the scope's community.

use std::sync::Arc;

use crate::communities::AskedCommunity;
use crate::ids::CommunityId;
use crate::presence::Scope;

/// Whose visitors a connection counts, and how its client names the community. The same scope by another name is another
/// subscription: its messages have that name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AskedScope {
    /// The scope.
    pub scope: Scope,
    /// The slug by which its community was asked for; none where that was its id, or there is none.
    pub slug: Option<Arc<str>>,
}

impl AskedScope {
    /// The community that it is, or is in, with its name in messages.
    pub(super) fn community(&self) -> Option<(&CommunityId, &str)> {
        let community = self.scope.community()?;
        Some((community, self.slug.as_deref().unwrap_or(community.as_str())))
    }
}

impl From<AskedCommunity> for AskedScope {
    fn from(AskedCommunity { id, slug }: AskedCommunity) -> Self {
        Self {
            scope: id.into(),
            slug,
        }
    }
}

impl From<Scope> for AskedScope {
    fn from(scope: Scope) -> Self {
        Self { scope, slug: None }
    }
}

#[cfg(test)]
impl From<&str> for AskedScope {
    fn from(community: &str) -> Self {
        Scope::from(community).into()
    }
}
