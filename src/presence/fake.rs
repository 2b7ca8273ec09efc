//! Fake presence stores for tests that need only a part of one.

use async_trait::async_trait;

use super::changes::Subscription;
use super::failure_domain::FailureDomains;
use super::grants::{Grant, NotedGrant};
use super::{Answer, Count, CountStream, Presence, PresenceError, Scope, Seen, Sweep, Touch};
use crate::ids::{CommunityId, UserId};

/// The part of a store that a test expects to be used; any other call fails the test. Each fake is a [`Presence`].
#[async_trait]
pub(crate) trait Fake: Send + Sync + 'static {
    async fn touch(&self, _: &Scope, _: &[Touch]) -> Result<Count, PresenceError> {
        unexpected("touch")
    }

    fn counts(&self, _: Vec<Scope>) -> CountStream<'_> {
        unexpected("counts")
    }

    async fn communities(&self, _: usize) -> Result<Answer<Vec<CommunityId>>, PresenceError> {
        unexpected("communities")
    }

    async fn list(&self, _: &Scope, _: Option<&Seen>, _: usize) -> Result<Answer<Vec<Seen>>, PresenceError> {
        unexpected("list")
    }

    async fn present(&self, _: &Scope, _: &[UserId]) -> Result<Answer<Vec<Seen>>, PresenceError> {
        unexpected("present")
    }

    async fn peak_of_the_day(&self) -> Result<Answer<u64>, PresenceError> {
        unexpected("peak_of_the_day")
    }

    async fn sweep(&self) -> Result<Sweep, PresenceError> {
        unexpected("sweep")
    }

    async fn leave_sweeps(&self) {}

    fn shares_grants(&self) -> bool {
        false
    }

    fn losses(&self) -> Option<FailureDomains> {
        None
    }

    async fn note_grants(
        &self,
        _: &CommunityId,
        _: &[Grant],
    ) -> Result<Vec<Option<NotedGrant>>, PresenceError> {
        unexpected("note_grants")
    }

    async fn grant(&self, _: &Scope, _: &UserId) -> Result<Option<NotedGrant>, PresenceError> {
        unexpected("grant")
    }

    async fn ping(&self) -> Result<(), PresenceError> {
        unexpected("ping")
    }

    fn subscribe(&self) -> Subscription {
        unexpected("subscribe")
    }
}

#[track_caller]
fn unexpected<T>(call: &str) -> T {
    panic!("{call} is not expected")
}

#[async_trait]
impl<F: Fake> Presence for F {
    async fn touch(&self, scope: &Scope, touches: &[Touch]) -> Result<Count, PresenceError> {
        Fake::touch(self, scope, touches).await
    }

    fn counts(&self, scopes: Vec<Scope>) -> CountStream<'_> {
        Fake::counts(self, scopes)
    }

    async fn communities(&self, limit: usize) -> Result<Answer<Vec<CommunityId>>, PresenceError> {
        Fake::communities(self, limit).await
    }

    async fn list(
        &self,
        scope: &Scope,
        after: Option<&Seen>,
        limit: usize,
    ) -> Result<Answer<Vec<Seen>>, PresenceError> {
        Fake::list(self, scope, after, limit).await
    }

    async fn present(&self, scope: &Scope, users: &[UserId]) -> Result<Answer<Vec<Seen>>, PresenceError> {
        Fake::present(self, scope, users).await
    }

    async fn peak_of_the_day(&self) -> Result<Answer<u64>, PresenceError> {
        Fake::peak_of_the_day(self).await
    }

    async fn sweep(&self) -> Result<Sweep, PresenceError> {
        Fake::sweep(self).await
    }

    async fn leave_sweeps(&self) {
        Fake::leave_sweeps(self).await;
    }

    fn shares_grants(&self) -> bool {
        Fake::shares_grants(self)
    }

    fn losses(&self) -> Option<FailureDomains> {
        Fake::losses(self)
    }

    async fn note_grants(
        &self,
        community: &CommunityId,
        grants: &[Grant],
    ) -> Result<Vec<Option<NotedGrant>>, PresenceError> {
        Fake::note_grants(self, community, grants).await
    }

    async fn grant(&self, scope: &Scope, user: &UserId) -> Result<Option<NotedGrant>, PresenceError> {
        Fake::grant(self, scope, user).await
    }

    async fn ping(&self) -> Result<(), PresenceError> {
        Fake::ping(self).await
    }

    fn subscribe(&self) -> Subscription {
        Fake::subscribe(self)
    }
}
