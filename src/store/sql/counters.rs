//! The counters on a SQL database.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::SqlStore;
use crate::config::CommunityKey;
use crate::ids::CommunityId;
use crate::store::StoreError;
use crate::store::counters::{
    Comparison, CounterComparisons, CounterStore, Folded, Lease, Omission, PresentComparison, Published,
    Totals,
};
use crate::store::operations::{
    Backend, Compare, ComparePresent, FindCommunity, Fold, ForgetAbsent, ForgetOmission, HasViews,
    IsLeaseHeld, LastPass, NoColumns, NoteChecked, NotePass, NotePending, Pending, Publish, ReadKeys,
    Recount, ReleaseLease, ShownPresent, TakeLease, TakeOmissions, Unchecked, Uncounted, no_columns,
};

#[async_trait]
impl<B: Backend> CounterStore for SqlStore<B> {
    async fn faults(&self) -> Result<Vec<String>, StoreError> {
        let found = self.connections.inspect(&[], None).await?;
        Ok(found.faults_of_counters())
    }

    async fn take_lease(&self, holder: Uuid, ttl: Duration) -> Result<Option<Lease>, StoreError> {
        let context = self.counter_context();
        let taken = self.connections.run(&TakeLease { context, holder, ttl }).await?;
        taken.map_err(|NoColumns| StoreError::from(no_columns()))
    }

    async fn release_lease(&self, holder: Uuid) -> Result<(), StoreError> {
        self.connections.run(&ReleaseLease(holder)).await
    }

    async fn fold(&self, holder: Uuid) -> Result<Option<Folded>, StoreError> {
        let context = self.counter_context();
        self.connections.run(&Fold { context, holder }).await
    }

    async fn uncounted(&self, postponed: &[CommunityId], limit: i64) -> Result<Vec<CommunityId>, StoreError> {
        self.connections.run(&Uncounted { postponed, limit }).await
    }

    async fn is_lease_held(&self) -> Result<bool, StoreError> {
        self.connections.run(&IsLeaseHeld).await
    }

    async fn shown_present(&self, limit: i64) -> Result<Vec<(CommunityId, i64)>, StoreError> {
        self.connections.run(&ShownPresent(limit)).await
    }

    async fn pending(&self, after: Option<&CommunityId>, limit: i64) -> Result<Vec<CommunityId>, StoreError> {
        self.connections.run(&Pending { after, limit }).await
    }

    async fn publish(
        &self,
        holder: Uuid,
        communities: &[(CommunityId, Option<i64>)],
    ) -> Result<Option<Published>, StoreError> {
        let context = self.counter_context();
        self.connections
            .run(&Publish {
                context,
                holder,
                communities,
            })
            .await
    }

    async fn find(&self, named: &str, key: CommunityKey) -> Result<Option<CommunityId>, StoreError> {
        let kind = self.connections.run(&ReadKeys).await?.community;
        let id = kind.canonical(named).map(|key| CommunityId::from(&*key));
        let by_key = async || match &id {
            Some(id) => self.connections.run(&FindCommunity::ByKey(id)).await,
            None => Ok(None),
        };
        if key != CommunityKey::Slug
            && let Some(found) = by_key().await?
        {
            return Ok(Some(found));
        }
        let by_slug = self.connections.run(&FindCommunity::BySlug(named)).await?;
        match by_slug {
            None if key == CommunityKey::Slug => by_key().await,
            found => Ok(found),
        }
    }

    async fn disconnect(&self) {
        self.connections.close().await;
    }
}

#[async_trait]
impl<B: Backend> CounterComparisons for SqlStore<B> {
    async fn recount(&self, community: &CommunityId) -> Result<Totals, StoreError> {
        let context = self.counter_context();
        self.connections.run(&Recount { context, community }).await
    }

    async fn compare(&self, community: &CommunityId) -> Result<Comparison, StoreError> {
        let context = self.counter_context();
        self.connections.run(&Compare { context, community }).await
    }

    async fn compare_present(
        &self,
        community: &CommunityId,
    ) -> Result<Option<PresentComparison>, StoreError> {
        self.connections.run(&ComparePresent(community)).await
    }

    async fn note_pending(&self, community: &CommunityId) -> Result<bool, StoreError> {
        self.connections.run(&NotePending(community)).await
    }

    async fn note_checked(&self, community: &CommunityId) -> Result<(), StoreError> {
        self.connections.run(&NoteChecked(community)).await
    }

    async fn unchecked(
        &self,
        after: Option<&CommunityId>,
        since: DateTime<Utc>,
        limit: i64,
    ) -> Result<(Vec<CommunityId>, Option<CommunityId>), StoreError> {
        self.connections.run(&Unchecked { after, since, limit }).await
    }

    async fn forget_absent(&self) -> Result<u64, StoreError> {
        let mut communities = 0;
        loop {
            let forgotten = self
                .connections
                .run(&ForgetAbsent(self.counter_context()))
                .await?;
            communities += forgotten.communities;
            if forgotten.rows == 0 {
                return Ok(communities);
            }
        }
    }

    async fn last_pass(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.connections.run(&LastPass(self.counter_context())).await
    }

    async fn note_pass(&self) -> Result<(), StoreError> {
        self.connections.run(&NotePass).await
    }

    async fn omission(&self) -> Result<Option<Omission>, StoreError> {
        loop {
            let context = self.counter_context();
            match self.connections.run(&TakeOmissions(context)).await? {
                Some(taken) if taken.is_part => {}
                taken => return Ok(taken.map(|taken| taken.omission)),
            }
        }
    }

    async fn has_views(&self, community: &CommunityId, since: DateTime<Utc>) -> Result<bool, StoreError> {
        let context = self.counter_context();
        self.connections
            .run(&HasViews {
                context,
                community,
                since,
            })
            .await
    }

    async fn forget_omission(&self, omission: Omission) -> Result<(), StoreError> {
        self.connections.run(&ForgetOmission(omission)).await
    }
}
