//! Tests of a disk that takes nothing.

use super::*;

/// Keeps the file from growing, as a full disk does, until the connection is made anew.
pub(super) async fn fill_the_disk(spool: &Spool) {
    let mut lease = spool.lease().await.unwrap();
    let pages: i64 = sqlx::query_scalar("PRAGMA page_count")
        .fetch_one(lease.connection())
        .await
        .unwrap();
    let limit = format!("PRAGMA max_page_count = {pages}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(limit))
        .execute(lease.connection())
        .await
        .unwrap();
    lease.done();
}

#[tokio::test]
async fn w12_after_a_full_disk_the_spool_takes_views_again() {
    let folder = Folder::new();
    let spool = folder.directory.create().await.unwrap();
    spool.append_all(&[some(&["/before"])]).await.unwrap();
    let large = "/large".repeat(2_000);
    for _ in 0..3 {
        fill_the_disk(&spool).await;
        let error = spool.append_all(&[some(&[&large])]).await.unwrap_err();
        assert!(error.is_unwritable(), "{error:?}");
    }
    spool.append_all(&[some(&["/after"])]).await.unwrap();
    assert_eq!(urls(&next(&spool).await), [["/before"], ["/after"]]);
    assert_eq!(spool.count_all().await.unwrap(), spool.waiting());
}

/// As `headcount dead-letters` is: what is kept is not given up for it.
#[tokio::test]
async fn w12_a_file_that_somebody_else_is_at_is_no_full_disk() {
    let folder = Folder::new();
    let spool = folder.directory.create().await.unwrap();
    spool.append_all(&[some(&["/before"])]).await.unwrap();
    let mut other = file::connect(&spool.files.database, false).await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT * FROM batch")
        .execute(&mut other)
        .await
        .unwrap();
    {
        let mut lease = spool.lease().await.unwrap();
        let at_once = sqlx::raw_sql("PRAGMA busy_timeout = 0");
        at_once.execute(lease.connection()).await.unwrap();
        lease.done();
    }
    // What may not be on disk is put there again, for which nobody else may be at the file.
    spool.append_all(&[some(&["/between"])]).await.unwrap();
    spool.is_synced.store(false, Ordering::Relaxed);
    let busy = spool.append_all(&[some(&["/after"])]).await.unwrap_err();
    assert!(matches!(busy, SpoolError::Folder(_)), "{busy:?}");
    assert!(!busy.is_unwritable());
    let full = SpoolError::from(std::io::Error::from(std::io::ErrorKind::StorageFull));
    assert!(full.is_unwritable());
}
