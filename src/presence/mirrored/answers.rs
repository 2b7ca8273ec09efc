//! Which of the two answers a read: the store, in time, or memory, where that makes up for it.

use std::collections::BTreeSet;
use std::io;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, timeout, timeout_at};

use super::Mirror;
use crate::presence::failure_domain::FailureDomain;
use crate::presence::moment::Moment;
use crate::presence::{Answer, Count, CountStream, PresenceError, Scope, Seen};

impl Mirror {
    /// The store's counts; an error at once for scopes whose touches it may lack, and in time for those that it
    /// has not answered.
    pub(super) fn store_counts(&self, scopes: Vec<Scope>) -> CountStream<'_> {
        let (whole, lacking): (Vec<_>, Vec<_>) = scopes
            .into_iter()
            .partition(|scope| self.is_whole(self.domains.of(scope)));
        let lacking = lacking.into_iter().map(|scope| (scope, Err(lacks_touches())));
        let deadline = Instant::now() + self.patience;
        let unanswered: BTreeSet<_> = whole.iter().cloned().collect();
        let answers = in_time(self.store.counts(whole), unanswered, deadline);
        stream::iter(lacking).chain(answers).boxed()
    }

    /// The store's answer about one failure domain; `None` where memory must answer: at once if the store may lack
    /// touches.
    pub(super) async fn ask<T>(
        &self,
        domain: &FailureDomain,
        question: impl Future<Output = Result<T, PresenceError>>,
    ) -> Result<Option<T>, PresenceError> {
        let answer = if self.is_whole(domain) {
            let answer = timeout(self.patience, question).await;
            answer.unwrap_or_else(|_| Err(too_slow()))
        } else {
            Err(lacks_touches())
        };
        self.unless_made_up_for(domain, answer)
    }

    /// The store's answer; `None` where memory makes up for it.
    fn unless_made_up_for<T>(
        &self,
        domain: &FailureDomain,
        answer: Result<T, PresenceError>,
    ) -> Result<Option<T>, PresenceError> {
        match answer {
            // Unless touches were lost meanwhile.
            Ok(answer) if self.is_whole(domain) => Ok(Some(answer)),
            Err(error) if !self.makes_up_for(&error, domain) => Err(error),
            _ => Ok(None),
        }
    }

    /// The store's count, or that in memory.
    pub(super) fn count(
        &self,
        scope: &Scope,
        answer: Result<Answer<Count>, PresenceError>,
    ) -> Result<Answer<Count>, PresenceError> {
        let domain = self.domains.of(scope);
        if let Some(answer) = self.unless_made_up_for(domain, answer)? {
            return Ok(answer);
        }
        let count = self.memory.count(scope);
        Ok(Answer::stale(Count {
            seq: 0,
            as_of: moved(count.as_of, self.shift(domain)),
            ..count
        }))
    }

    /// Whether the store has all remembered users of a failure domain, as far as is known.
    pub(super) fn is_whole(&self, domain: &FailureDomain) -> bool {
        !domain.lacks_touches() || self.memory.members() == 0
    }

    /// Whether memory answers instead of the store, which failed: it is complete enough to be better than no answer
    /// once the store was reached, or a whole window has passed.
    pub(super) fn makes_up_for(&self, error: &PresenceError, domain: &FailureDomain) -> bool {
        matches!(error, PresenceError::Unavailable(_))
            && (domain.clock.now(Moment::now()).is_some() || self.started.elapsed() >= self.window.time())
    }

    /// The store's clock minus memory's: stale answers use the store's time, too (P3), and cursors work across a
    /// switch from one to the other.
    pub(super) fn shift(&self, domain: &FailureDomain) -> TimeDelta {
        let now = domain.clock.now(Moment::now());
        now.map_or(TimeDelta::zero(), |now| {
            TimeDelta::milliseconds(now - self.memory.time().timestamp_millis())
        })
    }
}

/// One answer for each scope: that of the store, or an error if there is none before the deadline.
pub(super) fn in_time(
    answers: CountStream<'_>,
    unanswered: BTreeSet<Scope>,
    deadline: Instant,
) -> CountStream<'_> {
    let asked = (answers.fuse(), unanswered);
    let answers = stream::unfold(asked, move |(mut answers, mut unanswered)| async move {
        let answer = loop {
            match timeout_at(deadline, answers.next()).await {
                Ok(Some(answer)) if unanswered.remove(&answer.0) => break answer,
                // Too late.
                Ok(Some(_)) => {}
                Ok(None) => {
                    let scope = unanswered.pop_first()?;
                    let error = PresenceError::no_count(&scope);
                    break (scope, Err(error));
                }
                Err(_) => break (unanswered.pop_first()?, Err(too_slow())),
            }
        };
        Some((answer, (answers, unanswered)))
    });
    answers.boxed()
}

/// What memory has, by the store's time.
pub(super) fn told(mut seen: Vec<Seen>, shift: TimeDelta) -> Vec<Seen> {
    for seen in &mut seen {
        seen.last_seen = moved(seen.last_seen, shift);
    }
    seen
}

/// Unchanged where the sum is out of range: only made-up cursors are that far off.
pub(super) fn moved(time: DateTime<Utc>, shift: TimeDelta) -> DateTime<Utc> {
    time.checked_add_signed(shift).unwrap_or(time)
}

pub(super) fn too_slow() -> PresenceError {
    unavailable("the presence store took too long to answer")
}

fn lacks_touches() -> PresenceError {
    unavailable("the presence store lacks touches")
}

pub(super) fn unavailable(why: &'static str) -> PresenceError {
    PresenceError::Unavailable(io::Error::new(io::ErrorKind::TimedOut, why).into())
}
