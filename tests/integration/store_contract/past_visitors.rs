//! Past visitors: their numbers, compared with a model that is written in the plainest way, and their pages.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use headcount::config::PageViews;
use headcount::ids::{CommunityId, UserId};
use headcount::store::{PastAsked, PastPlace, PastSort, PastVisitor, PastWindow};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::{Site, alice};
use crate::store_site::{Variant, at, batch, page_view};

contract! {
    s30_visits_are_what_the_plainest_model_says,
    s30_a_gap_of_half_an_hour_ends_no_visit_and_a_longer_one_does,
    s31_pages_follow_each_other_under_ties_and_new_views,
    s32_the_pages_are_the_five_seen_most,
    s32_only_counted_types_of_the_community_count,
}

const SORTS: [PastSort; 3] = [PastSort::LastVisit, PastSort::VisitCount, PastSort::FirstVisit];

fn march(community: &CommunityId) -> PastWindow {
    PastWindow {
        community: community.clone(),
        from: at("2024-03-01T00:00:00Z"),
        to: at("2024-04-01T00:00:00Z"),
    }
}

async fn page(
    site: &Site,
    window: &PastWindow,
    sort: PastSort,
    after: Option<PastPlace>,
) -> Vec<PastVisitor> {
    let limit = 3;
    let asked = PastAsked::Page { sort, after, limit };
    site.store.past_visitors(window, &asked).await.unwrap()
}

/// Page after page.
async fn all(site: &Site, window: &PastWindow, sort: PastSort) -> Vec<PastVisitor> {
    let mut all: Vec<PastVisitor> = Vec::new();
    loop {
        let after = all.last().map(|last| PastPlace {
            value: last.value(sort),
            user: last.user_id.clone(),
        });
        let page = page(site, window, sort, after).await;
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

async fn one(site: &Site, window: &PastWindow, user: &UserId) -> Option<PastVisitor> {
    let asked = PastAsked::One(user.clone());
    let found = site.store.past_visitors(window, &asked).await.unwrap();
    assert!(found.len() <= 1);
    found.into_iter().next()
}

struct View {
    user: UserId,
    at: DateTime<Utc>,
    url: String,
    is_ours: bool,
}

/// What the views of a window say, by hand.
fn model(views: &[View], window: &PastWindow) -> Vec<PastVisitor> {
    let first_of_ours = views.iter().filter(|view| view.is_ours).map(|view| view.at).min();
    let counts = |view: &&View| {
        let is_inside = view.at >= window.from && view.at < window.to;
        is_inside && (view.is_ours || first_of_ours.is_none_or(|first| view.at < first))
    };
    let mut by_user: BTreeMap<&str, Vec<&View>> = BTreeMap::new();
    for view in views.iter().filter(counts) {
        by_user.entry(view.user.as_str()).or_default().push(view);
    }
    let visitors = by_user.into_values().map(|mut views| {
        views.sort_by_key(|view| view.at);
        let mut visit_count = 1;
        for two in views.windows(2) {
            if two[1].at - two[0].at > TimeDelta::minutes(30) {
                visit_count += 1;
            }
        }
        let mut pages: BTreeMap<&str, i64> = BTreeMap::new();
        for view in &views {
            *pages.entry(&view.url).or_default() += 1;
        }
        let mut pages: Vec<(String, i64)> = pages
            .into_iter()
            .map(|(url, views)| (url.to_owned(), views))
            .collect();
        pages.sort_by_key(|(_, views)| -views);
        pages.truncate(25);
        PastVisitor {
            user_id: views[0].user.clone(),
            page_views: i64::try_from(views.len()).unwrap(),
            visit_count,
            first_visit: views[0].at,
            last_visit: views[views.len() - 1].at,
            pages,
        }
    });
    visitors.collect()
}

/// In the order of keys as the database has them, which is that of the members' making or of their text.
fn ordered(mut visitors: Vec<PastVisitor>, sort: PastSort) -> Vec<PastVisitor> {
    visitors.sort_by(|one, other| {
        let key = |visitor: &PastVisitor| {
            let text = visitor.user_id.as_str().to_owned();
            (text.parse::<i64>().unwrap_or_default(), text)
        };
        (other.value(sort).cmp(&one.value(sort))).then(key(one).cmp(&key(other)))
    });
    visitors
}

async fn s30_visits_are_what_the_plainest_model_says(variant: Variant) {
    let seed = rand::random();
    println!("seed {seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let site = Site::new(variant).await;
    let window = march(&site.community("gardening").await);
    let cooking = site.community("cooking").await;
    let mut members = Vec::new();
    for n in 0..7 {
        members.push(site.member(&format!("member-{n}")).await);
    }
    let mut views = Vec::new();
    let mut when = window.from - TimeDelta::hours(5);
    for _ in 0..120 {
        when += match dice.random_range(0..6) {
            0 => TimeDelta::zero(),
            1 => TimeDelta::minutes(30),
            2 => TimeDelta::minutes(30) + TimeDelta::microseconds(1),
            3 => TimeDelta::hours(11),
            _ => TimeDelta::minutes(dice.random_range(1..40)),
        };
        views.push(View {
            user: members[dice.random_range(0..members.len())].clone(),
            at: when,
            url: format!("/page/{}", dice.random_range(0..7)),
            is_ours: dice.random_bool(0.6) && when > window.from + TimeDelta::hours(20),
        });
    }
    for view in &views {
        for community in [&window.community, &cooking] {
            let source = if view.is_ours {
                r#", "source": "headcount""#
            } else {
                ""
            };
            let metadata = format!(
                r#"{{"url": "{}", "community_id": "{community}"{source}}}"#,
                view.url
            );
            // The same in another community counts there.
            if *community == window.community || view.url == "/page/0" {
                let written = view.at.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
                site.app_event(&view.user, "page_view", &metadata, &written).await;
            }
        }
    }
    let expected = model(&views, &window);
    assert!(expected.len() > 3);
    for sort in SORTS {
        assert_eq!(
            all(&site, &window, sort).await,
            ordered(expected.clone(), sort),
            "{sort:?}"
        );
    }
    for visitor in &expected {
        assert_eq!(
            one(&site, &window, &visitor.user_id).await.as_ref(),
            Some(visitor)
        );
    }
    // Where the app's views count besides, all do.
    let store = site.reconfigured(|config| config.api.page_views = PageViews::All);
    let everything: Vec<View> = views
        .into_iter()
        .map(|view| View {
            is_ours: true,
            ..view
        })
        .collect();
    let asked = PastAsked::Page {
        sort: PastSort::VisitCount,
        after: None,
        limit: 100,
    };
    let found = store.past_visitors(&window, &asked).await.unwrap();
    assert_eq!(found, ordered(model(&everything, &window), PastSort::VisitCount));
    store.close().await;
}

async fn s30_a_gap_of_half_an_hour_ends_no_visit_and_a_longer_one_does(variant: Variant) {
    let site = Site::new(variant).await;
    let (alice, session, gardening) = alice(&site).await;
    let times = [
        "2024-02-29T23:59:59.999999Z",
        "2024-03-01T00:00:00Z",
        "2024-03-01T00:30:00Z",
        "2024-03-01T01:00:00.000001Z",
        "2024-03-31T23:59:59.999999Z",
        "2024-04-01T00:00:00Z",
    ];
    let views = batch(&session, &gardening, times.map(page_view).into());
    site.store.apply(&views).await.unwrap();
    let found = one(&site, &march(&gardening), &alice).await.unwrap();
    assert_eq!((found.page_views, found.visit_count), (4, 3));
    assert_eq!(found.first_visit, at("2024-03-01T00:00:00Z"));
    assert_eq!(found.last_visit, at("2024-03-31T23:59:59.999999Z"));
    // Ids that cannot be keys, and a community that nobody was in.
    for nobody in ["no such", "999999", "a\0b"] {
        assert_eq!(
            one(&site, &march(&gardening), &nobody.into()).await,
            None,
            "{nobody}"
        );
    }
    assert_eq!(one(&site, &march(&CommunityId::from("x\0")), &alice).await, None);
    let after = Some(PastPlace {
        value: i64::MAX >> 8,
        user: "no such".into(),
    });
    for sort in SORTS {
        assert_eq!(
            page(&site, &march(&gardening), sort, after.clone()).await.len(),
            1,
            "{sort:?}"
        );
    }
}

async fn s31_pages_follow_each_other_under_ties_and_new_views(variant: Variant) {
    let site = Site::new(variant).await;
    let gardening = site.community("gardening").await;
    let metadata = super::in_community(&gardening);
    let mut members = Vec::new();
    for n in 0..8 {
        let member = site.member(&format!("member-{n}")).await;
        // All of the same moment, twice.
        for _ in 0..2 {
            site.app_event(&member, "page_view", &metadata, "2024-03-05T10:00:00Z")
                .await;
        }
        members.push(member);
    }
    let window = march(&gardening);
    for sort in SORTS {
        let first = page(&site, &window, sort, None).await;
        let after = first.last().map(|last| PastPlace {
            value: last.value(sort),
            user: last.user_id.clone(),
        });
        // Whoever comes later is behind the window's end.
        site.app_event(&members[7], "page_view", &metadata, "2024-04-02T10:00:00Z")
            .await;
        let mut seen: Vec<_> = first.iter().map(|visitor| visitor.user_id.clone()).collect();
        let rest = {
            let mut rest = page(&site, &window, sort, after).await;
            let after = rest.last().map(|last| PastPlace {
                value: last.value(sort),
                user: last.user_id.clone(),
            });
            rest.extend(page(&site, &window, sort, after).await);
            rest
        };
        seen.extend(rest.iter().map(|visitor| visitor.user_id.clone()));
        let mut expected = members.clone();
        let in_order = |user: &UserId| {
            (
                user.as_str().parse::<i64>().unwrap_or_default(),
                user.as_str().to_owned(),
            )
        };
        expected.sort_by_key(in_order);
        assert_eq!(seen, expected, "{sort:?}");
        assert!(
            first
                .iter()
                .all(|visitor| (visitor.page_views, visitor.visit_count) == (2, 1))
        );
    }
}

async fn s32_the_pages_are_the_five_seen_most(variant: Variant) {
    let site = Site::new(variant).await;
    let (alice, session, gardening) = alice(&site).await;
    let mut views = Vec::new();
    for (url, count) in [
        ("/b", 2),
        ("/a", 2),
        ("/Z", 2),
        ("/most", 3),
        ("/é", 1),
        ("/e", 1),
        ("/f", 1),
    ] {
        for _ in 0..count {
            let mut view = page_view("2024-03-05T10:00:00Z");
            view.url = url.into();
            views.push(view);
        }
    }
    site.store
        .apply(&batch(&session, &gardening, views))
        .await
        .unwrap();
    let found = one(&site, &march(&gardening), &alice).await.unwrap();
    let pages: Vec<_> = found
        .pages
        .iter()
        .map(|(url, views)| (url.as_str(), *views))
        .collect();
    assert_eq!(
        pages[..5],
        [("/most", 3), ("/Z", 2), ("/a", 2), ("/b", 2), ("/e", 1)]
    );
}

async fn s32_only_counted_types_of_the_community_count(variant: Variant) {
    let site = Site::new(variant).await;
    let (alice, session, gardening) = alice(&site).await;
    let mut post = page_view("2024-03-05T10:00:00Z");
    post.event.event_type = Some("post_view".into());
    post.event.metadata = [("post_id".into(), "7".to_owned())].into();
    post.event.description = Some("Post 7".into());
    let views = vec![post, page_view("2024-03-05T10:00:01Z")];
    site.store
        .apply(&batch(&session, &gardening, views))
        .await
        .unwrap();
    let metadata = super::in_community(&gardening);
    site.app_event(&alice, "community_join", &metadata, "2024-03-06T10:00:00Z")
        .await;

    // V30: as the route says.
    let events = site.events().await;
    let event = &events[0];
    assert_eq!((&*event.event_type, &*event.description), ("post_view", "Post 7"));
    assert_eq!(event.metadata["post_id"], "7");
    assert_eq!(event.metadata["source"], "headcount");

    let window = march(&gardening);
    let counted = async |types: &[&str]| {
        let reopened = site.reconfigured(|config| {
            let types: Vec<String> = types.iter().map(|&name| name.to_owned()).collect();
            config.record.counted_event_types = Some(types.try_into().unwrap());
        });
        let asked = PastAsked::One(alice.clone());
        let found = reopened.past_visitors(&window, &asked).await.unwrap();
        let numbers = reopened.stats(&gardening, window.from, window.to).await.unwrap();
        let views = found.first().map_or(0, |visitor| visitor.page_views);
        assert_eq!(numbers.page_views, views, "{types:?}");
        reopened.close().await;
        views
    };
    assert_eq!(counted(&["page_view"]).await, 1);
    assert_eq!(counted(&["page_view", "post_view"]).await, 2);
    assert_eq!(counted(&["post_view", "page_view", "community_join"]).await, 3);
    assert_eq!(counted(&["other"]).await, 0);
}
