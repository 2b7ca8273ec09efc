//! Touches: a call of the script for users of the site, or of communities of one partition and of what is finer in those.

use std::collections::{BTreeMap, VecDeque};

use ::redis::{RedisResult, ScriptInvocation};

use super::node::Node;
use super::{CLOCK_TOLERANCE, Redis, TOLD_USERS, ask_the_time};
use crate::ids::Finer;
use crate::presence::keys::{encode, is_kept};
use crate::presence::moment::Moment;
use crate::presence::{Count, PresenceError, REMEMBERED, Scope, Touch, TouchedGroup, millis};

/// How often a touch is sent before Redis' clock counts as unusable: once more after it was found to have been
/// set.
const CLOCK_TRIES: usize = 2;
/// Groups, and touches of finer scopes, per call of the script: each of these may be of another scope, which costs what a
/// community does.
const SCOPES: usize = 100;

/// Touches of one group that go in one call.
#[derive(Clone, Copy)]
struct Part<'a> {
    /// Place of the group among those that were asked for.
    place: usize,
    scope: &'a Scope,
    touches: &'a [Touch],
}

impl Redis {
    /// As [`crate::presence::Presence::touch`].
    pub(super) async fn touch_one(&self, scope: &Scope, touches: &[Touch]) -> Result<Count, PresenceError> {
        let mut outcome = self.touch_all(&[(scope, touches)]).await;
        outcome
            .pop()
            .unwrap_or_else(|| Err(PresenceError::no_count(scope)))
    }

    /// As [`crate::presence::Presence::touch_together`].
    pub(super) async fn touch_groups(&self, groups: &[TouchedGroup]) -> Vec<Result<Count, PresenceError>> {
        let groups: Vec<_> = groups
            .iter()
            .map(|group| (&group.scope, &*group.touches))
            .collect();
        self.touch_all(&groups).await
    }

    /// Groups of one partition; the outcome of each.
    async fn touch_all(&self, groups: &[(&Scope, &[Touch])]) -> Vec<Result<Count, PresenceError>> {
        let called = Moment::now();
        let mut outcomes: Vec<_> = groups
            .iter()
            .map(|(scope, _)| {
                if is_kept(scope) {
                    Err(PresenceError::no_count(scope))
                } else {
                    Err(PresenceError::Community)
                }
            })
            .collect();
        let mut failed = vec![false; groups.len()];
        let mut calls: VecDeque<_> = calls(groups).into();
        // Why nothing more is asked: another call would wait as long, and in vain.
        let mut away: Option<PresenceError> = None;
        while let Some(mut call) = calls.pop_front() {
            call.retain(|part| !failed[part.place]);
            let answer = match &away {
                Some(error) => Err(error.clone()),
                None => self.call(&call, called).await,
            };
            match answer {
                Ok(counts) => {
                    for (part, count) in call.iter().zip(counts) {
                        outcomes[part.place] = Ok(count);
                    }
                }
                // Redis refuses a call if a key of one of them is not what it should be: each by itself.
                Err(error) if call.len() > 1 && !is_away(&error) => {
                    for part in call.into_iter().rev() {
                        calls.push_front(vec![part]);
                    }
                }
                Err(error) => {
                    for part in &call {
                        failed[part.place] = true;
                        outcomes[part.place] = Err(error.clone());
                    }
                    away = away.or_else(|| is_away(&error).then_some(error));
                }
            }
        }
        outcomes
    }

    /// One call of the script; ages are as of `called`.
    async fn call(&self, parts: &[Part<'_>], called: Moment) -> Result<Vec<Count>, PresenceError> {
        let Some(first) = parts.first() else {
            return Ok(Vec::new());
        };
        let partition = self.keys.partition_of(first.scope);
        for _ in 0..CLOCK_TRIES {
            let sent = Moment::now();
            let reply: Vec<i64> = self
                .servers
                .call(partition, |redis| {
                    self.send_touches(redis, partition, parts, called)
                })
                .await?;
            let (now, counts) = reply.split_first().ok_or_else(no_answer)?;
            let as_of = self.heard(partition, *now, sent)?;
            if counts.len() == 2 * parts.len() {
                let whole = |number: &i64| u64::try_from(*number).map_err(|_| no_answer());
                let count = |pair: &[i64]| {
                    let (current, seq) = (whole(&pair[0])?, whole(&pair[1])?);
                    Ok(Count { current, seq, as_of })
                };
                return counts.chunks_exact(2).map(count).collect();
            }
            // Redis' clock was set, or it is another server: this answer has the current time.
        }
        Err(PresenceError::Unexpected(
            "the clock of Redis is set repeatedly".into(),
        ))
    }

    /// Sends touches with the time of sending, and how long Redis may take them: while the caller waits, and as long
    /// again, because the answer that gave the time may itself have been under way that long.
    async fn send_touches(
        &self,
        mut redis: Node,
        partition: u16,
        parts: &[Part<'_>],
        called: Moment,
    ) -> RedisResult<Vec<i64>> {
        let clock = &self.domain(partition).clock;
        let mut sending = Moment::now();
        let now = if let Some(now) = clock.now(sending) {
            now
        } else {
            let now = ask_the_time(&mut redis).await?;
            let answered = Moment::now();
            clock.note_answer(now, sending, answered, CLOCK_TOLERANCE);
            sending = answered;
            now
        };
        let mut call = self.touch.prepare_invoke();
        let Some(first) = parts.first() else {
            return Ok(Vec::new());
        };
        call.key(self.keys.scope(&first.scope.group()).due);
        call.key(self.keys.settings(partition));
        if parts.iter().any(|part| part.finer().next().is_some()) {
            call.key(self.keys.finer(partition));
        }
        call.arg(self.window.at_least()).arg(millis(REMEMBERED));
        call.arg(self.keys.changes());
        call.arg(now).arg(2 * millis(self.response_timeout));
        call.arg(self.settings().to_string());
        let waited = sending.since(called);
        let prefixes = [
            self.keys.seen_prefix(partition),
            self.keys.state_prefix(partition),
        ];
        for part in parts {
            part.add(&mut call, &prefixes, |touch| {
                millis(touch.age.saturating_add(waited))
            });
        }
        call.invoke_async(&mut redis).await
    }
}

impl<'a> Part<'a> {
    /// What is finer that its touches are in, once for each touch.
    fn finer(&self) -> impl Iterator<Item = &'a Finer> + use<'a> {
        let scope = self.scope;
        self.touches.iter().filter_map(move |touch| within(scope, touch))
    }

    /// Adds its keys, which begin with the `prefixes` of the partition, and its arguments.
    fn add(&self, call: &mut ScriptInvocation<'_>, prefixes: &[String; 2], age: impl Fn(&Touch) -> i64) {
        let group = self.scope.group();
        let keys = |call: &mut ScriptInvocation<'_>, name: &str| {
            for prefix in prefixes {
                call.key([prefix.as_str(), name].concat());
            }
        };
        let name = encode(&group);
        keys(call, &name);
        let mut numbers: BTreeMap<&Finer, usize> = BTreeMap::new();
        let mut finer = Vec::new();
        if let Some(community) = group.community() {
            for its in self.finer() {
                let next = numbers.len() + 1;
                numbers.entry(its).or_insert_with(|| {
                    finer.push(Scope::Finer(community.clone(), its.clone()));
                    next
                });
            }
        }
        call.arg(&*name).arg(finer.len());
        for scope in &finer {
            let name = encode(scope);
            keys(call, &name);
            call.arg(&*name);
        }
        call.arg(self.touches.len());
        for touch in self.touches {
            let number = within(self.scope, touch).and_then(|finer| numbers.get(finer));
            call.arg(touch.user.as_str())
                .arg(age(touch))
                .arg(number.copied().unwrap_or_default());
        }
    }
}

/// What is finer that a touch of a scope is in.
fn within<'a>(scope: &'a Scope, touch: &'a Touch) -> Option<&'a Finer> {
    touch.finer.as_ref().or(scope.finer())
}

/// The calls that touch these groups: the site and communities are in different ones, as they are due by different keys. What
/// presence does not keep is left out.
fn calls<'a>(groups: &[(&'a Scope, &'a [Touch])]) -> Vec<Vec<Part<'a>>> {
    let mut calls: Vec<Vec<Part<'a>>> = Vec::new();
    // What is left in the last of them, and whether it is the site's.
    let (mut users, mut scopes, mut is_sites) = (0, 0, false);
    for (place, (scope, touches)) in groups.iter().enumerate() {
        if !is_kept(scope) {
            continue;
        }
        let mut rest = *touches;
        loop {
            let some;
            (some, rest) = rest.split_at(touches_of_one_call(rest));
            let takes = (
                some.len(),
                1 + some.iter().filter(|touch| touch.finer.is_some()).count(),
            );
            let is_site = **scope == Scope::Site;
            if calls.is_empty() || takes.0 > users || takes.1 > scopes || is_site != is_sites {
                calls.push(Vec::new());
                (users, scopes, is_sites) = (TOLD_USERS, SCOPES + 1, is_site);
            }
            (users, scopes) = (users - takes.0, scopes - takes.1);
            if let Some(call) = calls.last_mut() {
                call.push(Part {
                    place,
                    scope,
                    touches: some,
                });
            }
            if rest.is_empty() {
                break;
            }
        }
    }
    calls
}

/// How many of these go together.
fn touches_of_one_call(touches: &[Touch]) -> usize {
    let finer = touches
        .iter()
        .enumerate()
        .filter(|(_, touch)| touch.finer.is_some());
    let (end, _) = { finer }.nth(SCOPES).unzip();
    end.unwrap_or(touches.len()).min(TOLD_USERS)
}

/// Whether there was no answer.
fn is_away(error: &PresenceError) -> bool {
    matches!(error, PresenceError::Unavailable(cause) if cause.is_io_error())
}

fn no_answer() -> PresenceError {
    PresenceError::Unexpected("no answer to a touch".into())
}
