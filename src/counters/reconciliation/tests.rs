//! Tests of what a pass compares, and compares again after a failure.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use uuid::Uuid;

use super::*;
use crate::config::Counters;
use crate::counters::lease::HeldLease;
use crate::status::Component;
use crate::store::{Comparison, CounterComparisons, Omission, PresentComparison, Totals};

/// More than two pages of communities, of which a test says which cannot be compared; it notes each comparison.
struct Fake {
    communities: Vec<CommunityId>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Those whose `current_visitors` cannot be compared.
    present_fails: BTreeSet<CommunityId>,
    /// Those whose events cannot be.
    events_fail: BTreeSet<CommunityId>,
    /// Those that were compared with their events.
    checked: BTreeSet<CommunityId>,
    /// The comparisons, in order.
    of_present: Vec<CommunityId>,
    of_events: Vec<CommunityId>,
    passes: u32,
    /// Views that the counters lack, and the communities with views since.
    omission: Option<Omission>,
    viewed: BTreeSet<CommunityId>,
    /// After so many comparisons of `current_visitors`, the lease is another's.
    loses_after: Option<usize>,
    lease: Option<HeldLease>,
}

impl State {
    /// The comparisons since the last call: of `current_visitors`, and with events.
    fn compared(&mut self) -> (Vec<CommunityId>, Vec<CommunityId>) {
        (
            std::mem::take(&mut self.of_present),
            std::mem::take(&mut self.of_events),
        )
    }
}

fn community(number: usize) -> CommunityId {
    CommunityId::new(format!("{number:04}"))
}

fn failure() -> StoreError {
    StoreError::Unavailable(sqlx::Error::PoolTimedOut)
}

#[async_trait]
impl CounterComparisons for Fake {
    async fn compare(&self, community: &CommunityId) -> Result<Comparison, StoreError> {
        let mut state = self.state.lock().unwrap();
        state.of_events.push(community.clone());
        if state.events_fail.contains(community) {
            return Err(failure());
        }
        Ok(Comparison {
            counted: Totals::default(),
            kept: Some(Totals::default()),
            shown: None,
            greatest: Totals::default(),
        })
    }

    async fn compare_present(
        &self,
        community: &CommunityId,
    ) -> Result<Option<PresentComparison>, StoreError> {
        let mut state = self.state.lock().unwrap();
        state.of_present.push(community.clone());
        if state.loses_after == Some(state.of_present.len()) {
            state.loses_after = None;
            state.lease.as_ref().unwrap().set(None);
        }
        if state.present_fails.contains(community) {
            return Err(failure());
        }
        Ok(None)
    }

    async fn note_checked(&self, community: &CommunityId) -> Result<(), StoreError> {
        self.state.lock().unwrap().checked.insert(community.clone());
        Ok(())
    }

    async fn unchecked(
        &self,
        after: Option<&CommunityId>,
        since: DateTime<Utc>,
        limit: i64,
    ) -> Result<(Vec<CommunityId>, Option<CommunityId>), StoreError> {
        let state = self.state.lock().unwrap();
        let behind = self
            .communities
            .iter()
            .filter(|key| after.is_none_or(|after| *key > after));
        let page: Vec<_> = behind.take(usize::try_from(limit).unwrap()).cloned().collect();
        let last = page.last().cloned();
        let is_checked = |key: &CommunityId| since < Utc::now() && state.checked.contains(key);
        Ok((page.into_iter().filter(|key| !is_checked(key)).collect(), last))
    }

    async fn last_pass(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        let state = self.state.lock().unwrap();
        Ok(Some(if state.passes > 0 {
            Utc::now()
        } else {
            DateTime::UNIX_EPOCH
        }))
    }

    async fn note_pass(&self) -> Result<(), StoreError> {
        self.state.lock().unwrap().passes += 1;
        Ok(())
    }

    async fn forget_absent(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn recount(&self, _: &CommunityId) -> Result<Totals, StoreError> {
        panic!("no counters differ from their events here")
    }

    async fn note_pending(&self, _: &CommunityId) -> Result<bool, StoreError> {
        panic!("nobody else writes current_visitors here")
    }

    async fn omission(&self) -> Result<Option<Omission>, StoreError> {
        Ok(self.state.lock().unwrap().omission)
    }

    async fn has_views(&self, community: &CommunityId, _: DateTime<Utc>) -> Result<bool, StoreError> {
        Ok(self.state.lock().unwrap().viewed.contains(community))
    }

    async fn forget_omission(&self, omission: Omission) -> Result<(), StoreError> {
        let known = &mut self.state.lock().unwrap().omission;
        assert_eq!(known.take(), Some(omission));
        Ok(())
    }
}

/// The holder of the lease, and what it compares.
fn holder(number: usize, state: State) -> (Reconciler, Arc<Fake>) {
    let store = Arc::new(Fake {
        communities: (0..number).map(community).collect(),
        state: Mutex::new(state),
    });
    let lease = HeldLease::default();
    lease.set(Some(Instant::now()));
    store.state.lock().unwrap().lease = Some(lease.clone());
    let reconciler = Reconciler {
        config: Counters::default(),
        store: store.clone(),
        of_present: true,
        metrics: Arc::default(),
        lease,
        comparisons: Component::default(),
    };
    (reconciler, store)
}

#[tokio::test(start_paused = true)]
async fn k21_a_pass_that_failed_compares_only_what_is_left() {
    let (present, events) = (community(7), community(230));
    let (reconciler, store) = holder(
        250,
        State {
            present_fails: BTreeSet::from([present.clone()]),
            events_fail: BTreeSet::from([events.clone()]),
            ..State::default()
        },
    );
    let mut unfinished = None;
    let compared = || store.state.lock().unwrap().compared();
    reconciler.pass_if_due(&mut unfinished).await.unwrap_err();
    let (of_present, of_events) = compared();
    assert_eq!((of_present.len(), of_events.len()), (250, 250));

    reconciler.pass_if_due(&mut unfinished).await.unwrap_err();
    assert_eq!(compared(), (vec![present.clone()], vec![events.clone()]));
    store.state.lock().unwrap().present_fails.clear();
    reconciler.pass_if_due(&mut unfinished).await.unwrap_err();
    assert_eq!(compared(), (vec![present], vec![events.clone()]));
    store.state.lock().unwrap().events_fail.clear();
    reconciler.pass_if_due(&mut unfinished).await.unwrap();
    assert_eq!(compared(), (vec![], vec![events]));
    assert_eq!(store.state.lock().unwrap().passes, 1);
    reconciler.pass_if_due(&mut unfinished).await.unwrap();
    assert_eq!(compared(), (vec![], vec![]));
}

/// Where many cannot be compared, such as without a right, the rest is left for the next try.
#[tokio::test(start_paused = true)]
async fn k21_a_pass_remembers_a_bounded_number_of_failures() {
    let (reconciler, store) = holder(
        250,
        State {
            present_fails: (0..250).map(community).collect(),
            ..State::default()
        },
    );
    let mut unfinished = None;
    // Their events are compared all the same.
    for events in [250, 0] {
        reconciler.pass_if_due(&mut unfinished).await.unwrap_err();
        let (of_present, of_events) = store.state.lock().unwrap().compared();
        assert_eq!((of_present.len(), of_events.len()), (MOST_FAILED + 1, events));
    }
    store.state.lock().unwrap().present_fails.clear();
    reconciler.pass_if_due(&mut unfinished).await.unwrap();
    let (of_present, _) = store.state.lock().unwrap().compared();
    assert_eq!(of_present.len(), 250);
    assert_eq!(store.state.lock().unwrap().passes, 1);
}

#[tokio::test(start_paused = true)]
async fn k21_a_pass_goes_on_where_the_lease_was_lost() {
    let (reconciler, store) = holder(
        250,
        State {
            loses_after: Some(120),
            ..State::default()
        },
    );
    let mut unfinished = None;
    let lost = reconciler.pass_if_due(&mut unfinished).await;
    assert!(matches!(lost, Err(Interruption::LeaseLost)), "{lost:?}");
    let (of_present, _) = store.state.lock().unwrap().compared();
    assert_eq!(of_present.len(), 120);
    reconciler.lease.set(Some(Instant::now()));
    reconciler.pass_if_due(&mut unfinished).await.unwrap();
    let (of_present, of_events) = store.state.lock().unwrap().compared();
    assert_eq!((of_present.len(), of_events.len()), (130, 250));
}

/// Whatever was compared a moment ago: only what is compared from now on has views that were committed by now.
#[tokio::test(start_paused = true)]
async fn k23_views_that_the_counters_lack_have_their_communities_compared_and_no_others() {
    let omission = Omission {
        id: Uuid::new_v4(),
        since: Utc::now(),
    };
    let in_order = [community(3), community(120), community(249)];
    let viewed = BTreeSet::from(in_order.clone());
    let (reconciler, store) = holder(
        250,
        State {
            omission: Some(omission),
            viewed: viewed.clone(),
            checked: viewed,
            events_fail: BTreeSet::from([community(120)]),
            ..State::default()
        },
    );
    let compared = || store.state.lock().unwrap().compared().1;
    let mut unfinished = None;
    reconciler.compare_omitted(&mut unfinished).await.unwrap_err();
    assert_eq!(compared(), in_order, "one that fails holds up no other");
    assert!(
        store.state.lock().unwrap().omission.is_some(),
        "it is compared again"
    );
    store.state.lock().unwrap().events_fail.clear();
    assert!(reconciler.compare_omitted(&mut unfinished).await.unwrap());
    assert_eq!(compared(), [community(120)], "what is left");
    assert!(!reconciler.compare_omitted(&mut unfinished).await.unwrap());
    assert_eq!(compared(), []);

    // With more such views each is compared, whatever was left of the former.
    let with = |id: Uuid| {
        let mut state = store.state.lock().unwrap();
        state.omission = Some(Omission { id, ..omission });
        state.events_fail = BTreeSet::from([community(3)]);
    };
    with(Uuid::new_v4());
    reconciler.compare_omitted(&mut unfinished).await.unwrap_err();
    with(Uuid::new_v4());
    compared();
    reconciler.compare_omitted(&mut unfinished).await.unwrap_err();
    assert_eq!(compared(), in_order);
}
