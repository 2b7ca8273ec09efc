//! Tests of spools in a folder of their own; a crash is a spool that is dropped without being closed.

mod alone;
mod directory;
mod fresh;
mod full_disk;
mod kept;
mod letters;
mod passing_over;
mod tokens;
mod version_1;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use tempfile::TempDir;

use super::*;
use crate::config;
use crate::ids::SessionToken;
use crate::page_view::PageView;
use crate::writer::testing::{recorded, view};
use crate::writer::unresolved::{UnresolvedView, VisitorRef};

const ALL: Most = Most {
    rows: 1_000,
    views: u64::MAX,
    bytes: u64::MAX,
};
const KEEP: Duration = Duration::from_secs(60);

struct Folder {
    home: TempDir,
    directory: Directory,
}

impl Folder {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let directory = Directory::prepare(&settings(&home)).unwrap();
        Self { home, directory }
    }

    fn path(&self) -> PathBuf {
        self.home.path().join("spool")
    }

    /// Names of the files, without those that come and go with a connection.
    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !["-wal", "-shm"].iter().any(|end| name.ends_with(end)))
            .collect();
        names.sort();
        names
    }

    /// Everything that is on disk. What goes with a connection that is just being closed may be missing.
    fn bytes(&self) -> Vec<u8> {
        let entries = std::fs::read_dir(self.path()).unwrap();
        let read = |path| match std::fs::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            read => read.unwrap(),
        };
        entries.flat_map(|entry| read(entry.unwrap().path())).collect()
    }

    fn contains(&self, text: &str) -> bool {
        self.bytes()
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    }
}

fn settings(home: &TempDir) -> config::Spool {
    config::Spool {
        dir: home.path().join("spool"),
        max_bytes: ByteSize::mib(1),
        ..config::Spool::default()
    }
}

async fn next(spool: &Spool) -> Vec<Row> {
    spool.next(ALL, 0).await.unwrap()
}

fn urls(rows: &[Row]) -> Vec<Vec<String>> {
    let url = |view: &PageView| view.url.clone();
    rows.iter()
        .map(|row| match row.body.as_ref().expect("whole") {
            StoredViews::Recorded(views) => views.iter().map(|recorded| url(&recorded.view)).collect(),
            StoredViews::Unresolved(views) => views.iter().map(|unresolved| url(&unresolved.view)).collect(),
        })
        .collect()
}

fn some(urls: &[&str]) -> StoredViews {
    StoredViews::Recorded(urls.iter().map(|url| recorded(url)).collect())
}

fn with_token(url: &str, token: &str) -> StoredViews {
    StoredViews::Unresolved(vec![UnresolvedView {
        view: view(url),
        whose: VisitorRef::Token(SessionToken::new(token)),
    }])
}

async fn with_rows(folder: &Folder, rows: &[&str]) -> Arc<Spool> {
    let spool = folder.directory.create().await.unwrap();
    for url in rows {
        spool.append_all(&[some(&[url])]).await.unwrap();
    }
    spool
}

#[tokio::test]
async fn rows_come_in_the_order_in_which_they_went_in_and_stay_until_they_are_removed() {
    let folder = Folder::new();
    let spool = folder.directory.create().await.unwrap();
    spool.append_all(&[some(&["/1", "/2"])]).await.unwrap();
    spool.append_all(&[some(&["/3"]), some(&["/4"])]).await.unwrap();
    let rows = next(&spool).await;
    assert_eq!(urls(&rows), [vec!["/1", "/2"], vec!["/3"], vec!["/4"]]);
    assert_eq!(urls(&next(&spool).await).len(), 3, "looking takes nothing away");
    assert_eq!(spool.waiting().views, 4);

    let few = async |most| spool.next(most, 0).await.unwrap().len();
    assert_eq!(few(Most { views: 2, ..ALL }).await, 1, "by views");
    assert_eq!(few(Most { views: 3, ..ALL }).await, 2, "by views");
    assert_eq!(few(Most { bytes: 1, ..ALL }).await, 1, "by bytes");
    assert_eq!(few(Most { rows: 2, ..ALL }).await, 2, "by rows");
    let behind = spool.next(ALL, rows[0].place).await.unwrap();
    assert_eq!(urls(&behind), [["/3"], ["/4"]], "behind a place");

    spool.remove_rows(&[rows[0].place, rows[1].place]).await.unwrap();
    assert_eq!(urls(&next(&spool).await), [vec!["/4"]]);
    let counted = spool.waiting();
    assert_eq!(counted.views, 1);
    assert_eq!(spool.refresh().await.unwrap(), counted, "kept as counted");
    spool.remove_rows(&[rows[2].place]).await.unwrap();
    assert_eq!(spool.waiting(), SpoolTotals::default());
}

#[tokio::test]
async fn a_number_is_never_given_twice() {
    let folder = Folder::new();
    let spool = folder.directory.create().await.unwrap();
    let mut keys = Vec::new();
    for _ in 0..3 {
        assert_eq!(
            spool.first_unsettled().await.unwrap().seq,
            i64::try_from(keys.len()).unwrap() + 1
        );
        spool.append_all(&[some(&["/"])]).await.unwrap();
        let [row] = &next(&spool).await[..] else {
            panic!("one row")
        };
        assert_eq!(row.key.writer, spool.id());
        assert_eq!(spool.first_unsettled().await.unwrap(), row.key);
        assert!(!keys.contains(&row.key));
        keys.push(row.key);
        spool.remove_rows(&[row.place]).await.unwrap();
    }
}

#[tokio::test]
async fn views_read_back_as_they_were_written() {
    let folder = Folder::new();
    let spool = folder.directory.create().await.unwrap();
    let written = vec![recorded("/ä?q=\u{1F980}"), recorded("/\u{7f}\"\\")];
    spool
        .append_all(&[StoredViews::Recorded(written.clone())])
        .await
        .unwrap();
    spool.append_all(&[with_token("/x", "a-token")]).await.unwrap();
    let rows = next(&spool).await;
    assert_eq!(rows[0].body, Some(StoredViews::Recorded(written)));
    assert_eq!(rows[1].body, Some(with_token("/x", "a-token")));
}

#[tokio::test]
async fn a_row_with_damaged_bytes_is_passed_over_and_its_file_is_kept() {
    let folder = Folder::new();
    let spool = folder.directory.create().await.unwrap();
    spool.append_all(&[some(&["/whole"])]).await.unwrap();
    spool.append_all(&[some(&["/hurt"])]).await.unwrap();
    {
        let mut lease = spool.lease().await.unwrap();
        sqlx::query("UPDATE batch SET body = replace(body, 'hurt', 'HURT') WHERE place = 2")
            .execute(lease.connection())
            .await
            .unwrap();
    }
    let rows = next(&spool).await;
    assert!(rows[0].body.is_some());
    assert_eq!((&rows[1].body, rows[1].views), (&None, 1));
    spool.mark_damaged(rows[1].place).await.unwrap();
    assert_eq!(urls(&next(&spool).await), [["/whole"]]);
    spool.remove_rows(&[rows[0].place]).await.unwrap();
    assert_eq!(spool.waiting().views, 0);

    let heir = folder.directory.create().await.unwrap();
    spool.retire(&heir).await.unwrap();
    let aside = format!("{}.spool.set-aside", spool.id());
    assert!(folder.files().contains(&aside), "{:?}", folder.files());
    assert!(folder.contains("HURT"));
}

#[tokio::test]
async fn a_row_is_split_into_rows_with_keys_of_their_own() {
    let folder = Folder::new();
    let spool = folder.directory.create().await.unwrap();
    spool.append_all(&[some(&["/1", "/2", "/3"])]).await.unwrap();
    let row = next(&spool).await.remove(0);
    let Some(StoredViews::Recorded(views)) = row.body else {
        panic!("recorded")
    };
    spool.split_row(row.place, &views).await.unwrap();
    let rows = next(&spool).await;
    assert_eq!(urls(&rows), [vec!["/1"], vec!["/2", "/3"]]);
    assert!(rows.iter().all(|half| half.key.seq > row.key.seq));
    assert_eq!(spool.waiting().views, 3);
}

/// Under another key a copy of it would be another part.
#[tokio::test]
async fn w20_a_spool_tells_that_it_took_what_seemed_to_fail_though_that_was_split_since() {
    let folder = Folder::new();
    let spool = folder.directory.create().await.unwrap();
    let bodies = [some(&["/1", "/2"])];
    for (fault, is_there) in [(faults::Fault::Lost, false), (faults::Fault::Kept, true)] {
        let mut append = append::Append::new(bodies.to_vec());
        spool.fail_commits([Some(fault)]);
        spool.append(&mut append).await.unwrap_err();
        for row in next(&spool).await {
            let Some(StoredViews::Recorded(views)) = &row.body else {
                panic!("recorded")
            };
            spool.split_row(row.place, views).await.unwrap();
        }
        assert_eq!(spool.has_taken(&append).await.unwrap(), is_there);
    }
    let other = folder.directory.create().await.unwrap();
    assert!(
        !other
            .has_taken(&append::Append::new(bodies.to_vec()))
            .await
            .unwrap()
    );
}
