//! Counts, and the communities with users present. Splits the questions by server, so that one that is away or slow
//! costs only its own scopes.

use std::collections::HashMap;

use ::redis::RedisResult;
use chrono::Utc;
use futures_util::future::join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::node::Node;
use super::{CONCURRENCY, Redis, still_in_use, time};
use crate::ids::CommunityId;
use crate::presence::keys::is_kept;
use crate::presence::moment::Moment;
use crate::presence::shared_settings::longest_window;
use crate::presence::{Answer, Count, CountStream, PresenceError, Scope};

/// Scopes per round trip when counting.
const COUNTED_SCOPES: usize = 500;

impl Redis {
    /// Asks each server separately, all at once; each a few things at a time. Scopes that presence does not keep
    /// are empty.
    pub(super) fn count_all(&self, scopes: Vec<Scope>) -> CountStream<'_> {
        let mut by_domain: HashMap<usize, (u16, Vec<Scope>)> = HashMap::new();
        let (kept, not_kept): (Vec<_>, Vec<_>) = scopes.into_iter().partition(is_kept);
        for scope in kept {
            let partition = self.keys.partition_of(&scope);
            let domain = by_domain.entry(self.domains.index(partition));
            domain.or_insert((partition, Vec::new())).1.push(scope);
        }
        let empty = not_kept.into_iter().map(|scope| {
            let count = Answer::current(self.nobody(&scope));
            (scope, Ok(count))
        });
        let answers = by_domain.into_values().map(|(partition, scopes)| {
            let questions: Vec<_> = scopes.chunks(COUNTED_SCOPES).map(<[_]>::to_vec).collect();
            let answers = stream::iter(questions).map(move |some| self.count(partition, some));
            answers
                .buffer_unordered(CONCURRENCY)
                .flat_map(stream::iter)
                .boxed()
        });
        stream::iter(empty).chain(stream::select_all(answers)).boxed()
    }

    /// The count of a scope that presence does not keep.
    fn nobody(&self, scope: &Scope) -> Count {
        let clock = &self.domains.of(scope).clock;
        let as_of = clock.now(Moment::now()).and_then(|now| time(now).ok());
        Count {
            current: 0,
            seq: 0,
            as_of: as_of.unwrap_or_else(Utc::now),
        }
    }

    /// Stale if a server is away, an error if all are.
    pub(super) async fn all_communities(
        &self,
        limit: usize,
    ) -> Result<Answer<Vec<CommunityId>>, PresenceError> {
        let domains = self.domains.all().enumerate();
        let asked = domains.map(|(domain, _)| self.communities_of_domain(domain, limit));
        let (mut communities, mut failures, mut answered) = (Vec::new(), Vec::new(), false);
        for answer in join_all(asked).await {
            match answer {
                Ok(mut answer) => {
                    answered = true;
                    communities.append(&mut answer.value);
                }
                Err(error @ PresenceError::Unavailable(_)) => failures.push(error),
                Err(error) => return Err(error),
            }
        }
        if !answered && let Some(error) = failures.pop() {
            return Err(error);
        }
        communities.truncate(limit);
        Ok(Answer {
            value: communities,
            stale: !failures.is_empty(),
        })
    }

    /// An error if a partition does not answer.
    pub(super) async fn communities_of_domain(
        &self,
        domain: usize,
        limit: usize,
    ) -> Result<Answer<Vec<CommunityId>>, PresenceError> {
        let partitions = self.keys.partitions();
        let partitions = partitions.filter(|partition| self.domains.index(*partition) == domain);
        let told: Vec<Vec<String>> = stream::iter(partitions)
            .map(|partition| self.communities_of_partition(partition, limit))
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await?;
        let communities = told.into_iter().flatten().take(limit).map(CommunityId::new);
        Ok(Answer::current(communities.collect()))
    }

    /// Counts of scopes of the server that keeps a partition, each with the same error if it does not answer.
    async fn count(
        &self,
        partition: u16,
        scopes: Vec<Scope>,
    ) -> Vec<(Scope, Result<Answer<Count>, PresenceError>)> {
        let ask = |redis: Node| self.ask_for_counts(redis, partition, &scopes);
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
            Err(error) => vec![Err(error); scopes.len()],
        };
        scopes.into_iter().zip(answers).collect()
    }

    /// Two round trips: the server's time and the window, then all counts. Each sequence number is read before its
    /// count: a count that changes in between is then newer than its number says, never older.
    async fn ask_for_counts(
        &self,
        mut redis: Node,
        partition: u16,
        scopes: &[Scope],
    ) -> RedisResult<(i64, Vec<(Option<u64>, u64)>)> {
        let (now, in_use) = self.ask_what_is_in_use(&mut redis, partition).await?;
        let longest = longest_window(&still_in_use(now, in_use));
        self.read_window(longest);
        let window = self.window.by(longest);
        let mut pipeline = ::redis::pipe();
        for scope in scopes {
            let keys = self.keys.scope(scope);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::*;
    use crate::config;
    use crate::ids::SiteIdentity;
    use crate::presence::{Presence as _, Window};
    use crate::status::Status;
    use crate::tasks::Tasks;

    #[tokio::test]
    async fn communities_that_presence_does_not_keep_are_empty_without_asking_redis() {
        // Never answers.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let config = config::Redis {
            url: Some(config::Secret::new(&url)),
            ..config::Redis::default()
        };
        let tasks = Tasks::on_current_runtime();
        let window = Window::new(Duration::from_secs(300));
        let redis = Redis::open(
            &config,
            window,
            SiteIdentity::default(),
            &Status::default(),
            Arc::default(),
            &tasks,
        )
        .unwrap();
        let asked = ["".into(), "x".repeat(256).as_str().into()];
        let counts = redis.all_counts(&asked).await.unwrap();
        assert!(!counts.stale);
        for count in counts.value {
            assert_eq!((count.current, count.seq), (0, 0));
        }
        assert!(redis.all_counts(&["42".into()]).await.is_err());
    }
}
