//! Tests of rows that were just appended, taken from memory.

use super::*;
use crate::writer::spool::append::Append;
use crate::writer::spool::faults::Fault;

/// The file's bytes become unreadable: what is read all the same is from memory.
async fn hurt(spool: &Spool) {
    let mut lease = spool.lease().await.unwrap();
    sqlx::query("UPDATE batch SET checksum = checksum + 1")
        .execute(lease.connection())
        .await
        .unwrap();
    lease.done();
}

fn are_whole(rows: &[Row]) -> Vec<bool> {
    rows.iter().map(|row| row.body.is_some()).collect()
}

#[tokio::test]
async fn w32_what_was_just_appended_is_taken_from_memory_once() {
    let folder = Folder::new();
    let spool = folder.directory.create().await.unwrap();
    spool
        .append(&mut Append::new(vec![
            some(&["/1", "/2"]),
            with_token("/3", "a-token"),
        ]))
        .await
        .unwrap();
    let from_memory = next(&spool).await;
    let from_file = next(&spool).await;
    assert_eq!(urls(&from_memory), [vec!["/1", "/2"], vec!["/3"]]);
    for (one, other) in from_memory.iter().zip(&from_file) {
        assert_eq!(
            (&one.body, one.place, one.key, one.views),
            (&other.body, other.place, other.key, other.views)
        );
    }

    spool.append(&mut Append::new(vec![some(&["/4"])])).await.unwrap();
    hurt(&spool).await;
    assert_eq!(are_whole(&next(&spool).await), [false, false, true]);
    assert_eq!(are_whole(&next(&spool).await), [false, false, false], "once");
}

#[tokio::test]
async fn w32_what_finds_no_room_in_memory_is_read_from_the_file() {
    let folder = Folder::new();
    let spool = folder.directory.create().await.unwrap();
    let large = "/x".repeat(crate::writer::spool::fresh::MOST);
    for url in ["/1", &large, "/3"] {
        spool.append(&mut Append::new(vec![some(&[url])])).await.unwrap();
    }
    assert_eq!(urls(&next(&spool).await), [["/1"], [&*large], ["/3"]]);
    for url in ["/4", &large, "/6"] {
        spool.append(&mut Append::new(vec![some(&[url])])).await.unwrap();
    }
    hurt(&spool).await;
    assert_eq!(
        are_whole(&next(&spool).await),
        [false, false, false, true, false, true]
    );
}

/// A group whose commit failed may be in the file or not: only the file tells, and another may take its place.
#[tokio::test]
async fn w32_what_may_not_be_committed_is_not_taken_from_memory() {
    let folder = Folder::new();
    for fault in [Fault::Lost, Fault::Kept] {
        let spool = folder.directory.create().await.unwrap();
        spool.fail_commits([Some(fault)]);
        spool
            .append(&mut Append::new(vec![some(&["/given-up"])]))
            .await
            .unwrap_err();
        spool.append(&mut Append::new(vec![some(&["/1"])])).await.unwrap();
        let expected: &[[&str; 1]] = match fault {
            Fault::Lost => &[["/1"]],
            Fault::Kept => &[["/given-up"], ["/1"]],
        };
        assert_eq!(urls(&next(&spool).await), expected);
    }
}

#[tokio::test]
async fn w32_a_row_that_was_resolved_is_what_it_was_resolved_to() {
    let folder = Folder::new();
    let spool = folder.directory.create().await.unwrap();
    spool
        .append(&mut Append::new(vec![with_token("/x", "a-token")]))
        .await
        .unwrap();
    let place = next(&spool).await[0].place;
    spool.resolve_row(place, vec![recorded("/x")]).await.unwrap();
    assert_eq!(next(&spool).await[0].body, Some(some(&["/x"])));
}
