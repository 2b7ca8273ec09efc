//! Whose turn it is to sweep which partition, as far as this sidecar knows. Pure: the time is a parameter.
//!
//! The partitions of a failure domain are swept by one sidecar, which holds a lease in Redis: taken and renewed with the
//! sweep of the domain's first partition, in the same script. It sweeps a partition when the window of somebody in it
//! passes, and now and then, since a touch may be older than it is late ([`PAUSE`]). The other sidecars sweep the first
//! partition as well, which takes the lease when its holder is gone, tells of lost data, and shows their settings; the
//! others they call seldom ([`PAUSE_OF_OTHERS`]), so that their settings count there.

use std::num::NonZeroU16;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::presence::failure_domain::FailureDomains;
use crate::presence::moment::Moment;

/// Longest time between two sweeps of a partition by the sidecar that holds the lease; in a Cluster, where each partition
/// is the first of its domain, by any. After Redis' clock was set back, users of a partition that was left alone may stay
/// longer by as much.
const PAUSE: Duration = Duration::from_secs(3);
/// The same for partitions that another sidecar sweeps: much shorter than settings count.
const PAUSE_OF_OTHERS: Duration = Duration::from_secs(20);
/// How long the lease outlives the time at which it should be renewed.
const GRACE: Duration = Duration::from_secs(3);

/// The turns of this sidecar.
#[derive(Debug)]
pub(super) struct Turns {
    partitions: NonZeroU16,
    domains: FailureDomains,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Whether the lease is this sidecar's, by domain.
    holds: Vec<bool>,
    /// When to sweep next, by partition; `None`: at once.
    next: Vec<Option<Moment>>,
}

impl Turns {
    pub(super) fn new(partitions: NonZeroU16, domains: FailureDomains) -> Self {
        let state = State {
            holds: domains.all().map(|_| false).collect(),
            next: (0..partitions.get()).map(|_| None).collect(),
        };
        Self {
            partitions,
            domains,
            state: Mutex::new(state),
        }
    }

    /// Whether a partition is the first of its domain.
    pub(super) fn is_first(&self, partition: u16) -> bool {
        self.domains.index(partition) == usize::from(partition)
    }

    /// How long the lease is to last.
    pub(super) fn lease(&self) -> Duration {
        if self.is_one_domain() {
            GRACE
        } else {
            GRACE + PAUSE
        }
    }

    /// The first partitions of domains whose turn it is.
    pub(super) fn due_firsts(&self, now: Moment) -> Vec<u16> {
        self.due(now, true)
    }

    /// The other partitions whose turn it is.
    pub(super) fn due_others(&self, now: Moment) -> Vec<u16> {
        self.due(now, false)
    }

    fn due(&self, now: Moment, first: bool) -> Vec<u16> {
        let state = self.state();
        let is_due = |partition: u16| state.next[usize::from(partition)].is_none_or(|next| next <= now);
        (0..self.partitions.get())
            .filter(|partition| self.is_first(*partition) == first && is_due(*partition))
            .collect()
    }

    /// A partition was swept by a call that began then. `left` is the time until somebody's window passes there, if
    /// there is somebody; it is swept again within `longest`. `holds`: whether this sidecar has the lease, where it asked.
    pub(super) fn swept(
        &self,
        partition: u16,
        called: Moment,
        left: Option<Duration>,
        longest: Duration,
        holds: bool,
    ) {
        let domain = self.domains.index(partition);
        let is_first = self.is_first(partition);
        let mut state = self.state();
        if is_first && holds != std::mem::replace(&mut state.holds[domain], holds) && holds {
            self.all_at_once(&mut state, domain);
        }
        let pause = match (is_first, state.holds[domain]) {
            // With each round: there is one such partition.
            (true, _) if self.is_one_domain() => Duration::ZERO,
            (_, true) => PAUSE.min(longest).min(left.unwrap_or(Duration::MAX)),
            (true, false) => PAUSE,
            (false, false) => PAUSE_OF_OTHERS,
        };
        state.next[usize::from(partition)] = Some(called + pause);
    }

    /// All partitions of a domain are to be swept in the next round: it has failed, or lost data.
    pub(super) fn begin_anew(&self, domain: usize) {
        self.all_at_once(&mut self.state(), domain);
    }

    fn all_at_once(&self, state: &mut State, domain: usize) {
        for partition in 0..self.partitions.get() {
            if self.domains.index(partition) == domain {
                state.next[usize::from(partition)] = None;
            }
        }
    }

    fn is_one_domain(&self) -> bool {
        self.domains.all().len() == 1
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn turns(domains: u16) -> Turns {
        let domains = FailureDomains::new(NonZeroU16::new(domains).unwrap());
        Turns::new(NonZeroU16::new(4).unwrap(), domains)
    }

    /// One round at that time, after which nobody is there.
    fn round(turns: &Turns, now: Moment, holds: bool) -> usize {
        let firsts = turns.due_firsts(now);
        for partition in &firsts {
            turns.swept(*partition, now, None, LONG, holds);
        }
        let others = turns.due_others(now);
        for partition in &others {
            turns.swept(*partition, now, None, LONG, false);
        }
        firsts.len() + others.len()
    }

    #[test]
    fn p5_one_sidecar_sweeps_and_the_others_look_at_one_partition() {
        let start = Moment::now();
        let (holder, other) = (turns(1), turns(1));
        let (mut swept, mut looked) = (0, 0);
        for second in 0..60 {
            let now = start + Duration::from_secs(second);
            swept += round(&holder, now, true);
            looked += round(&other, now, false);
        }
        assert_eq!(
            swept,
            60 + 3 * 20,
            "once a second, and the three others every three"
        );
        assert_eq!(
            looked,
            60 + 3 * 3,
            "once a second, and the three others every twenty"
        );
    }

    #[test]
    fn p5_a_partition_is_swept_when_somebodys_window_passes_there() {
        let turns = turns(1);
        let now = Moment::now();
        turns.swept(0, now, None, LONG, true);
        for partition in 1..4 {
            let left = Duration::from_millis(500) * u32::from(partition);
            turns.swept(partition, now, Some(left), LONG, false);
        }
        let at = |millis| turns.due_others(now + Duration::from_millis(millis));
        assert_eq!((at(499), at(500)), (vec![], vec![1]));
        assert_eq!(at(1_500), [1, 2, 3]);
        turns.swept(2, now, None, Duration::from_millis(250), false);
        assert_eq!(at(250), [2], "where windows are short, sooner");
    }

    #[test]
    fn p5_who_takes_the_lease_over_sweeps_everything_at_once() {
        let turns = turns(1);
        let now = Moment::now();
        assert_eq!(round(&turns, now, false), 4);
        let later = now + Duration::from_secs(1);
        assert_eq!(round(&turns, later, false), 1);
        assert_eq!(round(&turns, later, true), 4);
        assert_eq!(round(&turns, later, true), 1);
        turns.begin_anew(0);
        assert_eq!(round(&turns, later, true), 4, "after a failure or a loss");
    }

    #[test]
    fn p5_in_a_cluster_each_partition_has_its_own_lease() {
        let turns = turns(4);
        let now = Moment::now();
        assert_eq!(round(&turns, now, false), 4);
        assert_eq!(round(&turns, now + Duration::from_secs(1), false), 0);
        assert_eq!(round(&turns, now + PAUSE, false), 4);
        assert!(turns.lease() > PAUSE, "the holder renews it in time");
        turns.begin_anew(2);
        assert_eq!(turns.due_firsts(now + PAUSE), [2]);
    }
}
