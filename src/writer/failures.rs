//! Retry policy for rows that fail alone. Pure, but for the counts.
//! Decides when each is tried again, when it becomes a dead letter, and when the failure is not the rows' fault.
//!
//! A row is known to be at fault only where other rows were written in between. While nothing is written, the
//! tables may refuse everything, so the rows wait.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::spool::passed_over::Tries;

/// A row that was refused this many times becomes a dead letter, where others are not refused.
pub(super) const TRIES: u32 = 3;
/// Dead letters made while there was nothing else to write.
const UNCOMPARED: u32 = 3;
/// Where rows of this many visitors …
const VISITORS: usize = 3;
/// … and this many rows failed for one cause, one after the other, the rows are not at fault.
const ROWS: u32 = 8;
/// First and longest pause between two tries of a row.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// Failures so far.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// Failures since the last successful write, by cause.
    causes: HashMap<String, Cause>,
    /// Number of successful writes.
    successes: u64,
    /// Dead letters made since the last successful write.
    buried: u32,
}

#[derive(Debug, Default)]
struct Cause {
    rows: u32,
    visitors: HashSet<String>,
}

/// What to do about a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowAction {
    /// Make it a dead letter: it is at fault.
    DeadLetter,
    /// Try it again after the pause; the others continue.
    PassOver(Duration),
    /// The same, and the others wait too: the database takes nothing.
    PassOverAll(Duration),
}

impl Failures {
    /// Something was written.
    pub(super) fn success(&mut self) {
        self.causes.clear();
        self.successes += 1;
        self.buried = 0;
    }

    /// A row failed alone, after these tries; returns the verdict and the updated tries. `is_refused`: the error
    /// says that it fails for good.
    pub(super) fn failed(
        &mut self,
        before: Option<Tries>,
        cause: &str,
        visitors: impl Iterator<Item = String>,
        is_refused: bool,
    ) -> (RowAction, Tries) {
        let mut row = before.unwrap_or(Tries {
            count: 0,
            successes: self.successes,
        });
        row.count = row.count.saturating_add(1);
        let (tries, is_compared) = (row.count, row.successes < self.successes);
        let cause = self.causes.entry(cause.to_owned()).or_default();
        cause.rows += 1;
        for visitor in visitors {
            if cause.visitors.len() < VISITORS {
                cause.visitors.insert(visitor);
            }
        }
        let are_many = cause.visitors.len() >= VISITORS;
        let may_bury = is_compared || (!are_many && self.buried < UNCOMPARED);
        if is_refused && tries >= TRIES && may_bury {
            self.buried += 1;
            return (RowAction::DeadLetter, row);
        }
        let pause = PAUSE.0.saturating_mul(1 << (tries - 1).min(12)).min(PAUSE.1);
        let is_held = is_refused && tries >= TRIES && !is_compared;
        let verdict = if is_held || (are_many && cause.rows >= ROWS) {
            cause.rows = 0;
            RowAction::PassOverAll(pause)
        } else {
            RowAction::PassOver(pause)
        };
        (verdict, row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One row, with what was tried.
    #[derive(Default)]
    struct Row(Option<Tries>);

    impl Row {
        fn fails(
            &mut self,
            failures: &mut Failures,
            cause: &str,
            visitor: usize,
            is_refused: bool,
        ) -> RowAction {
            let visitors = std::iter::once(visitor.to_string());
            let (verdict, tries) = failures.failed(self.0, cause, visitors, is_refused);
            self.0 = Some(tries);
            verdict
        }

        fn is_refused(&mut self, failures: &mut Failures, visitor: usize) -> RowAction {
            self.fails(failures, "23514", visitor, true)
        }
    }

    #[test]
    fn w22_a_row_that_is_refused_while_others_are_written_becomes_a_dead_letter() {
        let (mut failures, mut row) = (Failures::default(), Row::default());
        for _ in 1..TRIES {
            assert!(matches!(row.is_refused(&mut failures, 1), RowAction::PassOver(_)));
            failures.success();
        }
        assert_eq!(row.is_refused(&mut failures, 1), RowAction::DeadLetter);
    }

    #[test]
    fn w22_a_row_that_only_has_to_wait_never_becomes_a_dead_letter() {
        let (mut failures, mut row) = (Failures::default(), Row::default());
        let mut last = Duration::ZERO;
        for _ in 0..100 {
            let verdict = row.fails(&mut failures, "55P03", 1, false);
            let RowAction::PassOver(pause) = verdict else {
                panic!("{verdict:?}")
            };
            assert!(pause >= last && pause <= PAUSE.1);
            last = pause;
            failures.success();
        }
    }

    #[test]
    fn w24_where_rows_of_many_visitors_are_refused_none_becomes_a_dead_letter() {
        let mut failures = Failures::default();
        let mut rows: Vec<Row> = std::iter::repeat_with(Row::default).take(30).collect();
        let mut told = 0;
        for _ in 0..10 {
            for (visitor, row) in rows.iter_mut().enumerate() {
                let verdict = row.is_refused(&mut failures, visitor % 5);
                assert_ne!(verdict, RowAction::DeadLetter);
                told += u32::from(matches!(verdict, RowAction::PassOverAll(_)));
            }
        }
        assert!(told > 0);
    }

    #[test]
    fn w24_of_one_visitor_with_nobody_to_compare_with_few_views_become_dead_letters() {
        let mut failures = Failures::default();
        let mut buried = 0;
        for _ in 0..50 {
            let mut row = Row::default();
            buried += u32::from((0..10).any(|_| row.is_refused(&mut failures, 1) == RowAction::DeadLetter));
        }
        assert_eq!(buried, UNCOMPARED);
    }
}
