//! Probes of the subscription: when to publish one, and when its silence means that the subscription is dead (P8).
//! Pure; the time is a parameter.
//!
//! A subscription can be TCP-healthy and silent, most often after a failover: it hangs on the old primary, where
//! nothing is published. So a probe is published on the connection for commands, which follows the primary (in a
//! Cluster on that to another node), and must arrive on the subscription. While nothing can be published, the
//! probe decides nothing.

use std::time::{Duration, Instant};

/// Between the end of one probe and the next.
const EVERY: Duration = Duration::from_secs(5);

/// The state of one subscription.
#[derive(Debug)]
pub(super) struct Probe {
    /// Tells this subscription's probes from all others on the channel.
    name: String,
    patience: Duration,
    number: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The next probe is published then.
    Resting { until: Instant },
    /// It must arrive by then.
    Expecting { until: Instant },
}

/// What to do at the time given by [`Probe::wakes_at`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Publish this.
    Publish(String),
    /// The subscription is dead.
    Silent,
    /// Nothing yet.
    Wait,
}

impl Probe {
    /// `name` is unique and has no spaces. A probe may take `patience` from the moment it is to be published.
    pub(super) fn new(name: String, patience: Duration, now: Instant) -> Self {
        Self {
            name,
            patience,
            number: 0,
            // At once: a subscription that never worked is detected early.
            state: State::Resting { until: now },
        }
    }

    /// When to ask [`Probe::next`].
    pub(super) fn wakes_at(&self) -> Instant {
        match self.state {
            State::Resting { until } | State::Expecting { until } => until,
        }
    }

    /// What to do now.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        match self.state {
            State::Resting { until } | State::Expecting { until } if now < until => Next::Wait,
            State::Expecting { .. } => Next::Silent,
            State::Resting { .. } => {
                self.number += 1;
                self.state = State::Expecting {
                    until: now + self.patience,
                };
                Next::Publish(self.text())
            }
        }
    }

    /// A message that is no change came. True if it was the expected probe.
    pub(super) fn heard(&mut self, message: &str, now: Instant) -> bool {
        let expected = matches!(self.state, State::Expecting { .. }) && message == self.text();
        if expected {
            self.rest(now);
        }
        expected
    }

    /// The probe could not be published.
    pub(super) fn not_published(&mut self, now: Instant) {
        self.rest(now);
    }

    fn rest(&mut self, now: Instant) {
        self.state = State::Resting { until: now + EVERY };
    }

    /// Not in the format of a change, so that sidecars of any version ignore it.
    fn text(&self) -> String {
        format!("probe {} {}", self.name, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::keys::parse_change;

    const PATIENCE: Duration = Duration::from_secs(2);

    fn published(probe: &mut Probe, now: Instant) -> String {
        match probe.next(now) {
            Next::Publish(text) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn p8_a_probe_that_does_not_arrive_means_silence() {
        let start = Instant::now();
        let mut probe = Probe::new("a".into(), PATIENCE, start);
        let first = published(&mut probe, start);
        assert_eq!(parse_change(&first), None, "no change");
        assert_eq!(probe.wakes_at(), start + PATIENCE);
        assert_eq!(probe.next(start + Duration::from_secs(1)), Next::Wait);
        assert_eq!(probe.next(start + PATIENCE), Next::Silent);
    }

    #[test]
    fn p8_only_its_own_latest_probe_counts() {
        let start = Instant::now();
        let mut probe = Probe::new("a".into(), PATIENCE, start);
        let first = published(&mut probe, start);
        assert!(!probe.heard("probe b 1", start));
        assert!(probe.heard(&first, start));
        assert!(!probe.heard(&first, start), "it is not expected twice");
        assert_eq!(probe.wakes_at(), start + EVERY);
        let second = published(&mut probe, start + EVERY);
        assert_ne!(first, second);
        assert!(!probe.heard(&first, start + EVERY), "an echo of the one before");
        assert_eq!(probe.next(start + EVERY + PATIENCE), Next::Silent);
    }

    #[test]
    fn p8_while_nothing_can_be_published_nothing_is_learnt() {
        let start = Instant::now();
        let mut probe = Probe::new("a".into(), PATIENCE, start);
        published(&mut probe, start);
        probe.not_published(start + PATIENCE);
        assert_eq!(probe.next(start + PATIENCE), Next::Wait);
        published(&mut probe, start + PATIENCE + EVERY);
    }
}
