//! Who of some users is present, and the peak of the day.

use ::redis::RedisResult;

use super::node::Node;
use super::{Redis, in_millis, still_in_use, time};
use crate::ids::UserId;
use crate::presence::keys::is_kept;
use crate::presence::shared_settings::longest_window;
use crate::presence::{PresenceError, Scope, Seen};

/// A day, in milliseconds.
const DAY: i64 = 24 * 60 * 60 * 1_000;

impl Redis {
    /// As [`crate::presence::Presence::present`]: two round trips, the server's time and the window, then all users.
    pub(super) async fn ask_who_is_present(
        &self,
        scope: &Scope,
        users: &[UserId],
    ) -> Result<Vec<Seen>, PresenceError> {
        if users.is_empty() || !is_kept(scope) {
            return Ok(Vec::new());
        }
        let partition = self.keys.partition_of(scope);
        let ask = async |mut redis: Node| -> RedisResult<(i64, Vec<Option<i64>>)> {
            let (now, in_use) = self.ask_what_is_in_use(&mut redis, partition).await?;
            let longest = longest_window(&still_in_use(now, in_use));
            self.read_window(longest);
            let mut scores = ::redis::cmd("ZMSCORE");
            scores.arg(self.keys.scope(scope).seen);
            for user in users {
                scores.arg(user.as_str());
            }
            Ok((
                now - self.window.by(longest),
                scores.query_async(&mut redis).await?,
            ))
        };
        let (expired, scores) = self.servers.call(partition, ask).await?;
        let present = users.iter().zip(scores).filter_map(|(user, score)| {
            let last_seen = score.filter(|score| *score > expired)?;
            Some(time(last_seen).map(|last_seen| Seen {
                user: user.clone(),
                last_seen,
            }))
        });
        present.collect()
    }

    /// As [`crate::presence::Presence::peak_of_the_day`]. The count that was published last stood when the day began,
    /// if nothing was noted since.
    pub(super) async fn ask_for_the_peak(&self) -> Result<u64, PresenceError> {
        type Noted = (Option<i64>, Option<u64>, Option<u64>);
        let partition = self.keys.partition_of(&Scope::Site);
        let ask = async |mut redis: Node| -> RedisResult<((i64, i64), Noted)> {
            let mut pipeline = ::redis::pipe();
            pipeline.cmd("TIME");
            let noted = pipeline.cmd("HMGET").arg(self.keys.scope(&Scope::Site).state);
            noted.arg("day").arg("peak").arg("count");
            pipeline.query_async(&mut redis).await
        };
        let (now, (day, peak, count)) = self.servers.call(partition, ask).await?;
        let is_of_today = day == Some(in_millis(now).div_euclid(DAY));
        Ok(peak.filter(|_| is_of_today).or(count).unwrap_or_default())
    }
}
