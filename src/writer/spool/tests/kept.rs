//! Tests of rows that are kept after the database has acknowledged them.

use super::*;

/// Places of all rows that are kept.
async fn kept(spool: &Spool) -> Vec<i64> {
    let keys = spool.kept_keys(0, i64::MAX, 100).await.unwrap();
    keys.into_iter().map(|(place, _)| place).collect()
}

#[tokio::test]
async fn w26_rows_that_are_kept_do_not_wait_hold_the_ledger_and_go_when_their_time_is_over() {
    let folder = Folder::new();
    let spool = with_rows(&folder, &["/1", "/2", "/3", "/4"]).await;
    // The second is passed over, and its turn comes last.
    let until = tokio::time::Instant::now();
    spool
        .pass_over(2, until, passed_over::Tries::default())
        .await
        .unwrap();
    spool.keep_rows(&[1, 3], KEEP).await.unwrap();
    assert_eq!(urls(&next(&spool).await), [["/4"]]);
    assert_eq!((spool.waiting().views, kept(&spool).await), (2, vec![1, 3]));
    assert_eq!(spool.count_all().await.unwrap(), spool.waiting());
    assert_eq!(spool.first_unsettled().await.unwrap().seq, 1);
    assert!(spool.kept_bytes() > 0 && spool.kept_for(KEEP).is_none());

    spool.end_all_keeping();
    spool.keep_rows(&[2], KEEP).await.unwrap();
    spool.forget_kept(&spool.kept_for(KEEP).unwrap()).await.unwrap();
    assert_eq!(kept(&spool).await, [2], "done with later");
    spool.end_all_keeping();
    spool.forget_kept(&spool.kept_for(KEEP).unwrap()).await.unwrap();
    assert_eq!((spool.kept_bytes(), spool.is_keeping()), (0, false));
    assert_eq!(spool.first_unsettled().await.unwrap().seq, 4);
    assert_eq!(urls(&next(&spool).await), [["/4"]]);
}

/// Rows that were done with late, behind those whose time is over.
#[tokio::test]
async fn w26_all_that_is_kept_for_too_long_goes_however_many_rows_that_are() {
    let folder = Folder::new();
    let spool = with_rows(&folder, &["/"; 6]).await;
    let until = tokio::time::Instant::now();
    for place in 1..=4 {
        spool
            .pass_over(place, until, passed_over::Tries::default())
            .await
            .unwrap();
    }
    for place in [5, 1, 2, 3, 4] {
        spool.keep_rows(&[place], KEEP).await.unwrap();
    }
    spool.end_all_keeping();
    // Just now, and so are those that share its mark.
    spool.keep_rows(&[6], KEEP).await.unwrap();
    spool.forget_kept(&spool.kept_for(KEEP).unwrap()).await.unwrap();
    assert_eq!(kept(&spool).await, [5, 6]);
    let both = spool.kept_bytes();
    spool.requeue_from(i64::MAX).await.unwrap();
    assert_eq!(spool.kept_bytes(), both, "weighed anew");
    spool.end_all_keeping();
    spool.forget_kept(&spool.kept_for(KEEP).unwrap()).await.unwrap();
    assert_eq!((kept(&spool).await, spool.kept_bytes()), (vec![], 0));
    assert!(both > 0 && !spool.is_keeping());
}

#[tokio::test]
async fn w26_rows_that_the_database_lost_wait_again_and_those_before_them_do_not() {
    let folder = Folder::new();
    let spool = with_rows(&folder, &["/1", "/2", "/3"]).await;
    spool.keep_rows(&[1], KEEP).await.unwrap();
    spool.keep_rows(&[2, 3], KEEP).await.unwrap();
    assert_eq!(spool.waiting().views, 0);
    spool.requeue_from(2).await.unwrap();
    assert_eq!(urls(&next(&spool).await), [["/2"], ["/3"]]);
    assert_eq!((spool.waiting().views, kept(&spool).await), (2, vec![1]));
    spool.keep_rows(&[2, 3], KEEP).await.unwrap();
    spool.end_all_keeping();
    spool.forget_kept(&spool.kept_for(KEEP).unwrap()).await.unwrap();
    spool.close().await;
    assert_eq!(folder.files(), [""; 0]);
}

/// Applied before them it could not be kept: what is kept has no gap.
#[tokio::test]
async fn w26_a_row_that_was_passed_over_has_its_turn_after_those_before_it() {
    let folder = Folder::new();
    let spool = with_rows(&folder, &["/1", "/2", "/3", "/4"]).await;
    let due = tokio::time::Instant::now();
    spool
        .pass_over(3, due, passed_over::Tries::default())
        .await
        .unwrap();
    let turn = async |before_its_time| {
        let row = spool.next_passed_over(before_its_time).await.unwrap();
        row.map(|row| row.place)
    };
    assert_eq!(turn(false).await, None, "1 and 2 wait");
    assert_eq!(turn(true).await, Some(3), "there is no room for another");
    spool
        .pass_over(1, due + KEEP, passed_over::Tries::default())
        .await
        .unwrap();
    assert_eq!(turn(true).await, Some(1), "nothing waits before it");
    spool.keep_rows(&[2], KEEP).await.unwrap();
    assert_eq!(turn(false).await, Some(3), "4 waits behind it");
    spool.keep_rows(&[3], KEEP).await.unwrap();
    assert_eq!(kept(&spool).await, [2, 3]);

    // The database lost what is before it.
    spool
        .pass_over(4, due, passed_over::Tries::default())
        .await
        .unwrap();
    assert_eq!(turn(false).await, Some(4));
    spool.requeue_from(2).await.unwrap();
    assert_eq!(turn(false).await, None, "2 and 3 wait again");
    spool.keep_rows(&[2, 3], KEEP).await.unwrap();
    assert_eq!(turn(false).await, Some(4));
}

#[tokio::test]
async fn w26_after_a_crash_what_was_kept_is_offered_again() {
    let folder = Folder::new();
    let spool = with_rows(&folder, &["/1", "/2"]).await;
    spool.keep_rows(&[1], KEEP).await.unwrap();
    drop(spool);
    let adopted = folder.directory.adopt(&[], 8).await.unwrap();
    assert_eq!(urls(&next(&adopted[0]).await), [["/1"], ["/2"]]);
}

#[tokio::test]
async fn w12_what_is_kept_goes_first_when_there_is_no_room() {
    let folder = Folder::new();
    let spool = with_rows(&folder, &["/1", "/2", "/3"]).await;
    spool.keep_rows(&[1, 2], KEEP).await.unwrap();
    spool.keep_at_most(spool.kept_bytes()).await.unwrap();
    assert_eq!(kept(&spool).await, [1, 2]);
    spool.keep_at_most(0).await.unwrap();
    assert_eq!((kept(&spool).await, spool.kept_bytes()), (vec![], 0));
    spool.keep_rows(&[3], KEEP).await.unwrap();
    spool.give_up_kept();
    assert!(!spool.is_keeping() && spool.kept_for(KEEP).is_none());
    assert!(!spool.make_room().await.unwrap());
    spool.close().await;
    assert_eq!(folder.files(), [""; 0]);
}

#[tokio::test]
async fn w12_what_is_kept_is_weighed_anew_where_it_went_though_the_disk_says_that_it_did_not() {
    let folder = Folder::new();
    let spool = with_rows(&folder, &["/1", "/2", "/3"]).await;
    spool.keep_rows(&[1, 2, 3], KEEP).await.unwrap();
    let all = spool.kept_bytes();
    spool.fail_commits([Some(faults::Fault::Kept)]);
    spool.keep_at_most(0).await.unwrap_err();
    assert_eq!((kept(&spool).await, spool.kept_bytes()), (vec![3], all));
    spool.keep_at_most(0).await.unwrap();
    assert_eq!((kept(&spool).await, spool.kept_bytes()), (vec![], 0));
}
