//! Rows that fail alone: when each is tried again, when it becomes a dead letter, and whether it is the rows at all.
//! Pure, but for the counts.
//!
//! A row is known to be at fault where others were written in between. While nothing is written, the tables may
//! refuse everything, so the rows wait.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::batch::BatchKey;

/// A row that was refused so many times is a dead letter, where others are not refused.
const TRIES: u32 = 3;
/// Dead letters made while nothing else was there to be written.
const UNCOMPARED: u32 = 3;
/// Where rows of so many visitors …
const VISITORS: usize = 3;
/// … and so many rows failed for one cause, one after the other, it is not the rows.
const ROWS: u32 = 8;
/// First and longest pause between two tries of a row.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// What is known of failures.
#[derive(Debug, Default)]
pub(super) struct Failures {
    rows: HashMap<BatchKey, Failed>,
    /// Those since something was written last, by their cause.
    causes: HashMap<String, Cause>,
    /// How often something was written.
    successes: u64,
    /// Dead letters made since.
    buried: u32,
}

#[derive(Debug)]
struct Failed {
    tries: u32,
    /// [`Failures::successes`] at the first try.
    successes: u64,
}

#[derive(Debug, Default)]
struct Cause {
    rows: u32,
    visitors: HashSet<String>,
}

/// What to do about a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is at fault.
    Bury,
    /// It is tried again after the pause; the others go on.
    PassOver(Duration),
    /// The same, and the others had better wait, too: nothing is taken.
    PassOverAll(Duration),
}

impl Failures {
    /// Something was written.
    pub(super) fn success(&mut self, keys: impl Iterator<Item = BatchKey>) {
        for key in keys {
            self.rows.remove(&key);
        }
        self.causes.clear();
        self.successes += 1;
        self.buried = 0;
    }

    /// A row failed alone. `is_refused`: for good, as far as the error goes.
    pub(super) fn failed(
        &mut self,
        key: BatchKey,
        cause: &str,
        visitors: impl Iterator<Item = String>,
        is_refused: bool,
    ) -> Verdict {
        let successes = self.successes;
        let row = self.rows.entry(key).or_insert(Failed { tries: 0, successes });
        row.tries += 1;
        let (tries, is_compared) = (row.tries, row.successes < successes);
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
            self.rows.remove(&key);
            self.buried += 1;
            return Verdict::Bury;
        }
        let pause = PAUSE.0.saturating_mul(1 << (tries - 1).min(12)).min(PAUSE.1);
        let is_held = is_refused && tries >= TRIES && !is_compared;
        if is_held || (are_many && cause.rows >= ROWS) {
            cause.rows = 0;
            Verdict::PassOverAll(pause)
        } else {
            Verdict::PassOver(pause)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::writer::batch::WriterId;

    fn keys(count: i64) -> Vec<BatchKey> {
        let writer = WriterId::random();
        (1..=count).map(|seq| BatchKey { writer, seq }).collect()
    }

    fn refused(failures: &mut Failures, key: BatchKey, visitor: i64) -> Verdict {
        failures.failed(key, "23514", std::iter::once(visitor.to_string()), true)
    }

    #[test]
    fn w22_a_row_that_is_refused_while_others_are_written_becomes_a_dead_letter() {
        let mut failures = Failures::default();
        let keys = keys(2);
        for _ in 1..TRIES {
            assert!(matches!(refused(&mut failures, keys[0], 1), Verdict::PassOver(_)));
            failures.success(keys[1..].iter().copied());
        }
        assert_eq!(refused(&mut failures, keys[0], 1), Verdict::Bury);
    }

    #[test]
    fn w22_a_row_that_only_has_to_wait_never_becomes_a_dead_letter() {
        let mut failures = Failures::default();
        let keys = keys(2);
        let mut last = Duration::ZERO;
        for _ in 0..100 {
            let verdict = failures.failed(keys[0], "55P03", std::iter::once("1".into()), false);
            let Verdict::PassOver(pause) = verdict else {
                panic!("{verdict:?}")
            };
            assert!(pause >= last && pause <= PAUSE.1);
            last = pause;
            failures.success(keys[1..].iter().copied());
        }
    }

    #[test]
    fn w24_where_rows_of_many_visitors_are_refused_none_becomes_a_dead_letter() {
        let mut failures = Failures::default();
        let keys = keys(30);
        let mut told = 0;
        for _ in 0..10 {
            for (key, visitor) in keys.iter().zip(0..) {
                let verdict = refused(&mut failures, *key, visitor % 5);
                assert_ne!(verdict, Verdict::Bury);
                told += u32::from(matches!(verdict, Verdict::PassOverAll(_)));
            }
        }
        assert!(told > 0);
    }

    #[test]
    fn w24_of_one_visitor_with_nobody_to_compare_with_few_views_become_dead_letters() {
        let mut failures = Failures::default();
        let mut buried = 0;
        for key in keys(50) {
            for _ in 0..10 {
                if refused(&mut failures, key, 1) == Verdict::Bury {
                    buried += 1;
                    break;
                }
            }
        }
        assert_eq!(buried, UNCOMPARED);
    }
}
