//! Tests of late identification: who gets there, who is found, and what is counted.

use super::*;
use crate::recorder::late::{LateVisitors, Worker as LateWorker};
use crate::recorder::resolve::Work;
use crate::recorder::resolver::Sought;
use crate::writer::load::{Bytes, Load};

/// Lookups whose late ones go to a queue that nobody works on.
struct Lookups {
    work: Work,
    added: LateWorker,
    table: Arc<Table>,
    _presence: (Bench, Shutdown),
}

impl Lookups {
    fn new() -> Self {
        let (bench, _, stop) = Bench::of_presence(Duration::from_secs(300));
        let table = Arc::<Table>::default();
        let resolver = testing::resolver(table.clone());
        let destinations = bench.recorder.destinations.clone();
        let (late, added) = LateWorker::new(resolver.clone(), destinations.clone());
        let load = Load::new(
            Queue::Recorder,
            Bytes::new(1 << 20, &bench.metrics),
            &bench.metrics,
        );
        Self {
            work: Work::new(resolver, destinations, load, late),
            added,
            table,
            _presence: (bench, stop),
        }
    }

    async fn look_up(&self) -> ResolvedView {
        let accepted = AcceptedView {
            view: view("/about/"),
            seen: Moment::now(),
            who: RequestVisitor::Token(SessionToken::new("alice"), EarlyLookup::default()),
            access_policy: None,
            from: None,
        };
        self.work.look_up(&accepted, false).await
    }
}

#[tokio::test(start_paused = true)]
async fn p32_who_is_being_looked_up_is_looked_up_again_only_if_that_fails() {
    let mut lookups = Lookups::new();
    lookups.table.away.store(true, Ordering::Relaxed);
    assert!(matches!(lookups.look_up().await, ResolvedView::NotYet(_)));
    assert_eq!(lookups.added.added(), 1, "the lookup has failed");

    let mut lookups = Lookups::new();
    lookups.table.hangs.store(true, Ordering::Relaxed);
    assert!(matches!(lookups.look_up().await, ResolvedView::NotYet(_)));
    assert_eq!(lookups.added.added(), 0, "the lookup goes on");
    lookups.table.away.store(true, Ordering::Relaxed);
    lookups.table.hangs.store(false, Ordering::Relaxed);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(lookups.added.added(), 1, "it has failed since");
}

#[tokio::test(start_paused = true)]
async fn p32_unknown_tokens_do_not_delay_a_visitor() {
    let (bench, presence, _stop) = Bench::of_presence(Duration::from_secs(300));
    bench.signs_in("alice");
    bench.table.away.store(true, Ordering::Relaxed);
    for number in 0..100 {
        bench.sees(&format!("made up {number}"));
    }
    bench.sees("alice");
    sleep(Duration::from_secs(2)).await;
    bench.table.away.store(false, Ordering::Relaxed);
    sleep(Duration::from_secs(5)).await;
    bench.recorder.flush().await;
    let counts = presence.all_counts(&[Scope::Site]).await.unwrap();
    assert_eq!(counts.value[0].current, 1);
    let dropped = &bench.metrics.presence_dropped;
    assert_eq!(dropped[PresenceDropped::TooLate].get(), 0, "all were answered");
}

/// A session whose row appears a moment later than its first view is found here, too.
#[tokio::test(start_paused = true)]
async fn p32_a_token_without_a_session_so_far_is_asked_once_more() {
    let (bench, presence, _stop) = Bench::of_presence(Duration::from_secs(300));
    bench.table.away.store(true, Ordering::Relaxed);
    bench.sees("alice");
    sleep(Duration::from_millis(100)).await;
    bench.table.away.store(false, Ordering::Relaxed);
    sleep(Duration::from_millis(1_600)).await;
    bench.signs_in("alice");
    sleep(Duration::from_secs(3)).await;
    bench.recorder.flush().await;
    let counts = presence.all_counts(&[Scope::Site]).await.unwrap();
    assert_eq!(counts.value[0].current, 1);
}

#[tokio::test(start_paused = true)]
async fn p32_who_is_not_identified_while_present_is_counted_once() {
    let (bench, _, _stop) = Bench::of_presence(Duration::ZERO);
    bench.table.away.store(true, Ordering::Relaxed);
    bench.sees("alice");
    sleep(Duration::from_secs(5)).await;
    assert_eq!(bench.metrics.presence_dropped[PresenceDropped::TooLate].get(), 1);
}

/// Whoever reports a page of a community that does not exist is not there, however late that is found out.
#[tokio::test(start_paused = true)]
async fn p32_a_reported_view_is_admitted_however_late() {
    for (policy, is_present) in [
        (Arc::new(NOWHERE) as Arc<dyn AccessPolicy>, 0),
        (Arc::new(STRICT), 1),
    ] {
        let (bench, presence, _stop) = Bench::of_presence(Duration::from_secs(300));
        bench.signs_in("alice");
        let destinations = bench.recorder.destinations.clone();
        let (late, worker) = LateWorker::new(testing::resolver(bench.table.clone()), destinations);
        worker.start(&crate::tasks::Tasks::on_current_runtime());
        let mut view = view("/communities/42/");
        view.community = Some(CommunityRef::Id("42".into()));
        late.add(
            Sought::of(&AcceptedView {
                view,
                seen: Moment::now(),
                who: RequestVisitor::Token(SessionToken::new("alice"), EarlyLookup::default()),
                access_policy: Some(policy),
                from: None,
            }),
            false,
        );
        sleep(Duration::from_secs(3)).await;
        let community = Scope::Community("42".into());
        let counts = presence.all_counts(&[Scope::Site, community]).await.unwrap();
        let current: Vec<_> = counts.value.iter().map(|count| count.current).collect();
        assert_eq!(current, [is_present, is_present]);
        let dropped = &bench.metrics.presence_dropped;
        assert_eq!(dropped[PresenceDropped::TooLate].get(), 0, "it was answered");
    }
}

/// A view that passed through shows that its visitor is there, whatever is decided about one that the page reports later.
#[tokio::test(start_paused = true)]
async fn p32_a_reported_view_that_is_refused_takes_no_other_view_away() {
    let (bench, presence, _stop) = Bench::of_presence(Duration::from_secs(300));
    bench.signs_in("alice");
    bench.table.away.store(true, Ordering::Relaxed);
    let destinations = bench.recorder.destinations.clone();
    let (late, worker) = LateWorker::new(testing::resolver(bench.table.clone()), destinations);
    worker.start(&crate::tasks::Tasks::on_current_runtime());
    for policy in [None, Some(Arc::new(NOWHERE) as Arc<dyn AccessPolicy>)] {
        let view = Sought {
            community: Some(CommunityRef::Id("42".into())),
            access_policy: policy,
            ..sought("alice".into(), "")
        };
        late.add(view, false);
        sleep(Duration::from_millis(10)).await;
    }
    bench.table.away.store(false, Ordering::Relaxed);
    sleep(Duration::from_secs(5)).await;
    bench.recorder.flush().await;
    let community = Scope::Community("42".into());
    let counts = presence.all_counts(&[community]).await.unwrap();
    assert_eq!(counts.value[0].current, 1);
    let dropped = &bench.metrics.presence_dropped;
    assert_eq!(dropped[PresenceDropped::TooLate].get(), 0, "both were answered");
}

fn sought(who: String, place: &str) -> Sought {
    Sought {
        who: RequestVisitor::Token(SessionToken::new(who), EarlyLookup::default()),
        from: None,
        at: Utc::now(),
        seen: Moment::now(),
        community: Some(CommunityRef::Slug(place.into())),
        finer: Arc::default(),
        access_policy: None,
    }
}

#[tokio::test]
async fn p32_strangers_leave_room_for_others_and_all_take_up_bounded_room() {
    let (bench, _, _stop) = Bench::of_presence(Duration::from_secs(300));
    let destinations = bench.recorder.destinations.clone();
    let start = || -> (LateVisitors, LateWorker) {
        LateWorker::new(testing::resolver(bench.table.clone()), destinations.clone())
    };
    let full = &bench.metrics.presence_dropped[PresenceDropped::QueueFull];
    let (late, mut added) = start();
    for number in 0..1_000 {
        late.add(sought(number.to_string(), "a"), true);
    }
    assert_eq!(full.get(), 1_000 - 512);
    late.add(sought("alice".into(), "a"), false);
    assert_eq!((full.get(), added.added()), (1_000 - 512, 513));

    let (late, mut added) = start();
    let long = "x".repeat(1 << 20);
    for number in 0..10 {
        late.add(sought(number.to_string(), &long), false);
    }
    assert_eq!(added.added(), 3, "of a megabyte each, and a little more");
    late.add(sought("alice".into(), &long), false);
    assert_eq!(added.added(), 1, "there is room again");
}

#[tokio::test(start_paused = true)]
async fn p32_those_in_hand_take_up_room_like_those_in_the_queue() {
    let (bench, _, _stop) = Bench::of_presence(Duration::from_secs(300));
    bench.table.away.store(true, Ordering::Relaxed);
    let destinations = bench.recorder.destinations.clone();
    let (late, worker) = LateWorker::new(testing::resolver(bench.table.clone()), destinations);
    worker.start(&crate::tasks::Tasks::on_current_runtime());
    for round in 0..2 {
        for number in 0..3_000 {
            late.add(sought(format!("{number} of {round}"), "a"), false);
        }
        sleep(Duration::from_secs(3)).await;
    }
    let full = &bench.metrics.presence_dropped[PresenceDropped::QueueFull];
    assert_eq!(full.get(), 6_000 - 4_096);
}
