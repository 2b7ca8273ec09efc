//! Touches: one call of the script for some users of one community.

use ::redis::RedisResult;

use super::node::Node;
use super::{CLOCK_TOLERANCE, Redis, TOLD_USERS, ask_the_time};
use crate::ids::CommunityId;
use crate::presence::keys::is_keyable;
use crate::presence::moment::Moment;
use crate::presence::{Count, PresenceError, REMEMBERED, Touch, millis};

/// How often a touch is sent before Redis' clock counts as unusable: once more after it was found to have been
/// set.
const CLOCK_TRIES: usize = 2;

/// Answer of the touch script: count, sequence number, now.
type TouchReply = (Option<u64>, u64, i64);

impl Redis {
    /// As [`crate::presence::Presence::touch`].
    pub(super) async fn touch_all(
        &self,
        community: &CommunityId,
        touches: &[Touch],
    ) -> Result<Count, PresenceError> {
        if !is_keyable(community) {
            return Err(PresenceError::Community);
        }
        let called = Moment::now();
        let (most, last) = touches.split_at(touches.len().saturating_sub(1) / TOLD_USERS * TOLD_USERS);
        for touches in most.chunks(TOLD_USERS) {
            self.touch_some(community, touches, called).await?;
        }
        self.touch_some(community, last, called).await
    }

    /// Touches of one call of the script; their ages are as of `called`.
    async fn touch_some(
        &self,
        community: &CommunityId,
        touches: &[Touch],
        called: Moment,
    ) -> Result<Count, PresenceError> {
        let partition = self.keys.partition(community);
        for _ in 0..CLOCK_TRIES {
            let sent = Moment::now();
            let (current, seq, now) = self
                .servers
                .call(partition, |redis| {
                    self.send_touches(redis, partition, community, touches, called)
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
        community: &CommunityId,
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
        let keys = self.keys.community(community);
        let mut call = self.touch.prepare_invoke();
        call.key(keys.seen).key(keys.state).key(keys.due);
        call.key(self.keys.settings(partition));
        call.arg(self.window.at_least()).arg(millis(REMEMBERED));
        call.arg(self.keys.changes()).arg(community.as_str());
        call.arg(now).arg(2 * millis(self.response_timeout));
        call.arg(self.settings.to_string());
        let waited = sending.since(called);
        for touch in touches {
            call.arg(touch.user.as_str())
                .arg(millis(touch.age.saturating_add(waited)));
        }
        call.invoke_async(&mut redis).await
    }
}
