//! Touches: one call of the script for some users of the site or of one community, and of what is finer there.

use std::collections::BTreeMap;

use ::redis::RedisResult;

use super::node::Node;
use super::{CLOCK_TOLERANCE, Redis, TOLD_USERS, ask_the_time};
use crate::ids::Finer;
use crate::presence::keys::{encode, is_kept};
use crate::presence::moment::Moment;
use crate::presence::{Count, PresenceError, REMEMBERED, Scope, Touch, millis};

/// How often a touch is sent before Redis' clock counts as unusable: once more after it was found to have been
/// set.
const CLOCK_TRIES: usize = 2;
/// Touches of finer scopes per call of the script: each may be of another scope, which costs what a community does.
const FINER_TOUCHES: usize = 100;

/// Answer of the touch script: count, sequence number, now.
type TouchReply = (Option<u64>, u64, i64);

impl Redis {
    /// As [`crate::presence::Presence::touch`].
    pub(super) async fn touch_all(&self, scope: &Scope, touches: &[Touch]) -> Result<Count, PresenceError> {
        if !is_kept(scope) {
            return Err(PresenceError::Community);
        }
        let called = Moment::now();
        let mut rest = touches;
        loop {
            let some;
            (some, rest) = rest.split_at(touches_of_one_call(rest));
            let count = self.touch_some(scope, some, called).await?;
            if rest.is_empty() {
                return Ok(count);
            }
        }
    }

    /// Touches of one call of the script; their ages are as of `called`.
    async fn touch_some(
        &self,
        scope: &Scope,
        touches: &[Touch],
        called: Moment,
    ) -> Result<Count, PresenceError> {
        let partition = self.keys.partition_of(scope);
        for _ in 0..CLOCK_TRIES {
            let sent = Moment::now();
            let (current, seq, now) = self
                .servers
                .call(partition, |redis| {
                    self.send_touches(redis, partition, scope, touches, called)
                })
                .await?;
            let as_of = self.heard(partition, now, sent)?;
            if let Some(current) = current {
                return Ok(Count { current, seq, as_of });
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
        scope: &Scope,
        touches: &[Touch],
        called: Moment,
    ) -> RedisResult<TouchReply> {
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
        let group = scope.group();
        let keys = self.keys.scope(&group);
        let mut call = self.touch.prepare_invoke();
        call.key(keys.seen).key(keys.state).key(keys.due);
        call.key(self.keys.settings(partition));
        call.arg(self.window.at_least()).arg(millis(REMEMBERED));
        call.arg(self.keys.changes()).arg(&*encode(&group));
        call.arg(now).arg(2 * millis(self.response_timeout));
        call.arg(self.settings().to_string());
        let mut numbers: BTreeMap<&Finer, usize> = BTreeMap::new();
        if let Some(community) = group.community() {
            for finer in touches.iter().filter_map(|touch| within(scope, touch)) {
                let number = numbers.len() + 1;
                if number == 1 {
                    call.key(self.keys.finer(partition));
                }
                numbers.entry(finer).or_insert_with(|| {
                    let scope = Scope::Finer(community.clone(), finer.clone());
                    let keys = self.keys.scope(&scope);
                    call.key(keys.seen).key(keys.state);
                    call.arg(&*encode(&scope));
                    number
                });
            }
        }
        let waited = sending.since(called);
        for touch in touches {
            let number = within(scope, touch).and_then(|finer| numbers.get(finer));
            call.arg(touch.user.as_str())
                .arg(millis(touch.age.saturating_add(waited)))
                .arg(number.copied().unwrap_or_default());
        }
        call.invoke_async(&mut redis).await
    }
}

/// What is finer that a touch of a scope is in.
fn within<'a>(scope: &'a Scope, touch: &'a Touch) -> Option<&'a Finer> {
    touch.finer.as_ref().or(scope.finer())
}

/// How many of these go together.
fn touches_of_one_call(touches: &[Touch]) -> usize {
    let finer = touches
        .iter()
        .enumerate()
        .filter(|(_, touch)| touch.finer.is_some());
    let (end, _) = { finer }.nth(FINER_TOUCHES).unzip();
    end.unwrap_or(touches.len()).min(TOLD_USERS)
}
