//! Views in progress: how many at one time, by what they wait for.

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::{ResolvedView, ViewOutcome};
use crate::auth::{Absent, Authenticator};
use crate::recorder::AcceptedView;

/// Views in progress at one time; more wait in the queue.
pub(super) const IN_FLIGHT: usize = 1_024;

/// Views in progress at one time whose token was never seen with a session; more are dropped, so that they do not delay
/// others.
pub(super) const STRANGERS: usize = 4_096;

/// Reported views whose admission is checked at one time; more are dropped.
const ADMISSIONS: usize = 512;

/// What a view in progress waits for. Each kind has a bound of its own, so that its views do not delay others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LookupKind {
    /// The lookup of its visitor or community.
    Usual,
    /// The check of whether its visitor may report it, too.
    WithAdmission,
    /// The lookup of a token that was never seen with a session.
    OfStranger,
}

impl LookupKind {
    pub(super) fn of(accepted: &AcceptedView, authenticator: &Authenticator) -> Self {
        if accepted.is_strangers(authenticator) {
            Self::OfStranger
        } else if accepted.needs_admission() {
            Self::WithAdmission
        } else {
            Self::Usual
        }
    }

    /// Most views of this kind at one time.
    pub(super) fn most(self) -> usize {
        match self {
            // Nothing more is taken from the queue while there are [`IN_FLIGHT`].
            Self::Usual => usize::MAX,
            Self::WithAdmission => ADMISSIONS,
            Self::OfStranger => STRANGERS,
        }
    }

    /// The outcome for a view above that number.
    pub(super) fn one_too_many(self) -> ResolvedView {
        match self {
            Self::Usual => ResolvedView::NoSession(Absent::NotFound),
            Self::WithAdmission => ResolvedView::Undecided,
            Self::OfStranger => ResolvedView::Overflow,
        }
    }
}

/// Views in progress, by what they wait for. `F` resolves one.
pub(super) struct ViewsInProgress<F> {
    usual: FuturesUnordered<F>,
    with_admission: FuturesUnordered<F>,
    of_strangers: FuturesUnordered<F>,
}

impl<F> Default for ViewsInProgress<F> {
    fn default() -> Self {
        Self {
            usual: FuturesUnordered::new(),
            with_admission: FuturesUnordered::new(),
            of_strangers: FuturesUnordered::new(),
        }
    }
}

impl<F: Future<Output = ViewOutcome>> ViewsInProgress<F> {
    pub(super) fn of(&self, kind: LookupKind) -> &FuturesUnordered<F> {
        match kind {
            LookupKind::Usual => &self.usual,
            LookupKind::WithAdmission => &self.with_admission,
            LookupKind::OfStranger => &self.of_strangers,
        }
    }

    /// The next outcome; `None` where nothing is in progress. May be cancelled.
    pub(super) async fn next(&mut self) -> Option<ViewOutcome> {
        tokio::select! {
            Some(outcome) = self.usual.next() => Some(outcome),
            Some(outcome) = self.with_admission.next() => Some(outcome),
            Some(outcome) = self.of_strangers.next() => Some(outcome),
            else => None,
        }
    }
}
