//! Tests of dead letters.

use super::super::letters::{DeadLetter, LetterAction};
use super::*;
use crate::batch::RecordedView;

const MIB: u64 = 1024 * 1024;

/// A spool with two dead letters, and their keys.
async fn with_letters(folder: &Folder) -> (Arc<Spool>, [BatchKey; 2]) {
    let spool = folder.directory.create().await.unwrap();
    spool
        .append_all(&[some(&["/1"]), some(&["/2"]), some(&["/3"])])
        .await
        .unwrap();
    let rows = next(&spool).await;
    for row in &rows[..2] {
        let buried = spool
            .make_dead_letter(row.place, "no such user", Utc::now(), MIB)
            .await
            .unwrap();
        assert_eq!(buried, DeadLetterOutcome::Kept);
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

fn seen(letter: &DeadLetter) -> (BatchKey, String, String) {
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
    assert_eq!(decide(LetterAction::Retry, first).await, 1);
    assert_eq!(decide(LetterAction::Retry, first).await, 0, "it is one no more");
    let waiting = spool.refresh().await.unwrap();
    assert_eq!((waiting.views, waiting.dead_letters), (2, 1));
    let rows = next(&spool).await;
    assert_eq!(urls(&rows), [["/3"], ["/1"]]);
    assert_eq!(rows[1].key, first);
    assert_eq!(spool.first_unsettled().await.unwrap(), rows[0].key);

    assert_eq!(decide(LetterAction::Drop, second).await, 1);
    assert_eq!(
        folder.directory.decide(LetterAction::Drop, None).await.unwrap(),
        0
    );
    assert!(folder.directory.dead_letters().await.unwrap().is_empty());
}

#[tokio::test]
async fn dead_letters_outlive_their_spool_and_a_copy_of_one_is_the_same_letter() {
    let folder = Folder::new();
    let (spool, [first, second]) = with_letters(&folder).await;
    let place = next(&spool).await[0].place;
    spool.remove_rows(&[place]).await.unwrap();
    let heir = folder.directory.create().await.unwrap();
    heir.move_letters_from(&spool).await.unwrap();
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
        .make_dead_letter(place, "no such user", Utc::now(), 10)
        .await
        .unwrap();
    assert_eq!(buried, DeadLetterOutcome::NoRoom);
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
        let (retired, decided) = tokio::join!(
            spool.retire(&heir),
            folder.directory.decide(LetterAction::Retry, None)
        );
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
            heir.move_letters_from(&spool),
            folder.directory.decide(LetterAction::Retry, None)
        );
        inherited.unwrap();
        assert_eq!(decided.unwrap(), 2);
        assert!(folder.directory.dead_letters().await.unwrap().is_empty());
    }
}
