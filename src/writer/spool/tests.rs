//! Tests of spools in a folder of their own; a crash is a spool that is dropped without being closed.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use bytesize::ByteSize;
use tempfile::TempDir;

use super::directory::DirectoryError;
use super::letters::Fate;
use super::*;
use crate::batch::RecordedView;
use crate::config;
use crate::ids::SessionToken;
use crate::page_view::PageView;
use crate::writer::testing::{recorded, view};
use crate::writer::unresolved::{UnresolvedView, Whose};

const ALL: (usize, u64, u64) = (1_000, u64::MAX, u64::MAX);
const MIB: u64 = 1024 * 1024;

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
    spool.next(ALL.0, ALL.1, ALL.2).await.unwrap()
}

fn urls(rows: &[Row]) -> Vec<Vec<String>> {
    let url = |view: &PageView| view.url.clone();
    rows.iter()
        .map(|row| match row.body.as_ref().expect("whole") {
            Body::Recorded(views) => views.iter().map(|recorded| url(&recorded.view)).collect(),
            Body::Unresolved(views) => views.iter().map(|unresolved| url(&unresolved.view)).collect(),
        })
        .collect()
}

fn some(urls: &[&str]) -> Body {
    Body::Recorded(urls.iter().map(|url| recorded(url)).collect())
}

fn with_token(url: &str, token: &str) -> Body {
    Body::Unresolved(vec![UnresolvedView {
        view: view(url),
        whose: Whose::Token(SessionToken::new(token)),
    }])
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

    assert_eq!(spool.next(ALL.0, 2, ALL.2).await.unwrap().len(), 1, "by views");
    assert_eq!(spool.next(ALL.0, 3, ALL.2).await.unwrap().len(), 2, "by views");
    assert_eq!(spool.next(ALL.0, ALL.1, 1).await.unwrap().len(), 1, "by bytes");
    assert_eq!(spool.next(2, ALL.1, ALL.2).await.unwrap().len(), 2, "by rows");

    spool.remove_rows(&[rows[0].place, rows[1].place]).await.unwrap();
    assert_eq!(urls(&next(&spool).await), [vec!["/4"]]);
    let counted = spool.waiting();
    assert_eq!(counted.views, 1);
    assert_eq!(spool.refresh().await.unwrap(), counted, "kept as counted");
    spool.remove_rows(&[rows[2].place]).await.unwrap();
    assert_eq!(spool.waiting(), Waiting::default());
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
        .append_all(&[Body::Recorded(written.clone())])
        .await
        .unwrap();
    spool.append_all(&[with_token("/x", "a-token")]).await.unwrap();
    let rows = next(&spool).await;
    assert_eq!(rows[0].body, Some(Body::Recorded(written)));
    assert_eq!(rows[1].body, Some(with_token("/x", "a-token")));
}

#[tokio::test]
async fn what_a_process_leaves_behind_is_taken_over_by_another_and_by_one_only() {
    let folder = Folder::new();
    let spool = folder.directory.create().await.unwrap();
    spool.append_all(&[some(&["/1"])]).await.unwrap();
    assert!(
        folder.directory.adopt(&[], 8).await.unwrap().is_empty(),
        "its owner lives"
    );
    let id = spool.id();
    drop(spool);
    assert!(folder.directory.adopt(&[id], 8).await.unwrap().is_empty(), "held");
    let adopted = folder.directory.adopt(&[], 8).await.unwrap();
    assert_eq!(adopted.len(), 1);
    assert_eq!((adopted[0].id(), adopted[0].waiting().views), (id, 1));
    assert_eq!(urls(&next(&adopted[0]).await), [["/1"]]);
    assert!(folder.directory.adopt(&[], 8).await.unwrap().is_empty(), "taken");
}

#[tokio::test]
async fn a_spool_that_is_closed_empty_leaves_nothing_behind() {
    let folder = Folder::new();
    let spool = folder.directory.create().await.unwrap();
    spool.append_all(&[some(&["/1"])]).await.unwrap();
    let place = next(&spool).await[0].place;
    spool.remove_rows(&[place]).await.unwrap();
    spool.close().await;
    assert_eq!(folder.files(), [""; 0]);
    assert!(matches!(
        spool.append_all(&[some(&["/"])]).await,
        Err(SpoolError::Closed)
    ));

    let spool = folder.directory.create().await.unwrap();
    spool.append_all(&[some(&["/1"])]).await.unwrap();
    spool.close().await;
    assert_eq!(folder.files().len(), 3, "database, tokens and lock");
}

#[tokio::test]
async fn files_are_their_users_alone() {
    let folder = Folder::new();
    let spool = folder.directory.create().await.unwrap();
    spool.append_all(&[some(&["/1"])]).await.unwrap();
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(folder.path()), 0o700);
    let entries: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(entries.len() >= 3, "database, log and lock");
    for entry in entries {
        assert_eq!(mode(entry.unwrap().path()), 0o600);
    }
}

#[tokio::test]
async fn a_folder_that_others_can_read_or_that_is_none_is_refused_with_the_remedy() {
    let home = tempfile::tempdir().unwrap();
    let settings = settings(&home);
    std::fs::create_dir(&settings.dir).unwrap();
    let refused = |mode| {
        std::fs::set_permissions(&settings.dir, std::fs::Permissions::from_mode(mode)).unwrap();
        Directory::prepare(&settings).unwrap_err().to_string()
    };
    for mode in [0o750, 0o701, 0o777] {
        let told = refused(mode);
        assert!(told.contains(&format!("mode 0{mode:o}")), "{told}");
        assert!(
            told.ends_with(&format!("run: chmod 700 {}", settings.dir.display())),
            "{told}"
        );
    }
    std::fs::remove_dir(&settings.dir).unwrap();
    std::fs::write(&settings.dir, "").unwrap();
    let error = Directory::prepare(&settings).unwrap_err();
    assert!(matches!(error, DirectoryError::Write { .. }), "{error}");
    let below = config::Spool {
        dir: settings.dir.join("below"),
        ..settings
    };
    let error = Directory::prepare(&below).unwrap_err();
    assert!(error.to_string().starts_with("spool.dir: "), "{error}");
}

#[tokio::test]
async fn a_file_that_is_no_spool_is_set_aside_as_it_is_and_one_of_a_later_version_left_alone() {
    let folder = Folder::new();
    let name = |id| folder.path().join(format!("{id}.spool"));
    let garbage = name(WriterId::random());
    std::fs::write(&garbage, [0x5a; 8192]).unwrap();
    let foreign = name(WriterId::random());
    let newer = name(WriterId::random());
    for (path, sql) in [
        (&foreign, "CREATE TABLE songs (id)"),
        (
            &newer,
            "PRAGMA application_id = 1212370516; PRAGMA user_version = 2; CREATE TABLE batch (id)",
        ),
    ] {
        std::fs::write(path, "").unwrap();
        let mut connection = file::connect(path, false).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        sqlx::Connection::close(connection).await.unwrap();
    }
    let before = [&garbage, &foreign, &newer].map(|path| std::fs::read(path).unwrap());
    assert!(folder.directory.adopt(&[], 8).await.unwrap().is_empty());
    for (path, content) in [&garbage, &foreign].into_iter().zip(&before) {
        assert!(!path.exists());
        let aside = PathBuf::from(format!("{}.set-aside", path.display()));
        assert!(&std::fs::read(aside).unwrap() == content, "{}", path.display());
    }
    // Where the later version looks for it.
    assert!(std::fs::read(&newer).unwrap() == before[2]);
    assert!(folder.directory.dead_letters().await.unwrap().is_empty());
    assert!(
        std::fs::read(&newer).unwrap() == before[2],
        "nobody else opens it either"
    );
}

#[tokio::test]
async fn a_file_in_which_nothing_was_written_is_removed() {
    let folder = Folder::new();
    std::fs::write(folder.path().join(format!("{}.spool", WriterId::random())), "").unwrap();
    assert!(folder.directory.adopt(&[], 8).await.unwrap().is_empty());
    assert_eq!(folder.files(), [""; 0]);
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
async fn a_token_is_in_the_file_only_until_its_view_is_resolved() {
    const TOKEN: &str = "3f0c2a-secret-token-of-alice";
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
            if matches!(row.body, Some(Body::Unresolved(_))) {
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
    const TOKEN: &str = "3f0c2a-secret-token-of-alice";
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
async fn a_row_is_split_into_rows_with_keys_of_their_own() {
    let folder = Folder::new();
    let spool = folder.directory.create().await.unwrap();
    spool.append_all(&[some(&["/1", "/2", "/3"])]).await.unwrap();
    let row = next(&spool).await.remove(0);
    let Some(Body::Recorded(views)) = row.body else {
        panic!("recorded")
    };
    spool.split_row(row.place, &views).await.unwrap();
    let rows = next(&spool).await;
    assert_eq!(urls(&rows), [vec!["/1"], vec!["/2", "/3"]]);
    assert!(rows.iter().all(|half| half.key.seq > row.key.seq));
    assert_eq!(spool.waiting().views, 3);
}

/// A spool with two dead letters, and their keys.
async fn with_letters(folder: &Folder) -> (std::sync::Arc<Spool>, [BatchKey; 2]) {
    let spool = folder.directory.create().await.unwrap();
    spool
        .append_all(&[some(&["/1"]), some(&["/2"]), some(&["/3"])])
        .await
        .unwrap();
    let rows = next(&spool).await;
    for row in &rows[..2] {
        let buried = spool
            .bury_row(row.place, "no such user", Utc::now(), MIB)
            .await
            .unwrap();
        assert_eq!(buried, Buried::Kept);
    }
    let waiting = spool.waiting();
    assert_eq!((waiting.views, waiting.dead_letters), (1, 2));
    let letters = folder.directory.dead_letters().await.unwrap();
    let keys = letters.iter().map(|letter| letter.key).filter(|key| {
        // Of nobody else, so that nothing settles it.
        assert_ne!(key.writer, spool.id());
        rows[..2].iter().any(|row| row.key.seq == key.seq)
    });
    let keys: Vec<BatchKey> = keys.collect();
    (spool, keys[keys.len() - 2..].try_into().unwrap())
}

fn seen(letter: &letters::DeadLetter) -> (BatchKey, String, String) {
    let view: Option<&RecordedView> = letter.view.as_ref();
    (
        letter.key,
        view.expect("whole").view.url.clone(),
        letter.reason.clone(),
    )
}

#[tokio::test]
async fn w1_a_dead_letter_is_listed_with_its_reason_retried_under_its_key_or_dropped() {
    let folder = Folder::new();
    let (spool, [first, second]) = with_letters(&folder).await;
    // While its owner has it open.
    let listed = folder.directory.dead_letters().await.unwrap();
    let listed: Vec<_> = listed.iter().map(seen).collect();
    let letter = |key, url: &str| (key, url.to_owned(), "no such user".to_owned());
    assert_eq!(listed, [letter(first, "/1"), letter(second, "/2")]);

    let decide = async |fate, key| folder.directory.decide(fate, Some(&[key])).await.unwrap();
    assert_eq!(decide(Fate::Retry, first).await, 1);
    assert_eq!(decide(Fate::Retry, first).await, 0, "it is one no more");
    let waiting = spool.refresh().await.unwrap();
    assert_eq!((waiting.views, waiting.dead_letters), (2, 1));
    let rows = next(&spool).await;
    assert_eq!(urls(&rows), [["/3"], ["/1"]]);
    assert_eq!(rows[1].key, first);
    assert_eq!(spool.first_unsettled().await.unwrap(), rows[0].key);

    assert_eq!(decide(Fate::Drop, second).await, 1);
    assert_eq!(folder.directory.decide(Fate::Drop, None).await.unwrap(), 0);
    assert!(folder.directory.dead_letters().await.unwrap().is_empty());
}

#[tokio::test]
async fn dead_letters_outlive_their_spool_and_a_copy_of_one_is_the_same_letter() {
    let folder = Folder::new();
    let (spool, [first, second]) = with_letters(&folder).await;
    let place = next(&spool).await[0].place;
    spool.remove_rows(&[place]).await.unwrap();
    let heir = folder.directory.create().await.unwrap();
    heir.inherit_letters(&spool).await.unwrap();
    // A crash in between leaves a copy.
    let (copy, _) = with_letters(&folder).await;
    {
        let mut lease = copy.lease().await.unwrap();
        for key in [first, second] {
            sqlx::query("UPDATE dead_letter SET writer_id = ?1 WHERE batch_seq = ?2")
                .bind(key.writer.to_string())
                .bind(key.seq)
                .execute(lease.connection())
                .await
                .unwrap();
        }
    }
    let place = next(&copy).await[0].place;
    copy.remove_rows(&[place]).await.unwrap();
    for old in [&spool, &copy] {
        old.retire(&heir).await.unwrap();
    }
    assert_eq!(folder.files().len(), 3, "the heir's");
    let letters = folder.directory.dead_letters().await.unwrap();
    assert_eq!(
        letters.iter().map(|letter| letter.key).collect::<Vec<_>>(),
        [first, second]
    );
    assert_eq!(heir.waiting().dead_letters, 2);
    heir.close().await;
    assert_eq!(folder.files().len(), 3, "dead letters keep it");
}

#[tokio::test]
async fn dead_letters_take_their_share_and_no_more() {
    let folder = Folder::new();
    let (spool, _) = with_letters(&folder).await;
    let place = next(&spool).await[0].place;
    let buried = spool
        .bury_row(place, "no such user", Utc::now(), 10)
        .await
        .unwrap();
    assert_eq!(buried, Buried::NoRoom);
    let waiting = spool.waiting();
    assert_eq!((waiting.views, waiting.dead_letters), (0, 2));
}

#[tokio::test]
async fn a_letter_that_is_retried_while_its_file_is_being_removed_is_not_lost() {
    for _ in 0..20 {
        let folder = Folder::new();
        let (spool, _) = with_letters(&folder).await;
        let place = next(&spool).await[0].place;
        spool.remove_rows(&[place]).await.unwrap();
        let heir = folder.directory.create().await.unwrap();
        let (retired, decided) =
            tokio::join!(spool.retire(&heir), folder.directory.decide(Fate::Retry, None));
        retired.unwrap();
        decided.unwrap();
        spool.close().await;
        // Gives the lock up: the retry may have come first, and left the views in this file.
        drop(spool);
        let adopted = folder.directory.adopt(&[heir.id()], 8).await.unwrap();
        let mut left = heir.refresh().await.unwrap();
        for spool in &adopted {
            left.views += spool.waiting().views;
            left.dead_letters += spool.waiting().dead_letters;
        }
        assert_eq!(left.views + left.dead_letters, 2);
    }
}

/// Letters that move to a file that was looked at already, or that is being made, are not missed.
#[tokio::test]
async fn w25_letters_that_move_to_another_file_meanwhile_are_decided_on_as_well() {
    for _ in 0..20 {
        let folder = Folder::new();
        // Looked at first.
        let heir = folder.directory.create().await.unwrap();
        let (spool, _) = with_letters(&folder).await;
        let (inherited, decided) = tokio::join!(
            heir.inherit_letters(&spool),
            folder.directory.decide(Fate::Retry, None)
        );
        inherited.unwrap();
        assert_eq!(decided.unwrap(), 2);
        assert!(folder.directory.dead_letters().await.unwrap().is_empty());
    }
}

/// Keeps the file from growing, as a full disk does, until the connection is made anew.
async fn fill_the_disk(spool: &Spool) {
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
        assert!(error.takes_nothing(), "{error:?}");
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
    assert!(!busy.takes_nothing());
    let full = SpoolError::from(std::io::Error::from(std::io::ErrorKind::StorageFull));
    assert!(full.takes_nothing());
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

const KEEP: std::time::Duration = std::time::Duration::from_secs(60);

/// Places of all rows that are kept.
async fn kept(spool: &Spool) -> Vec<i64> {
    let keys = spool.kept_keys(0, i64::MAX, 100).await.unwrap();
    keys.into_iter().map(|(place, _)| place).collect()
}

async fn with_rows(folder: &Folder, rows: &[&str]) -> std::sync::Arc<Spool> {
    let spool = folder.directory.create().await.unwrap();
    for url in rows {
        spool.append_all(&[some(&[url])]).await.unwrap();
    }
    spool
}

#[tokio::test]
async fn w26_rows_that_are_kept_do_not_wait_hold_the_ledger_and_go_when_their_time_is_over() {
    let folder = Folder::new();
    let spool = with_rows(&folder, &["/1", "/2", "/3", "/4"]).await;
    // The second is passed over, and its turn comes last.
    let until = tokio::time::Instant::now();
    spool.pass_over(2, until, apart::Tries::default()).await.unwrap();
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
            .pass_over(place, until, apart::Tries::default())
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
    spool.offer_again(i64::MAX).await.unwrap();
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
    spool.offer_again(2).await.unwrap();
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
    spool.pass_over(3, due, apart::Tries::default()).await.unwrap();
    let turn = async |before_its_time| {
        let row = spool.next_passed_over(before_its_time).await.unwrap();
        row.map(|row| row.place)
    };
    assert_eq!(turn(false).await, None, "1 and 2 wait");
    assert_eq!(turn(true).await, Some(3), "there is no room for another");
    spool
        .pass_over(1, due + KEEP, apart::Tries::default())
        .await
        .unwrap();
    assert_eq!(turn(true).await, Some(1), "nothing waits before it");
    spool.keep_rows(&[2], KEEP).await.unwrap();
    assert_eq!(turn(false).await, Some(3), "4 waits behind it");
    spool.keep_rows(&[3], KEEP).await.unwrap();
    assert_eq!(kept(&spool).await, [2, 3]);

    // The database lost what is before it.
    spool.pass_over(4, due, apart::Tries::default()).await.unwrap();
    assert_eq!(turn(false).await, Some(4));
    spool.offer_again(2).await.unwrap();
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

#[tokio::test]
async fn w23_a_row_that_waits_for_ever_does_not_hold_the_ledger() {
    let folder = Folder::new();
    let spool = with_rows(&folder, &["/1", "/2"]).await;
    let until = tokio::time::Instant::now() + KEEP;
    spool.pass_over(1, until, apart::Tries::default()).await.unwrap();
    assert_eq!(spool.first_unsettled().await.unwrap().seq, 1);
    spool.number_anew(1).await.unwrap();
    assert_eq!(spool.first_unsettled().await.unwrap().seq, 2);
    let row = spool.next_passed_over(true).await.unwrap().unwrap();
    assert_eq!((row.place, row.key.seq), (1, 1));
    assert_ne!(row.key.writer, spool.id());
}

#[tokio::test]
async fn w21_no_more_rows_are_passed_over_than_there_is_room_for() {
    let folder = Folder::new();
    let spool = with_rows(&folder, &["/"; apart::MOST + 1]).await;
    let until = tokio::time::Instant::now() + KEEP;
    let most = i64::try_from(apart::MOST).unwrap();
    for place in 1..=most + 1 {
        let tries = apart::Tries {
            count: 1,
            successes: 0,
        };
        let is_passed_over = spool.pass_over(place, until, tries).await.unwrap();
        assert_eq!(is_passed_over, place <= most);
        assert_eq!(spool.tries(place).is_some(), place <= most);
    }
    assert_eq!(spool.passed_over().rows, apart::MOST);
    assert!(
        spool.pass_over(1, until, apart::Tries::default()).await.unwrap(),
        "again"
    );
    // What is gone takes no room, nor is anything remembered of it.
    spool.remove_rows(&[1]).await.unwrap();
    assert_eq!(spool.tries(1), None);
    assert!(
        spool
            .pass_over(most + 1, until, apart::Tries::default())
            .await
            .unwrap()
    );
}

/// What is known of a row may be less than what the file has of it, where the disk takes nothing.
#[tokio::test]
async fn w12_what_is_passed_over_is_counted_as_the_file_has_it() {
    let folder = Folder::new();
    let spool = folder.directory.create().await.unwrap();
    let Body::Unresolved(one) = with_token("/x", "3f0c2a-secret-token") else {
        panic!("unresolved")
    };
    let three = Body::Unresolved(vec![one[0].clone(), one[0].clone(), one[0].clone()]);
    spool.append_all(&[three]).await.unwrap();
    let until = tokio::time::Instant::now() + KEEP;
    spool.fail_commits([Some(faults::Fault::Lost)]);
    spool.resolve_row(1, vec![recorded("/x")]).await.unwrap();
    assert!(spool.has_offered_unresolved());
    spool.pass_over(1, until, apart::Tries::default()).await.unwrap();
    assert_eq!((spool.waiting().views, spool.passed_over().views), (3, 3));
    // Now the disk takes it.
    spool.resolve_row(1, vec![recorded("/x")]).await.unwrap();
    assert_eq!((spool.waiting().views, spool.passed_over().views), (1, 1));
}

#[tokio::test]
async fn a_spool_that_could_not_be_made_takes_nothing_and_is_not_in_its_place() {
    let folder = Folder::new();
    let absent = folder.directory.absent().unwrap();
    assert!(absent.is_closed() && !absent.is_in_place());
    assert!(matches!(
        absent.append_all(&[some(&["/"])]).await,
        Err(SpoolError::Closed)
    ));
    absent.close().await;
    assert_eq!(folder.files(), [""; 0]);
}

#[tokio::test]
async fn not_more_spools_are_taken_over_than_there_is_room_for() {
    let folder = Folder::new();
    for _ in 0..3 {
        let spool = folder.directory.create().await.unwrap();
        spool.append_all(&[some(&["/"])]).await.unwrap();
    }
    let first = folder.directory.adopt(&[], 2).await.unwrap();
    assert_eq!(first.len(), 2);
    assert_eq!(folder.directory.adopt(&[], 2).await.unwrap().len(), 1);
}

/// Under another key a copy of it would be another part.
#[tokio::test]
async fn w20_a_spool_tells_that_it_took_what_seemed_to_fail_though_that_was_split_since() {
    let folder = Folder::new();
    let spool = folder.directory.create().await.unwrap();
    let bodies = [some(&["/1", "/2"])];
    for (fault, is_there) in [(faults::Fault::Lost, false), (faults::Fault::Kept, true)] {
        let mut append = append::Append::new(&bodies);
        spool.fail_commits([Some(fault)]);
        spool.append(&mut append).await.unwrap_err();
        for row in next(&spool).await {
            let Some(Body::Recorded(views)) = &row.body else {
                panic!("recorded")
            };
            spool.split_row(row.place, views).await.unwrap();
        }
        assert_eq!(spool.has_taken(&append).await.unwrap(), is_there);
    }
    let other = folder.directory.create().await.unwrap();
    assert!(!other.has_taken(&append::Append::new(&bodies)).await.unwrap());
}
