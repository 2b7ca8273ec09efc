//! Grants in Redis: which users the app has shown a community and what is finer in it, for all sidecars. One call for some
//! users of one community, and one round trip to ask about one user.

use std::time::Duration;

use super::{Redis, TOLD_USERS, in_millis, invoke};
use crate::ids::{CommunityId, UserId};
use crate::presence::grants::{Grant, NotedGrant, Verdict};
use crate::presence::keys::is_keyable;
use crate::presence::moment::Moment;
use crate::presence::{PresenceError, Scope, millis};

impl Redis {
    /// As [`crate::presence::Presence::note_grants`].
    pub(super) async fn note_all_grants(
        &self,
        community: &CommunityId,
        grants: &[Grant],
    ) -> Result<Vec<Option<NotedGrant>>, PresenceError> {
        if !is_keyable(community) {
            return Ok(vec![None; grants.len()]);
        }
        let partition = self.keys.partition(community);
        let called = Moment::now();
        let mut noted = Vec::with_capacity(grants.len());
        for grants in grants.chunks(TOLD_USERS) {
            let note = async |redis| {
                let sent = Moment::now();
                let waited = sent.since(called);
                let mut call = self.grants.prepare_invoke();
                call.arg(self.domain(partition).clock.now(sent).unwrap_or_default());
                for grant in grants {
                    let verdict = match grant.verdict {
                        _ if grant.only_prolongs => 0,
                        Verdict::Shown => 1,
                        Verdict::Refused => -1,
                    };
                    let scope = Scope::of(community.clone(), grant.finer.clone());
                    call.key(self.keys.granted(&scope, &grant.user)).arg(verdict);
                    call.arg(millis(grant.age.saturating_add(waited)));
                    call.arg(millis(grant.left.saturating_sub(waited)));
                }
                invoke(&call, redis).await
            };
            let stands: Vec<String> = self.servers.call(partition, note).await?;
            let mut stands = stands.iter();
            let now = stands.next().and_then(|now| now.parse().ok()).unwrap_or_default();
            noted.extend(stands.map(|noted| read(noted, now)));
        }
        Ok(noted)
    }

    /// As [`crate::presence::Presence::grant`].
    pub(super) async fn ask_for_grant(
        &self,
        scope: &Scope,
        user: &UserId,
    ) -> Result<Option<NotedGrant>, PresenceError> {
        if !scope.community().is_some_and(is_keyable) {
            return Ok(None);
        }
        let ask = |mut redis| async move {
            let mut pipeline = ::redis::pipe();
            pipeline.cmd("TIME");
            pipeline.cmd("GET").arg(self.keys.granted(scope, user));
            pipeline.query_async(&mut redis).await
        };
        let partition = self.keys.partition_of(scope);
        let (time, noted): ((i64, i64), Option<String>) = self.servers.call(partition, ask).await?;
        Ok(noted.and_then(|noted| read(&noted, in_millis(time))))
    }
}

/// Reads what the script has noted; none of anything else, such as a value of a later version.
fn read(noted: &str, now: i64) -> Option<NotedGrant> {
    let (answered, ends) = noted.split_once(' ')?;
    let (answered, ends): (i64, i64) = (answered.parse().ok()?, ends.parse().ok()?);
    let time = |millis: i64| Duration::from_millis(u64::try_from(millis).unwrap_or_default());
    Some(NotedGrant {
        verdict: if answered < 0 {
            Verdict::Refused
        } else {
            Verdict::Shown
        },
        age: time(now.saturating_sub(answered.saturating_abs())),
        left: time(ends.saturating_sub(now)),
    })
}
