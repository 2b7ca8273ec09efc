//! Tests of session tokens: on disk only until their views are resolved.

use super::full_disk::fill_the_disk;
use super::*;

const TOKEN: &str = "3f0c2a-secret-token-of-alice";

#[tokio::test]
async fn a_token_is_in_the_file_only_until_its_view_is_resolved() {
    let folder = Folder::new();
    let spool = folder.directory.create().await.unwrap();
    for round in 0..2 {
        for _ in 0..20 {
            spool
                .append_all(&[with_token("/x", TOKEN), some(&["/y"])])
                .await
                .unwrap();
        }
        assert!(folder.contains(TOKEN));
        assert!(spool.waiting().unresolved_bytes > 0);
        for row in next(&spool).await {
            let views = if round == 0 {
                vec![recorded("/x")]
            } else {
                Vec::new()
            };
            if matches!(row.body, Some(StoredViews::Unresolved(_))) {
                spool.resolve_row(row.place, views).await.unwrap();
            }
        }
        assert!(!folder.contains(TOKEN), "round {round}");
        assert_eq!(spool.waiting().unresolved_bytes, 0);
    }
    assert_eq!(spool.waiting().views, 60);
    assert_eq!(spool.refresh().await.unwrap().views, 60);
}

#[tokio::test]
async fn a_token_whose_row_was_replaced_just_before_a_crash_is_gone_when_the_spool_is_taken_over() {
    let folder = Folder::new();
    let spool = folder.directory.create().await.unwrap();
    spool.append_all(&[with_token("/x", TOKEN)]).await.unwrap();
    {
        let mut lease = spool.lease().await.unwrap();
        sqlx::raw_sql("DELETE FROM batch")
            .execute(lease.connection())
            .await
            .unwrap();
    }
    assert!(folder.contains(TOKEN));
    drop(spool);
    let adopted = folder.directory.adopt(&[], 8).await.unwrap();
    assert_eq!(adopted.len(), 1);
    assert!(!folder.contains(TOKEN));
}

#[tokio::test]
async fn a_view_whose_token_is_damaged_is_a_damaged_row() {
    let folder = Folder::new();
    let spool = folder.directory.create().await.unwrap();
    spool
        .append_all(&[with_token("/x", "3f0c2a-secret-token")])
        .await
        .unwrap();
    std::fs::write(folder.path().join(format!("{}.tokens", spool.id())), "").unwrap();
    assert!(next(&spool).await[0].body.is_none());
}

#[tokio::test]
async fn a_token_whose_row_could_not_be_written_is_written_over() {
    let folder = Folder::new();
    let spool = folder.directory.create().await.unwrap();
    fill_the_disk(&spool).await;
    let large = "/large".repeat(2_000);
    let refused = "1111111111-refused-token";
    spool
        .append_all(&[with_token(&large, refused)])
        .await
        .unwrap_err();
    let taken = "2222222222-written-token";
    spool.append_all(&[with_token("/x", taken)]).await.unwrap();
    assert!(folder.contains(taken) && !folder.contains(refused));
    assert_eq!(next(&spool).await[0].body, Some(with_token("/x", taken)));
}
