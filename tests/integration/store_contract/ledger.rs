//! The ledger: what is tried again is written once.

use chrono::{TimeDelta, Utc};
use headcount::batch::{Batch, BatchKey};
use headcount::store::{Applied, LedgerProblem, StoreError};

use super::alice;
use crate::store_site::{Site, Variant, another, batch, page_view};
use crate::support::examined;

contract! {
    w6_a_batch_whose_answer_was_lost_is_there_once_when_it_is_tried_again,
    w6_of_a_batch_only_the_parts_that_are_new_are_written,
    s7_a_replayed_batch_moves_neither_last_active_nor_pages_visited,
    w6_one_batch_tried_by_many_at_once_is_written_once,
    w1_a_refused_batch_is_not_noted_as_applied,
    settled_parts_are_forgotten_and_only_those,
    parts_that_nobody_settled_are_forgotten_with_age,
    w26_parts_are_forgotten_only_if_they_are_old_by_the_sidecars_clock_too,
    a_ledger_that_is_missing_or_newer_is_told,
    w26_the_ledger_tells_which_parts_it_lacks,
}

fn views(count: u32) -> Vec<headcount::page_view::PageView> {
    (0..count)
        .map(|second| page_view(&format!("2024-03-01T10:00:{second:02}Z")))
        .collect()
}

/// Name of a table of the sidecar's own.
fn own(variant: Variant, table: &str) -> String {
    let separator = if variant.is_postgres() { '.' } else { '_' };
    format!("headcount{separator}{table}")
}

async fn noted(site: &Site) -> String {
    let table = own(site.variant, "applied_batch");
    site.text(&format!("SELECT CAST(count(*) AS TEXT) FROM {table}"))
        .await
}

async fn w6_a_batch_whose_answer_was_lost_is_there_once_when_it_is_tried_again(variant: Variant) {
    let site = Site::new(variant).await;
    let (_, session, gardening) = alice(&site).await;
    let batch = batch(&session, &gardening, views(3));
    let first = site.store.apply(&batch).await.unwrap();
    assert_eq!((first.views, first.known_parts), (3, 0));
    for store in [&site.store, &site.reconfigured(|_| {})] {
        let again = store.apply(&batch).await.unwrap();
        assert_eq!((again.views, again.known_parts), (0, 1));
    }
    assert_eq!(site.events().await.len(), 3);
    assert_eq!(site.pages_visited(&session).await, 3);
}

async fn w6_of_a_batch_only_the_parts_that_are_new_are_written(variant: Variant) {
    let site = Site::new(variant).await;
    let (_, session, gardening) = alice(&site).await;
    let known = batch(&session, &gardening, views(2));
    site.store.apply(&known).await.unwrap();
    let new = another(&known);
    let both = Batch {
        parts: [known.parts, new.parts].concat(),
        settled: Vec::new(),
    };
    let applied = site.store.apply(&both).await.unwrap();
    assert_eq!((applied.views, applied.known_parts), (2, 1));
    assert_eq!(site.events().await.len(), 4);
    assert_eq!(site.pages_visited(&session).await, 4);
}

async fn s7_a_replayed_batch_moves_neither_last_active_nor_pages_visited(variant: Variant) {
    let site = Site::new(variant).await;
    let (alice, session, gardening) = alice(&site).await;
    let early = batch(&session, &gardening, views(1));
    let late = batch(&session, &gardening, vec![page_view("2024-03-02T00:00:00Z")]);
    site.store.apply(&early).await.unwrap();
    site.store.apply(&late).await.unwrap();
    let state = async || (site.last_active(&alice).await, site.pages_visited(&session).await);
    let before = state().await;
    assert_eq!(before.1, 2);
    site.store.apply(&early).await.unwrap();
    assert_eq!(state().await, before);
}

async fn w6_one_batch_tried_by_many_at_once_is_written_once(variant: Variant) {
    let site = Site::new(variant).await;
    let (_, session, gardening) = alice(&site).await;
    let batch = batch(&session, &gardening, views(2));
    let other = site.reconfigured(|_| {});
    let tries = (0..4).flat_map(|_| [site.store.apply(&batch), other.apply(&batch)]);
    let mut sum = Applied::default();
    for outcome in futures_util::future::join_all(tries).await {
        let applied = outcome.unwrap();
        sum.views += applied.views;
        sum.known_parts += applied.known_parts;
    }
    assert_eq!((sum.views, sum.known_parts), (2, 7));
    assert_eq!(site.events().await.len(), 2);
    assert_eq!(site.pages_visited(&session).await, 2);
}

async fn w1_a_refused_batch_is_not_noted_as_applied(variant: Variant) {
    let site = Site::new(variant).await;
    let (_, session, gardening) = alice(&site).await;
    let mut gone = batch(&session, &gardening, views(1));
    gone.parts[0].views[0].user_id = if variant.is_renamed() {
        "0190163d-8694-739b-aea5-966c26f8ad91".into()
    } else {
        "999999".into()
    };
    for _ in 0..2 {
        let refused = site.store.apply(&gone).await.unwrap_err();
        assert!(matches!(refused, StoreError::Refused(_)), "{refused:?}");
    }
    assert_eq!(noted(&site).await, "0");
}

async fn settled_parts_are_forgotten_and_only_those(variant: Variant) {
    let site = Site::new(variant).await;
    let (_, session, gardening) = alice(&site).await;
    let mut batch = batch(&session, &gardening, views(1));
    let writer = batch.parts[0].key.writer;
    let key = |seq| BatchKey { writer, seq };
    let template = batch.parts.remove(0);
    for seq in 1..=5 {
        batch.parts.push(headcount::batch::BatchPart {
            key: key(seq),
            ..template.clone()
        });
    }
    let stranger = another(&batch);
    site.store.apply(&stranger).await.unwrap();
    site.store.apply(&batch).await.unwrap();
    assert_eq!(noted(&site).await, "6");

    batch.parts.retain(|part| part.key.seq == 5);
    batch.settled = vec![key(4)];
    let applied = site.store.apply(&batch).await.unwrap();
    assert_eq!((applied.views, applied.known_parts), (0, 1), "5 is still known");
    assert_eq!(
        noted(&site).await,
        "4",
        "4, 5, another's, and where it is settled"
    );
    for seq in [1, 3, 4] {
        batch.parts[0].key = key(seq);
        batch.settled = vec![key(4)];
        let applied = site.store.apply(&batch).await.unwrap();
        assert_eq!((applied.views, applied.known_parts), (0, 1), "{seq} comes again");
    }
    assert_eq!(noted(&site).await, "4");
}

async fn parts_that_nobody_settled_are_forgotten_with_age(variant: Variant) {
    let site = Site::new(variant).await;
    let (_, session, gardening) = alice(&site).await;
    let old = batch(&session, &gardening, views(1));
    site.store.apply(&old).await.unwrap();
    let (table, days_ago) = (
        own(variant, "applied_batch"),
        if variant.is_postgres() {
            "applied_at - interval '29 days'"
        } else {
            "applied_at - 29 * 86400"
        },
    );
    let age = format!("UPDATE {table} SET applied_at = {days_ago}");
    site.execute(&age).await;
    site.store.apply(&another(&old)).await.unwrap();
    let now = Utc::now();
    assert_eq!(site.store.forget_old_parts(now).await.unwrap(), 0);
    site.execute(&age).await;
    assert_eq!(site.store.forget_old_parts(now).await.unwrap(), 1);
    assert_eq!(noted(&site).await, "1");
}

/// A server whose clock was put forward takes what was noted just now for old.
async fn w26_parts_are_forgotten_only_if_they_are_old_by_the_sidecars_clock_too(variant: Variant) {
    let site = Site::new(variant).await;
    let (_, session, gardening) = alice(&site).await;
    let noted_now = batch(&session, &gardening, views(1));
    site.store.apply(&noted_now).await.unwrap();
    let (table, days_ago) = (
        own(variant, "applied_batch"),
        if variant.is_postgres() {
            "applied_at - interval '40 days'"
        } else {
            "applied_at - 40 * 86400"
        },
    );
    site.execute(&format!("UPDATE {table} SET applied_at = {days_ago}"))
        .await;
    let now = Utc::now();
    let before = now - TimeDelta::days(39);
    assert_eq!(site.store.forget_old_parts(before).await.unwrap(), 0);
    let keys: Vec<BatchKey> = noted_now.keys().collect();
    assert!(site.store.missing_parts(&keys).await.unwrap().is_empty());
    // Nor by the sidecar's alone.
    let in_future = format!(
        "UPDATE {table} SET applied_at = applied_at {}",
        if variant.is_postgres() {
            "+ interval '30 days'"
        } else {
            "+ 30 * 86400"
        }
    );
    site.execute(&in_future).await;
    let ahead = now + TimeDelta::days(30);
    assert_eq!(site.store.forget_old_parts(ahead).await.unwrap(), 0);
}

async fn a_ledger_that_is_missing_or_newer_is_told(variant: Variant) {
    let site = Site::new(variant).await;
    assert_eq!(examined::ledger(&site.config).await.unwrap(), None);
    let format = own(variant, "format");
    site.execute(&format!("UPDATE {format} SET version = 2")).await;
    let newer = examined::ledger(&site.config).await.unwrap();
    assert_eq!(newer, Some(LedgerProblem::Newer { found: 2 }));
    site.execute(&format!("DROP TABLE {}", own(variant, "applied_batch")))
        .await;
    assert_eq!(
        examined::ledger(&site.config).await.unwrap(),
        Some(LedgerProblem::Missing)
    );
    let bare = Site::unmigrated(variant).await;
    assert_eq!(
        examined::ledger(&bare.config).await.unwrap(),
        Some(LedgerProblem::Missing)
    );
    let (_, session, gardening) = alice(&bare).await;
    let error = bare.store.apply(&batch(&session, &gardening, views(1))).await;
    assert!(matches!(error, Err(StoreError::Unavailable(_))), "the views wait");
}

async fn w26_the_ledger_tells_which_parts_it_lacks(variant: Variant) {
    let site = Site::new(variant).await;
    let (_, session, gardening) = alice(&site).await;
    let mut there = batch(&session, &gardening, views(1));
    there.parts[0].key.seq = 9;
    let key = there.parts[0].key;
    let part = |seq| BatchKey { seq, ..key };
    there.settled = vec![part(5)];
    site.store.apply(&there).await.unwrap();
    let stranger = another(&there).parts[0].key;
    let asked = [part(4), part(5), part(8), key, part(10), stranger];
    let missing = site.store.missing_parts(&asked).await.unwrap();
    // Below 5 all are settled.
    let expected = [part(5), part(8), part(10), stranger];
    assert_eq!(missing, expected.into_iter().collect());
    assert!(site.store.missing_parts(&[]).await.unwrap().is_empty());
}
