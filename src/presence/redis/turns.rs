//! Turns of sweeping: which partitions this sidecar sweeps next, and which it leaves to others. Pure; the time is a
//! parameter.
//!
//! The partitions of one server are swept by one sidecar, which holds a lease in Redis: taken and renewed with the
//! sweep of the first partition, in the same script. It sweeps a partition when the window of somebody in it
//! passes, and now and then, since a touch may be older than it is late ([`PAUSE`]). The other sidecars sweep the first
//! partition as well, in each round, which takes the lease when its holder is gone, tells of lost data, and shows their
//! settings; the others they call seldom ([`PAUSE_OF_OTHERS`]), so that their settings count there.
//!
//! In a Cluster each partition is lost by itself, so every sidecar sweeps all of them in each round, without a lease:
//! grants and counts rely on a loss being noticed that soon ([`crate::presence::LONGEST_LOOK`]).

use std::num::NonZeroU16;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::presence::LONGEST_LOOK;
use crate::presence::failure_domain::FailureDomains;
use crate::presence::moment::Moment;

/// After this time, the next round of the sidecar that holds the lease sweeps a partition though nobody's window passes
/// there. After Redis' clock was set back, users of a partition that was left alone may stay longer by as much.
const PAUSE: Duration = Duration::from_secs(3);
/// The same for partitions that another sidecar sweeps: much shorter than settings count.
const PAUSE_OF_OTHERS: Duration = Duration::from_secs(20);
/// How long the lease lasts. It is renewed in each round.
pub(super) const LEASE: Duration = Duration::from_secs(3);
const _: () = assert!(LEASE.as_millis() > 2 * LONGEST_LOOK.as_millis());

/// The partition whose sweep takes the lease, and which every sidecar sweeps in each round.
pub(super) const FIRST: u16 = 0;

/// The turns of this sidecar.
#[derive(Debug)]
pub(super) struct Turns {
    partitions: NonZeroU16,
    /// Whether one server has all partitions, so that one sidecar sweeps them.
    is_leased: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Whether the lease is this sidecar's.
    holds: bool,
    /// When to sweep next, by partition; `None`: in the next round.
    next: Vec<Option<Moment>>,
}

impl Turns {
    pub(super) fn new(partitions: NonZeroU16, domains: &FailureDomains) -> Self {
        let state = State {
            holds: false,
            next: (0..partitions.get()).map(|_| None).collect(),
        };
        Self {
            partitions,
            is_leased: domains.all().len() == 1,
            state: Mutex::new(state),
        }
    }

    /// Whether the sweep of a partition asks for the lease.
    pub(super) fn takes_lease(&self, partition: u16) -> bool {
        self.is_leased && partition == FIRST
    }

    /// Whether this sidecar has the lease, as far as it was told; it has it no more from now on.
    pub(super) fn gives_up(&self) -> bool {
        std::mem::take(&mut self.state().holds)
    }

    /// The partitions that every sidecar sweeps in each round.
    pub(super) fn firsts(&self) -> Vec<u16> {
        if self.is_leased {
            vec![FIRST]
        } else {
            (0..self.partitions.get()).collect()
        }
    }

    /// The other partitions whose turn it is.
    pub(super) fn due_others(&self, now: Moment) -> Vec<u16> {
        if !self.is_leased {
            return Vec::new();
        }
        let state = self.state();
        let is_due = |partition: u16| state.next[usize::from(partition)].is_none_or(|next| next <= now);
        (FIRST + 1..self.partitions.get())
            .filter(|partition| is_due(*partition))
            .collect()
    }

    /// A call asked for the lease, whatever else it left to do. Who has it anew sweeps all partitions in this round.
    pub(super) fn asked_for_lease(&self, holds: bool) {
        let mut state = self.state();
        if holds && !state.holds {
            state.next.fill(None);
        }
        state.holds = holds;
    }

    /// All of a partition was swept, by a call that began then. `left` is the time until somebody's window passes there, if
    /// there is somebody; it is swept again within `longest`.
    pub(super) fn swept(&self, partition: u16, called: Moment, left: Option<Duration>, longest: Duration) {
        let mut state = self.state();
        let pause = if state.holds {
            PAUSE.min(longest).min(left.unwrap_or(Duration::MAX))
        } else {
            PAUSE_OF_OTHERS
        };
        state.next[usize::from(partition)] = Some(called + pause);
    }

    /// All partitions are to be swept in the next round: something has failed, or was lost.
    pub(super) fn begin_anew(&self) {
        self.state().next.fill(None);
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
        Turns::new(NonZeroU16::new(4).unwrap(), &domains)
    }

    /// One round at that time, after which nobody is there.
    fn round(turns: &Turns, now: Moment, holds: bool) -> usize {
        let firsts = turns.firsts();
        for partition in &firsts {
            if turns.takes_lease(*partition) {
                turns.asked_for_lease(holds);
            }
            turns.swept(*partition, now, None, LONG);
        }
        let others = turns.due_others(now);
        for partition in &others {
            turns.swept(*partition, now, None, LONG);
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
        turns.asked_for_lease(true);
        for partition in 1..4 {
            let left = Duration::from_millis(500) * u32::from(partition);
            turns.swept(partition, now, Some(left), LONG);
        }
        let at = |millis| turns.due_others(now + Duration::from_millis(millis));
        assert_eq!((at(499), at(500)), (vec![], vec![1]));
        assert_eq!(at(1_500), [1, 2, 3]);
        turns.swept(2, now, None, Duration::from_millis(250));
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
        turns.begin_anew();
        assert_eq!(round(&turns, later, true), 4, "after a failure or a loss");
    }

    /// A partition that is lost there is lost by itself, and only its own mark tells of that.
    #[test]
    fn p5_in_a_cluster_every_sidecar_sweeps_every_partition_in_each_round() {
        let turns = turns(4);
        let now = Moment::now();
        for _ in 0..3 {
            assert_eq!(round(&turns, now, false), 4);
        }
        assert!((0..4).all(|partition| !turns.takes_lease(partition)));
    }

    #[test]
    fn p5_a_lease_is_given_up_once_and_only_by_its_holder() {
        let turns = turns(1);
        let now = Moment::now();
        round(&turns, now, false);
        assert!(!turns.gives_up());
        round(&turns, now, true);
        assert!(turns.gives_up() && !turns.gives_up());
    }
}
