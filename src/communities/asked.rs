//! A community as a caller of the API asks for it: by its id or by its slug, as `api.community_key` says.

use std::sync::Arc;

use super::{Communities, MAX_LENGTH, MAX_SLUG_LENGTH};
use crate::config::CommunityKey;
use crate::ids::CommunityId;
use crate::json::Key;
use crate::key_type::AppKeys;
use crate::routes::CommunityRef;
use crate::store::StoreError;

/// A community that there is, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AskedCommunity {
    /// The community.
    pub id: CommunityId,
    /// The slug by which it was asked for; none where that was its id.
    pub slug: Option<Arc<str>>,
}

impl AskedCommunity {
    /// Its key in answers to who asked: the slug as it was asked for, or the id in its one form.
    pub(crate) fn key(&self, keys: &AppKeys) -> Key {
        match &self.slug {
            Some(slug) => Key::Text(slug.as_ref().into()),
            None => Key::of_community(&self.id, keys),
        }
    }
}

impl From<CommunityId> for AskedCommunity {
    fn from(id: CommunityId) -> Self {
        Self { id, slug: None }
    }
}

impl Communities {
    /// The community that a caller asks for. Where both are taken, a text that is a community's id stands for that one,
    /// whatever slug another has. `None` when there is none.
    ///
    /// # Errors
    /// The table could not be queried. Nothing is cached then.
    pub async fn find(
        &self,
        asked: &str,
        key: CommunityKey,
    ) -> Result<Option<AskedCommunity>, Arc<StoreError>> {
        if key != CommunityKey::Slug
            && let Some(id) = self.by_id(asked).await?
        {
            return Ok(Some(id.into()));
        }
        if key == CommunityKey::Id || !is_well_formed(asked, CommunityKey::Slug) {
            return Ok(None);
        }
        let slug: Arc<str> = asked.into();
        let id = self.looked_up(&CommunityRef::Slug(Arc::clone(&slug))).await?;
        let slug = Some(slug);
        Ok(id.map(|id| AskedCommunity { id, slug }))
    }

    /// What a caller asks for while the table cannot be queried, as far as it is told by its form or was found before: it may
    /// be gone by now, or may never have been there. Never waits for I/O.
    pub(crate) fn last_found(&self, asked: &str, key: CommunityKey) -> Option<AskedCommunity> {
        let canonical = self
            .keys
            .get()
            .filter(|_| key != CommunityKey::Slug && is_well_formed(asked, CommunityKey::Id))
            .and_then(|types| Some(CommunityId::from(&*types.community.canonical(asked)?)));
        if let Some(id) = canonical {
            let spelled = self.last_id(&CommunityRef::Id(id.as_str().into()));
            return Some(spelled.unwrap_or(id).into());
        }
        let slug: Arc<str> = asked.into();
        let id = self.last_id(&CommunityRef::Slug(Arc::clone(&slug)))?;
        let slug = Some(slug).filter(|_| key != CommunityKey::Id);
        Some(AskedCommunity { id, slug })
    }
}

/// Whether text can be what callers name a community by. `.` and `..` cannot: put into the backend's path they would
/// name another one.
pub fn is_well_formed(asked: &str, key: CommunityKey) -> bool {
    let longest = match key {
        CommunityKey::Id => MAX_LENGTH,
        CommunityKey::Slug | CommunityKey::Either => MAX_SLUG_LENGTH,
    };
    let length_is_fine = !asked.is_empty() && asked.chars().nth(longest).is_none();
    length_is_fine && !matches!(asked, "." | "..") && !asked.chars().any(char::is_control)
}
