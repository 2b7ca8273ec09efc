//! A model of the writer's way from spool to database, explored with random schedules of work and faults.
//!
//! Spools, with what they keep in memory, and [`Drain`], with what it reads ahead, are the real ones; the database is a model that keeps its promises (a transaction is
//! all or nothing, the ledger refuses keys that it has) and otherwise does its worst: it is away, it loses the
//! answer to a COMMIT, it hangs before or after one, it loses the last that it acknowledged, it refuses rows. The disk of the spool answers COMMITs with errors,
//! and has some of them all the same. The process is cut off anywhere: at each
//! await of a step, or in between, its memory gone. What must hold in the end, whatever happened, is in
//! [`World::verify`]. That this would find a mistake is shown by mistakes planted on purpose.
//!
//! More cases: `PROPTEST_CASES=20000 cargo test writer::model`.

mod database;
mod process;
mod schedule;
mod world;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};

use database::{Fault, Flaw};
use schedule::{Action, Visitor, actions};
use world::World;

use crate::writer::spool::faults::Fault as DiskFault;

/// Runs one schedule to its end; an error tells what does not hold.
fn explore(schedule: &[Action], flaw: Option<Flaw>) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut world = World::new(flaw).await;
        for action in schedule {
            world.act(action).await;
        }
        world.settle().await;
        world.verify().await.map_err(TestCaseError::fail)
    })
}

fn runner(cases: u32) -> TestRunner {
    let config = Config {
        cases,
        failure_persistence: None,
        // That it is found is enough.
        max_shrink_iters: 0,
        ..Config::default()
    };
    TestRunner::new(config)
}

/// Whether some schedule shows that the flaw is one.
fn is_found(flaw: Flaw) -> bool {
    is_found_after(&[], flaw)
}

/// As [`is_found`], but each schedule begins with `start`: for a flaw that shows in only one of several hundred random ones.
fn is_found_after(start: &[Action], flaw: Flaw) -> bool {
    explore(start, None).expect("it holds without the flaw");
    // Enough of them that chance does not matter.
    let found = runner(20_000).run(&actions(), |rest| explore(&[start, &rest].concat(), Some(flaw)));
    match found {
        Err(TestError::Fail(..)) => true,
        Err(TestError::Abort(why)) => panic!("{why}"),
        Ok(()) => false,
    }
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300)) })]

    #[test]
    fn promise_2_nothing_is_lost_and_nothing_counts_twice_whatever_happens(schedule in actions()) {
        explore(&schedule, None)?;
    }
}

/// Too many to become dead letters with nothing written in between: the last waits until others are seen.
#[test]
fn w24_refused_views_that_have_nobody_to_compare_with_wait_for_others() {
    let refuse = |view| Action::Refuse { view, refused: true };
    let mut schedule = vec![Action::RecordUnresolved(Visitor::Somebody)];
    schedule.extend([Action::Record(5), Action::Record(5)]);
    schedule.extend([2, 5, 0, 1].map(refuse));
    schedule.push(Action::Crash);
    explore(&schedule, None).expect("it holds");
}

#[test]
fn w6_a_ledger_that_is_not_asked_would_be_found() {
    assert!(is_found(Flaw::LedgerNotAsked));
}

#[test]
fn w8_taking_rows_away_before_they_are_written_would_be_found() {
    // What the database is thought to have is asked for later, and found missing, unless it had to be given up.
    let fails = vec![Some(DiskFault::Kept), Some(DiskFault::Lost)];
    let start = [
        Action::DiskFails(fails),
        Action::Record(1),
        Action::Wait,
        Action::Record(1),
        Action::Faults(vec![Some(Fault::Away)]),
        Action::Step,
    ];
    assert!(is_found_after(&start, Flaw::SaysDoneTooEarly));
}

#[test]
fn w1_a_ledger_that_notes_what_was_refused_would_be_found() {
    assert!(is_found(Flaw::LedgerNotesRefusals));
}

#[test]
fn s7_a_ledger_that_forgets_too_much_would_be_found() {
    assert!(is_found(Flaw::LedgerForgetsTooMuch));
}

#[test]
fn w26_what_the_database_acknowledged_and_is_not_asked_for_would_be_found() {
    assert!(is_found(Flaw::KeptNotAskedFor));
}

#[test]
fn w26_a_ledger_that_forgets_what_is_kept_would_be_found() {
    assert!(is_found(Flaw::LedgerForgetsKept));
}

#[test]
fn w32_a_group_that_is_handed_over_before_it_is_committed_would_be_found() {
    let start = [
        Action::DiskFails(vec![Some(DiskFault::Lost)]),
        Action::RecordCutOff { count: 3, awaits: 3 },
    ];
    assert!(is_found_after(&start, Flaw::HandsOverUncommitted));
}

#[test]
fn w20_an_append_that_is_not_looked_for_after_a_failed_try_would_be_found() {
    assert!(is_found(Flaw::AppendsAnew));
}
