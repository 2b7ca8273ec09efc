//! Schedules of events for the model.

use proptest::prelude::*;

use super::database::Fault;
use crate::writer::spool::faults::Fault as DiskFault;

/// Something that happens.
#[derive(Debug, Clone)]
pub(super) enum Action {
    /// So many views are accepted, in one commit to the spool.
    Record(usize),
    /// One of a visitor who must be looked up.
    RecordUnresolved(Visitor),
    /// The commit of so many views is cut off at its n-th await: they may be there or not.
    RecordCutOff { count: usize, awaits: usize },
    /// The database meets this at its next calls.
    Faults(Vec<Option<Fault>>),
    /// The disk of the own spool meets this at its next commits.
    DiskFails(Vec<Option<DiskFault>>),
    /// The n-th view so far is one that the database refuses from now on, or no more.
    Refuse { view: usize, refused: bool },
    /// Another transaction locks what the n-th view so far changes, or releases it.
    Lock { view: usize, locked: bool },
    /// Time passes: what was passed over is due, and what is kept.
    Wait,
    /// A step at every spool.
    Step,
    /// A step that is cut off at its n-th await, by the process' end.
    StepCutOff(usize),
    /// The database loses its last transactions, of those that it has acknowledged within the time of keeping.
    LoseCommits(usize),
    /// The process ends, without a word, and another starts.
    Crash,
    /// The process ends in good order, and another starts.
    Restart,
    /// An operator decides on all dead letters.
    RetryLetters,
}

/// Whom a token turns out to belong to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Visitor {
    Somebody,
    Nobody,
    /// The row of the session cannot be read.
    Unreadable,
}

fn visitor() -> impl Strategy<Value = Visitor> {
    prop_oneof![
        3 => Just(Visitor::Somebody),
        2 => Just(Visitor::Nobody),
        1 => Just(Visitor::Unreadable),
    ]
}

fn fault() -> impl Strategy<Value = Option<Fault>> {
    prop_oneof![
        2 => Just(None),
        1 => Just(Some(Fault::Away)),
        2 => Just(Some(Fault::AnswerLost)),
        1 => Just(Some(Fault::HangsBefore)),
        2 => Just(Some(Fault::HangsAfter)),
    ]
}

fn disk_fault() -> impl Strategy<Value = Option<DiskFault>> {
    prop_oneof![
        1 => Just(None),
        1 => Just(Some(DiskFault::Lost)),
        2 => Just(Some(DiskFault::Kept)),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (1..6usize).prop_map(Action::Record),
        2 => visitor().prop_map(Action::RecordUnresolved),
        3 => (1..4usize, 1..8usize).prop_map(|(count, awaits)| Action::RecordCutOff { count, awaits }),
        3 => prop::collection::vec(fault(), 1..4).prop_map(Action::Faults),
        2 => prop::collection::vec(disk_fault(), 1..4).prop_map(Action::DiskFails),
        2 => (0..20usize, any::<bool>()).prop_map(|(view, refused)| Action::Refuse { view, refused }),
        2 => (0..20usize, any::<bool>()).prop_map(|(view, locked)| Action::Lock { view, locked }),
        1 => Just(Action::Wait),
        6 => Just(Action::Step),
        3 => (1..20usize).prop_map(Action::StepCutOff),
        3 => (1..6usize).prop_map(Action::LoseCommits),
        1 => Just(Action::Crash),
        1 => Just(Action::Restart),
        1 => Just(Action::RetryLetters),
    ]
}

/// Schedules.
pub(super) fn actions() -> impl Strategy<Value = Vec<Action>> {
    prop::collection::vec(action(), 1..40)
}
