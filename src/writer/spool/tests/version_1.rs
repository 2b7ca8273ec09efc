//! Tests of spool files of version 1. The one in `tests/integration/support/spool-v1` was written by such a version: nine
//! recorded views, two with tokens, and a dead letter.

use std::path::Path;

use super::*;

const FILE: &str = "01a2259f-779b-7340-981d-e0fd03f711d0";

/// The file, adopted.
async fn adopted(folder: &Folder) -> Arc<Spool> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/support/spool-v1");
    for extension in ["spool", "tokens"] {
        let name = format!("{FILE}.{extension}");
        std::fs::copy(source.join(&name), folder.path().join(&name)).unwrap();
    }
    folder.directory.adopt(&[], 1).await.unwrap().remove(0)
}

async fn version(spool: &Spool) -> i64 {
    let mut lease = spool.lease().await.unwrap();
    let version = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(lease.connection())
        .await
        .unwrap();
    lease.done();
    version
}

#[tokio::test]
async fn w31_a_file_of_version_1_is_read() {
    let folder = Folder::new();
    let spool = adopted(&folder).await;
    assert_eq!((spool.waiting().views, spool.waiting().dead_letters), (11, 1));
    let rows = next(&spool).await;
    let pages = [
        "/communities/900001/",
        "/communities/900001/posts/5/",
        "/elsewhere/ä/",
    ];
    assert_eq!(
        urls(&rows),
        [
            [pages, pages, pages].concat(),
            vec!["/communities/900001/", "/c/spool-v1/"]
        ]
    );
    let Some(StoredViews::Recorded(views)) = &rows[0].body else {
        panic!("recorded")
    };
    assert_eq!(views[1].user_id.as_str(), "900001");
    assert_eq!(
        views[1].session_id,
        Some("00000000-0000-4000-8000-000000000001".into())
    );
    assert_eq!(views[1].view.page_type.as_deref(), Some("post"));
    assert_eq!(views[1].view.at.to_string(), "2026-11-29 04:46:07.664923655 UTC");
    let Some(StoredViews::Unresolved(views)) = &rows[1].body else {
        panic!("unresolved")
    };
    let VisitorRef::Token(token) = &views[1].whose else {
        panic!("a token")
    };
    assert_eq!(token.expose_secret(), "spool-v1-session-5");
    let letters = folder.directory.dead_letters().await.unwrap();
    let view = &letters[0].view.as_ref().unwrap().view;
    assert_eq!((letters.len(), &*view.url), (1, "/communities/900001/posts/1/"));
}

/// So that the version which wrote it can still take it over.
#[tokio::test]
async fn w31_a_file_of_version_1_stays_one_until_something_is_put_into_it() {
    let folder = Folder::new();
    let spool = adopted(&folder).await;
    let row = next(&spool).await.remove(0);
    assert_eq!(version(&spool).await, 1, "reading leaves it as it is");
    let Some(StoredViews::Recorded(views)) = row.body else {
        panic!("recorded")
    };
    spool.fail_commits([Some(faults::Fault::Lost)]);
    spool.split_row(row.place, &views).await.unwrap_err();
    assert_eq!(version(&spool).await, 1, "as is what failed");
    spool.split_row(row.place, &views).await.unwrap();
    assert_eq!(version(&spool).await, 2);
    assert_eq!(urls(&next(&spool).await).concat().len(), 11);

    let spool = folder.directory.create().await.unwrap();
    assert_eq!(version(&spool).await, 2);
}

#[tokio::test]
async fn w31_views_of_version_1_that_are_resolved_make_the_file_one_of_version_2() {
    let folder = Folder::new();
    let spool = adopted(&folder).await;
    let place = next(&spool).await[1].place;
    spool.resolve_row(place, vec![recorded("/x")]).await.unwrap();
    assert_eq!(version(&spool).await, 2);
    assert_eq!(urls(&next(&spool).await)[1], ["/x"]);
}
