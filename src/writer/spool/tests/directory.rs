//! Tests of the folder: its mode, files that are no spools, and spools that are taken over.

use std::os::unix::fs::PermissionsExt as _;

use super::super::directory::DirectoryError;
use super::*;

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

/// The file is synced before anything is committed to the log, the log with the first commit.
#[tokio::test]
async fn w16_the_file_of_a_new_spool_is_whole_without_its_log() {
    let folder = Folder::new();
    let spool = folder.directory.create().await.unwrap();
    let copy = folder.home.path().join("copy.spool");
    std::fs::copy(&spool.files.database, &copy).unwrap();
    let bytes = std::fs::read(&copy).unwrap();
    assert_eq!(bytes[18..20], [2, 2], "written and read by a log");
    let file::Opened::Spool(mut opened) = file::open(&copy, true, true).await.unwrap() else {
        panic!("another file")
    };
    let vacuum: i64 = sqlx::query_scalar("PRAGMA auto_vacuum")
        .fetch_one(&mut opened)
        .await
        .unwrap();
    assert_eq!(vacuum, 2, "incremental");
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
            "PRAGMA application_id = 1212370516; PRAGMA user_version = 3; CREATE TABLE batch (id)",
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

/// SQLite leaves a log of that kind where a spool was opened without write-ahead log, as by hand: its statements belong to the
/// file, and would be played back into the next of that name.
#[tokio::test]
async fn w12_a_rollback_journal_is_set_aside_and_removed_with_its_spool() {
    let folder = Folder::new();
    for is_kept in [true, false] {
        let spool = folder.directory.create().await.unwrap();
        spool.append_all(&[some(&["/1"])]).await.unwrap();
        let journal = folder.path().join(format!("{}.spool-journal", spool.id()));
        std::fs::write(&journal, "").unwrap();
        if is_kept {
            let name = spool.set_aside().await.unwrap();
            let aside = format!("{}-journal", name.display());
            assert!(std::fs::exists(&aside).unwrap(), "{aside}: {:?}", folder.files());
        } else {
            let place = next(&spool).await[0].place;
            spool.remove_rows(&[place]).await.unwrap();
            spool.close().await;
        }
        assert!(!journal.exists(), "{:?}", folder.files());
    }
}
