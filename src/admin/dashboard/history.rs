//! Visitors of each community over the last hour, for a line chart. Pure and bounded: a point each [`STEP`],
//! [`POINTS`] of them, for the [`TRACKED`] communities with most visitors.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use crate::ids::CommunityId;

/// Time between two points.
pub(super) const STEP: Duration = Duration::from_secs(20);
/// Points of a line: an hour.
pub(super) const POINTS: usize = 180;
/// Communities with a line.
pub(super) const TRACKED: usize = 200;

/// A point of a line; `None` if unknown.
pub(super) type Point = Option<u64>;

/// The lines.
#[derive(Debug, Default)]
pub(super) struct History {
    /// For communities without a line: what is known of each point, oldest first.
    steps: VecDeque<Others>,
    /// All lines have the same length.
    lines: HashMap<CommunityId, VecDeque<Point>>,
}

/// Communities without a line, at one point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Others {
    /// Had no visitors.
    Empty,
    /// May have had visitors.
    Unknown,
}

impl History {
    /// Adds a point to each line. `counts` are those of communities with visitors, most visitors first; with
    /// `all`, no other community has any.
    pub(super) fn add(&mut self, counts: &[(CommunityId, u64)], all: bool) {
        let current: HashMap<&CommunityId, u64> = counts.iter().map(|(id, count)| (id, *count)).collect();
        let absent = all.then_some(0);
        for (community, line) in &mut self.lines {
            line.push_back(current.get(community).copied().or(absent));
        }
        for (community, count) in counts.iter().take(TRACKED) {
            if !self.lines.contains_key(community) {
                let before = self
                    .steps
                    .iter()
                    .map(|others| (*others == Others::Empty).then_some(0));
                let line = before.chain([Some(*count)]).collect();
                self.lines.insert(community.clone(), line);
            }
        }
        let are_empty = all && counts.len() <= TRACKED;
        self.step(if are_empty { Others::Empty } else { Others::Unknown });
        self.crowd_out(counts);
    }

    /// Adds an unknown point.
    pub(super) fn add_nothing(&mut self) {
        for line in self.lines.values_mut() {
            line.push_back(None);
        }
        self.step(Others::Unknown);
    }

    /// A community's line, oldest point first; unknown points at the front are left out.
    pub(super) fn line(&self, community: &CommunityId) -> Vec<Point> {
        let line = self.lines.get(community).into_iter().flatten();
        line.copied().skip_while(Option::is_none).collect()
    }

    /// Most points that a line can have by now.
    pub(super) fn points(&self) -> usize {
        self.steps.len()
    }

    /// Whether the community has a line.
    pub(super) fn tracks(&self, community: &CommunityId) -> bool {
        self.lines.contains_key(community)
    }

    fn step(&mut self, others: Others) {
        self.steps.push_back(others);
        if self.steps.len() > POINTS {
            self.steps.pop_front();
            for line in self.lines.values_mut() {
                line.pop_front();
            }
        }
        self.lines
            .retain(|_, line| line.iter().any(|point| point.is_some_and(|count| count > 0)));
    }

    /// Drops lines of communities that are no longer among the largest, with their points.
    fn crowd_out(&mut self, counts: &[(CommunityId, u64)]) {
        if self.lines.len() <= TRACKED {
            return;
        }
        let first: HashSet<&CommunityId> = counts.iter().take(TRACKED).map(|(id, _)| id).collect();
        let mut others: Vec<(Point, CommunityId)> = self
            .lines
            .iter()
            .filter(|(community, _)| !first.contains(community))
            .map(|(community, line)| (line.back().copied().flatten(), community.clone()))
            .collect();
        others.sort();
        let excess = self.lines.len() - TRACKED;
        for (_, community) in others.into_iter().take(excess) {
            self.lines.remove(&community);
        }
        self.steps.iter_mut().for_each(|step| *step = Others::Unknown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[(&str, u64)]) -> Vec<(CommunityId, u64)> {
        of.iter().map(|(id, count)| ((*id).into(), *count)).collect()
    }

    #[test]
    fn a_line_has_a_point_for_each_step() {
        let mut history = History::default();
        history.add(&counts(&[("42", 2)]), true);
        history.add(&counts(&[("43", 5), ("42", 3)]), true);
        history.add(&counts(&[("43", 1)]), true);
        assert_eq!(history.line(&"42".into()), [Some(2), Some(3), Some(0)]);
        let nobody_before = [Some(0), Some(5), Some(1)];
        assert_eq!(history.line(&"43".into()), nobody_before);
        assert_eq!(history.line(&"44".into()), []);
    }

    #[test]
    fn what_is_not_known_is_a_gap_and_not_zero() {
        let mut history = History::default();
        history.add(&counts(&[("42", 2)]), true);
        history.add_nothing();
        history.add(&counts(&[("43", 1)]), false);
        assert_eq!(history.line(&"42".into()), [Some(2), None, None]);
        assert_eq!(history.line(&"43".into()), [Some(0), None, Some(1)]);
    }

    #[test]
    fn a_line_is_an_hour_long_and_goes_when_nobody_came_for_an_hour() {
        let mut history = History::default();
        history.add(&counts(&[("42", 7)]), true);
        for _ in 1..POINTS {
            history.add(&[], true);
        }
        assert_eq!(history.line(&"42".into()).len(), POINTS);
        history.add(&[], true);
        assert!(!history.tracks(&"42".into()));
        for _ in 0..2 * POINTS {
            history.add(&counts(&[("42", 7)]), true);
        }
        assert_eq!(history.line(&"42".into()), [Some(7); POINTS]);
        assert_eq!(history.steps.len(), POINTS);
    }

    #[test]
    fn only_the_first_have_a_line() {
        let many = |from: u64| -> Vec<(CommunityId, u64)> {
            let ids = from..from + TRACKED as u64 + 1;
            ids.map(|id| (CommunityId::new(id.to_string()), 1_000 - id))
                .collect()
        };
        let mut history = History::default();
        history.add(&many(0), true);
        assert_eq!(history.lines.len(), TRACKED);
        assert!(!history.tracks(&TRACKED.to_string().as_str().into()));
        history.add(&many(1), true);
        assert_eq!(history.lines.len(), TRACKED);
        assert!(!history.tracks(&"0".into()));
        let newcomer = CommunityId::new(TRACKED.to_string());
        let line = history.line(&newcomer);
        assert_eq!(
            line,
            [Some(1_000 - TRACKED as u64)],
            "what it had before is not known"
        );
    }

    #[test]
    fn one_that_was_crowded_out_does_not_come_back_with_a_past_of_zeros() {
        let mut history = History::default();
        history.add(&counts(&[("old", 9)]), true);
        let crowd: Vec<_> = (0..TRACKED as u64)
            .map(|id| (CommunityId::new(id.to_string()), 10))
            .collect();
        history.add(&crowd, true);
        assert!(!history.tracks(&"old".into()));
        history.add(&counts(&[("old", 4)]), true);
        assert_eq!(history.line(&"old".into()), [Some(4)]);
    }
}
