//! Tests of rows that are passed over, so that others go on.

use super::*;

#[tokio::test]
async fn w23_a_row_that_waits_for_ever_does_not_hold_the_ledger() {
    let folder = Folder::new();
    let spool = with_rows(&folder, &["/1", "/2"]).await;
    let until = tokio::time::Instant::now() + KEEP;
    spool
        .pass_over(1, until, passed_over::Tries::default())
        .await
        .unwrap();
    assert_eq!(spool.first_unsettled().await.unwrap().seq, 1);
    spool.renumber(1).await.unwrap();
    assert_eq!(spool.first_unsettled().await.unwrap().seq, 2);
    let row = spool.next_passed_over(true).await.unwrap().unwrap();
    assert_eq!((row.place, row.key.seq), (1, 1));
    assert_ne!(row.key.writer, spool.id());
}

#[tokio::test]
async fn w21_no_more_rows_are_passed_over_than_there_is_room_for() {
    let folder = Folder::new();
    let spool = with_rows(&folder, &["/"; passed_over::MOST + 1]).await;
    let until = tokio::time::Instant::now() + KEEP;
    let most = i64::try_from(passed_over::MOST).unwrap();
    for place in 1..=most + 1 {
        let tries = passed_over::Tries {
            count: 1,
            successes: 0,
        };
        let is_passed_over = spool.pass_over(place, until, tries).await.unwrap();
        assert_eq!(is_passed_over, place <= most);
        assert_eq!(spool.tries(place).is_some(), place <= most);
    }
    assert_eq!(spool.passed_over().rows, passed_over::MOST);
    assert!(
        spool
            .pass_over(1, until, passed_over::Tries::default())
            .await
            .unwrap(),
        "again"
    );
    // What is gone takes no room, nor is anything remembered of it.
    spool.remove_rows(&[1]).await.unwrap();
    assert_eq!(spool.tries(1), None);
    assert!(
        spool
            .pass_over(most + 1, until, passed_over::Tries::default())
            .await
            .unwrap()
    );
}

/// What is known of a row may be less than what the file has of it, where the disk takes nothing.
#[tokio::test]
async fn w12_what_is_passed_over_is_counted_as_the_file_has_it() {
    let folder = Folder::new();
    let spool = folder.directory.create().await.unwrap();
    let StoredViews::Unresolved(one) = with_token("/x", "3f0c2a-secret-token") else {
        panic!("unresolved")
    };
    let three = StoredViews::Unresolved(vec![one[0].clone(), one[0].clone(), one[0].clone()]);
    spool.append_all(&[three]).await.unwrap();
    let until = tokio::time::Instant::now() + KEEP;
    spool.fail_commits([Some(faults::Fault::Lost)]);
    spool.resolve_row(1, vec![recorded("/x")]).await.unwrap();
    assert!(spool.has_offered_unresolved());
    spool
        .pass_over(1, until, passed_over::Tries::default())
        .await
        .unwrap();
    assert_eq!((spool.waiting().views, spool.passed_over().views), (3, 3));
    // Now the disk takes it.
    spool.resolve_row(1, vec![recorded("/x")]).await.unwrap();
    assert_eq!((spool.waiting().views, spool.passed_over().views), (1, 1));
}
