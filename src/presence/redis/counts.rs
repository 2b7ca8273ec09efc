//! Counts, and the communities with users present. Splits the questions by server, so that one that is away or slow
//! costs only its own communities.

use std::collections::HashMap;

use ::redis::RedisResult;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::{self, FuturesUnordered};

use super::node::Node;
use super::{Redis, still_in_use};
use crate::ids::CommunityId;
use crate::presence::moment::Moment;
use crate::presence::shared_settings::longest_window;
use crate::presence::{Answer, Count, Counts, PresenceError};

/// Communities per round trip when counting.
const COUNT_COMMUNITIES: usize = 500;

impl Redis {
    /// Asks each server separately, all at once.
    pub(super) fn count_all(&self, communities: Vec<CommunityId>) -> Counts<'_> {
        let mut by_domain: HashMap<usize, (u16, Vec<CommunityId>)> = HashMap::new();
        for community in communities {
            let partition = self.keys.partition(&community);
            let domain = by_domain.entry(self.domains.index(partition));
            domain.or_insert((partition, Vec::new())).1.push(community);
        }
        let mut answers = FuturesUnordered::new();
        for (partition, communities) in by_domain.values() {
            let questions = communities.chunks(COUNT_COMMUNITIES);
            answers.extend(questions.map(|some| self.count(*partition, some.to_vec())));
        }
        answers.flat_map(stream::iter).boxed()
    }

    /// Stale if a partition does not answer, an error if none does.
    pub(super) async fn all_communities(
        &self,
        limit: usize,
    ) -> Result<Answer<Vec<CommunityId>>, PresenceError> {
        let partitions = self.keys.partitions();
        let asked = partitions.map(|partition| self.communities_of_partition(partition, limit));
        let (answers, mut failures): (Vec<_>, Vec<_>) =
            join_all(asked).await.into_iter().partition(Result::is_ok);
        if answers.is_empty()
            && let Some(Err(error)) = failures.pop()
        {
            return Err(error);
        }
        let communities = answers.into_iter().flatten().flatten();
        Ok(Answer {
            value: communities.take(limit).map(CommunityId::new).collect(),
            stale: !failures.is_empty(),
        })
    }

    /// Counts of communities of the server that keeps a partition, each with the same error if it does not answer.
    async fn count(
        &self,
        partition: u16,
        communities: Vec<CommunityId>,
    ) -> Vec<(CommunityId, Result<Answer<Count>, PresenceError>)> {
        let ask = |redis: Node| self.ask_for_counts(redis, partition, &communities);
        let called = Moment::now();
        let outcome = self.servers.call(partition, ask).await;
        let heard = |(now, counts)| Ok((self.heard(partition, now, called)?, counts));
        let answers = match outcome.and_then(heard) {
            Ok((as_of, counts)) => {
                let counts = counts.into_iter().map(|(seq, current)| Count {
                    current,
                    seq: seq.unwrap_or(0),
                    as_of,
                });
                counts.map(|count| Ok(Answer::current(count))).collect()
            }
            Err(error) => vec![Err(error); communities.len()],
        };
        communities.into_iter().zip(answers).collect()
    }

    /// Two round trips: the server's time and the window, then all counts. Each sequence number is read before its
    /// count: a count that changes in between is then newer than its number says, never older.
    async fn ask_for_counts(
        &self,
        mut redis: Node,
        partition: u16,
        communities: &[CommunityId],
    ) -> RedisResult<(i64, Vec<(Option<u64>, u64)>)> {
        let (now, in_use) = self.ask_what_is_in_use(&mut redis, partition).await?;
        let longest = longest_window(&still_in_use(now, in_use));
        self.read_window(longest);
        let window = self.window.by(longest);
        let mut pipeline = ::redis::pipe();
        for community in communities {
            let keys = self.keys.community(community);
            pipeline.hget(keys.state, "seq");
            pipeline.zcount(keys.seen, format!("({}", now - window), "+inf");
        }
        Ok((now, pipeline.query_async(&mut redis).await?))
    }

    /// A community is in the due set from its first visitor until the sweep after its last one left.
    async fn communities_of_partition(
        &self,
        partition: u16,
        limit: usize,
    ) -> Result<Vec<String>, PresenceError> {
        let Some(last) = limit.checked_sub(1) else {
            return Ok(Vec::new());
        };
        let mut range = ::redis::cmd("ZRANGE");
        range.arg(self.keys.due(partition)).arg(0).arg(last);
        let range = &range;
        let ask = |mut redis: Node| async move { range.query_async(&mut redis).await };
        self.servers.call(partition, ask).await
    }
}
