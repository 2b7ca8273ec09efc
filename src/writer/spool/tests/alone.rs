//! Tests of rows that are appended by a statement that is its own transaction: each but the first of a spool.

use super::*;
use crate::writer::spool::append::Append;
use crate::writer::spool::faults::Fault;

/// Another process puts a copy of the first row into the file, under this key.
async fn another_process_inserts(spool: &Spool, writer: WriterId, seq: i64) {
    let mut connection = file::connect(&spool.files.database, false).await.unwrap();
    sqlx::query(
        "INSERT INTO batch (writer_id, batch_seq, state, views, bytes, checksum, oldest_at, body)
         SELECT ?1, ?2, state, views, bytes, checksum, oldest_at, body FROM batch WHERE place = 1",
    )
    .bind(writer.to_string())
    .bind(seq)
    .execute(&mut connection)
    .await
    .unwrap();
}

#[tokio::test]
async fn w36_a_place_that_another_process_has_taken_is_left_to_it() {
    let folder = Folder::new();
    let spool = with_rows(&folder, &["/1"]).await;
    another_process_inserts(&spool, WriterId::random(), 7).await;
    for url in ["/2", "/3"] {
        spool.append_all(&[some(&[url])]).await.unwrap();
    }
    let rows = next(&spool).await;
    assert_eq!(urls(&rows), [["/1"], ["/1"], ["/2"], ["/3"]]);
    for own in rows.iter().filter(|row| row.key.writer == spool.id()) {
        assert_eq!(own.key.seq, own.place);
    }
}

#[tokio::test]
async fn w36_a_statement_that_failed_is_looked_for_before_it_is_tried_again() {
    let folder = Folder::new();
    for fault in [Fault::Lost, Fault::Kept] {
        let spool = with_rows(&folder, &["/1"]).await;
        let mut append = Append::new(vec![some(&["/2"])]);
        spool.fail_commits([Some(fault)]);
        spool.append(&mut append).await.unwrap_err();
        assert_eq!(spool.has_taken(&append).await.unwrap(), fault == Fault::Kept);
        spool.append(&mut append).await.unwrap();
        assert_eq!(urls(&next(&spool).await), [["/1"], ["/2"]], "{fault:?}");
        assert_eq!(spool.waiting().views, 2);
    }
}

/// It may have the very key that the failed one would have had.
#[tokio::test]
async fn w36_a_row_of_another_process_is_not_taken_for_the_one_that_failed() {
    let folder = Folder::new();
    let spool = with_rows(&folder, &["/1"]).await;
    let mut append = Append::new(vec![some(&["/2"])]);
    spool.fail_commits([Some(Fault::Lost)]);
    spool.append(&mut append).await.unwrap_err();
    another_process_inserts(&spool, spool.id(), 2).await;
    spool.append(&mut append).await.unwrap();
    assert_eq!(urls(&next(&spool).await), [["/1"], ["/1"], ["/2"]]);
}

#[tokio::test]
async fn w36_the_age_of_the_oldest_is_known_without_asking_the_file() {
    let folder = Folder::new();
    let spool = with_rows(&folder, &["/1", "/2"]).await;
    let counted = spool.waiting();
    assert_eq!(counted.oldest, Some(view("/1").at));
    assert_eq!(spool.count_all().await.unwrap(), counted);
    spool.remove_rows(&[1, 2]).await.unwrap();
    assert_eq!(spool.waiting().oldest, None);
    spool.append_all(&[some(&["/3"])]).await.unwrap();
    let counted = spool.waiting();
    assert_eq!(counted.oldest, Some(view("/3").at));
    assert_eq!(spool.count_all().await.unwrap(), counted);
}
