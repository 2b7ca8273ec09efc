//! Fake stores for tests that need only a part of one.

use std::collections::HashSet;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{Applied, LedgerProblem, SessionsFound, Stats, Store, StoreError, VisitorRow};
use crate::batch::{Batch, BatchKey};
use crate::browser_session::BrowserSession;
use crate::ids::{CommunityId, SessionToken, UserId};
use crate::key_type::{AppKeys, KeyType, KeyTypes};

/// The part of a store that a test expects to be used; any other call fails the test.
#[async_trait]
#[expect(unused_variables, reason = "nothing is answered by default")]
pub(crate) trait Fake: Send + Sync + 'static {
    fn known_keys(&self) -> AppKeys {
        AppKeys::of(KeyTypes {
            community: KeyType::BIGINT,
            user: KeyType::BIGINT,
        })
    }

    async fn browser_session(&self, token: &SessionToken) -> Result<Option<BrowserSession>, StoreError> {
        unimplemented!("no token is looked up")
    }

    async fn community_by_slug(&self, slug: &str) -> Result<Option<CommunityId>, StoreError> {
        unimplemented!("no slug is looked up")
    }

    async fn community_exists(&self, community: &CommunityId) -> Result<bool, StoreError> {
        unimplemented!("no community is asked for")
    }

    async fn community_by_key(&self, key: &CommunityId) -> Result<Option<CommunityId>, StoreError> {
        let exists = self.community_exists(key).await?;
        Ok(exists.then(|| key.clone()))
    }

    async fn apply(&self, batch: &Batch) -> Result<Applied, StoreError> {
        unimplemented!("nothing is written")
    }

    async fn missing_parts(&self, parts: &[BatchKey]) -> Result<HashSet<BatchKey>, StoreError> {
        unimplemented!("nothing is written")
    }

    async fn ledger(&self) -> Result<Option<LedgerProblem>, StoreError> {
        unimplemented!("nothing is written")
    }

    async fn forget_old_parts(&self) -> Result<u64, StoreError> {
        unimplemented!("nothing is written")
    }

    async fn visitors(&self, users: &[UserId]) -> Result<Vec<VisitorRow>, StoreError> {
        unimplemented!("nobody is listed")
    }

    async fn stats(
        &self,
        community: &CommunityId,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<Stats, StoreError> {
        unimplemented!("nothing is counted")
    }
}

#[async_trait]
impl<F: Fake> Store for F {
    fn keys(&self) -> AppKeys {
        Fake::known_keys(self)
    }

    async fn key_types(&self) -> Result<KeyTypes, StoreError> {
        let unknown = StoreError::Unavailable(sqlx::Error::PoolTimedOut);
        Fake::known_keys(self).get().ok_or(unknown)
    }

    async fn browser_sessions(&self, tokens: &[SessionToken]) -> Result<SessionsFound, StoreError> {
        let mut found = SessionsFound::new();
        for token in tokens {
            match Fake::browser_session(self, token).await {
                Ok(Some(session)) => drop(found.insert(token.clone(), Ok(session))),
                Ok(None) => {}
                Err(error @ StoreError::Unavailable(_)) => return Err(error),
                Err(error) => drop(found.insert(token.clone(), Err(error))),
            }
        }
        Ok(found)
    }

    async fn community_by_slug(&self, slug: &str) -> Result<Option<CommunityId>, StoreError> {
        Fake::community_by_slug(self, slug).await
    }

    async fn community_by_key(&self, key: &CommunityId) -> Result<Option<CommunityId>, StoreError> {
        Fake::community_by_key(self, key).await
    }

    async fn apply(&self, batch: &Batch) -> Result<Applied, StoreError> {
        Fake::apply(self, batch).await
    }

    async fn missing_parts(&self, parts: &[BatchKey]) -> Result<HashSet<BatchKey>, StoreError> {
        Fake::missing_parts(self, parts).await
    }

    async fn ledger(&self) -> Result<Option<LedgerProblem>, StoreError> {
        Fake::ledger(self).await
    }

    async fn forget_old_parts(&self, _: DateTime<Utc>) -> Result<u64, StoreError> {
        Fake::forget_old_parts(self).await
    }

    async fn visitors(&self, users: &[UserId]) -> Result<Vec<VisitorRow>, StoreError> {
        Fake::visitors(self, users).await
    }

    async fn stats(
        &self,
        community: &CommunityId,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<Stats, StoreError> {
        Fake::stats(self, community, from, to).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn lost_connections(&self) -> u64 {
        0
    }

    async fn close(&self) {}
}
