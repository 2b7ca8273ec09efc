//! What Redis keeps of whom the app has shown which community: the script, and the keys' expiry.

use std::time::Duration;

use headcount::ids::{CommunityId, Finer, UserId};
use headcount::presence::Presence as _;
use headcount::presence::grants::{Grant, Verdict};
use headcount::presence::keys::Keys;

use crate::support::redis::{self as servers};
use crate::support::redis_presence;

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

/// What is noted, with the minutes for which it still counts: what a note says stands, and what a question says.
#[tokio::test]
async fn a8_redis_keeps_the_later_of_two_answers_and_open_pages_are_none() {
    let server = servers::shared();
    let config = server.config();
    let presence = redis_presence::open(&config, minutes(5));
    let (community, user) = (CommunityId::from("forty:2"), UserId::from("a b"));
    let note = async |verdict: Verdict, age: u64, left: u64| {
        let grants = [Grant {
            finer: None,
            user: user.clone(),
            verdict,
            age: minutes(age),
            left: minutes(left),
            only_prolongs: false,
        }];
        let stands = presence.note_grants(&community, &grants).await.unwrap();
        let noted = presence.grant(&(&community).into(), &user).await.unwrap();
        let told = stands[0].map(|noted| noted.verdict);
        assert_eq!(told, noted.map(|noted| noted.verdict));
        let rounded = |time: Duration| (time.as_secs() + 30) / 60;
        noted.map(|noted| (noted.verdict, rounded(noted.age), rounded(noted.left)))
    };
    assert_eq!(presence.grant(&(&community).into(), &user).await.unwrap(), None);
    let (shown, refused) = (Verdict::Shown, Verdict::Refused);
    assert_eq!(note(shown, 60, 0).await, None, "its time is over");
    assert_eq!(note(shown, 50, 10).await, Some((shown, 50, 10)));
    // A page of it was open half an hour ago.
    assert_eq!(note(shown, 50, 30).await, Some((shown, 50, 30)));
    assert_eq!(note(refused, 55, 5).await, Some((shown, 50, 30)), "it came late");
    // It lasts as long as what it takes away.
    assert_eq!(note(refused, 35, 25).await, Some((refused, 35, 30)));
    assert_eq!(note(shown, 42, 18).await, Some((refused, 35, 30)), "it came late");
    // Also where that comes later than the refusal.
    assert_eq!(note(shown, 42, 40).await, Some((refused, 35, 40)));
    assert_eq!(note(refused, 45, 1).await, Some((refused, 35, 40)));
    assert_eq!(note(shown, 20, 35).await, Some((shown, 20, 35)));
    // Others are others.
    for (community, user) in [("forty", "2:a b"), ("forty:2", "a"), ("forty:2:a b", "a b")] {
        let noted = presence.grant(&community.into(), &user.into()).await.unwrap();
        assert_eq!(noted, None, "{community} {user}");
    }
    let keys = Keys::new(&config.key_prefix, config.partitions).unwrap();
    let key = keys.granted(&(&community).into(), &user);
    let expires: i64 = server.does(&["PTTL", &key]).await;
    assert!((1..=2_100_000).contains(&expires), "{expires}");
}

/// One call for three users: what is shown there counts for longer, a refusal stands, and what is not there stays away.
#[tokio::test]
async fn a18_redis_prolongs_only_the_grants_that_it_has() {
    let server = servers::shared();
    let presence = redis_presence::open(&server.config(), minutes(5));
    let community = CommunityId::from("42");
    let grant = |user: &str, verdict, age, left, only_prolongs| Grant {
        finer: None,
        user: user.into(),
        verdict,
        age: minutes(age),
        left: minutes(left),
        only_prolongs,
    };
    let before = [
        grant("shown", Verdict::Shown, 30, 10, false),
        grant("refused", Verdict::Refused, 40, 10, false),
    ];
    presence.note_grants(&community, &before).await.unwrap();
    let prolonged = ["shown", "refused", "lost"].map(|user| grant(user, Verdict::Shown, 30, 60, true));
    let stands = presence.note_grants(&community, &prolonged).await.unwrap();
    let rounded = |time: Duration| (time.as_secs() + 30) / 60;
    let told = stands
        .iter()
        .map(|noted| noted.map(|noted| (noted.verdict, rounded(noted.age), rounded(noted.left))));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            Some((Verdict::Shown, 30, 60)),
            Some((Verdict::Refused, 40, 10)),
            None
        ]
    );
    let noted = presence
        .grant(&(&community).into(), &"lost".into())
        .await
        .unwrap();
    assert_eq!(noted, None);
}

#[tokio::test]
async fn a8_a_refusal_of_what_was_never_shown_is_kept_as_long_as_it_says() {
    let server = servers::shared();
    let config = server.config();
    let presence = redis_presence::open(&config, minutes(5));
    let (community, user) = (CommunityId::from("42"), UserId::from("7"));
    for _ in 0..2 {
        let grants = [Grant {
            finer: None,
            user: user.clone(),
            verdict: Verdict::Refused,
            age: Duration::ZERO,
            left: minutes(1),
            only_prolongs: false,
        }];
        presence.note_grants(&community, &grants).await.unwrap();
    }
    let noted = presence
        .grant(&(&community).into(), &user)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(noted.verdict, Verdict::Refused);
    assert!(noted.left <= minutes(1), "{noted:?}");
    // One call for many users.
    let many = (0..2_500).map(|user| Grant {
        finer: None,
        user: UserId::new(user.to_string()),
        verdict: Verdict::Shown,
        age: Duration::ZERO,
        left: minutes(60),
        only_prolongs: false,
    });
    let many: Vec<_> = many.collect();
    let stands = presence.note_grants(&"43".into(), &many).await.unwrap();
    assert_eq!(stands.iter().flatten().count(), many.len());
    let last = presence
        .grant(&"43".into(), &"2499".into())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(last.verdict, Verdict::Shown);
}

/// Whatever is noted of a user, and prolonged, is a key that Redis removes by itself when it counts no more.
#[tokio::test]
async fn a26_every_key_of_a_grant_expires_also_of_something_in_a_community() {
    let server = servers::shared();
    let config = server.config();
    let presence = redis_presence::open(&config, minutes(5));
    let community = CommunityId::from("42");
    let post = Finer::new("post", "7").unwrap();
    let grant = |user: &str, finer: Option<&Finer>, verdict, left, only_prolongs| Grant {
        finer: finer.cloned(),
        user: user.into(),
        verdict,
        age: minutes(1),
        left: minutes(left),
        only_prolongs,
    };
    for finer in [None, Some(&post)] {
        let noted = [
            grant("shown", finer, Verdict::Shown, 10, false),
            grant("refused", finer, Verdict::Refused, 10, false),
            grant("prolonged", finer, Verdict::Shown, 1, false),
        ];
        presence.note_grants(&community, &noted).await.unwrap();
        let prolonged = [grant("prolonged", finer, Verdict::Shown, 10, true)];
        presence.note_grants(&community, &prolonged).await.unwrap();
    }
    let prefix = format!("{}*granted*", config.key_prefix);
    let keys: Vec<String> = server.does(&["KEYS", &prefix]).await;
    assert_eq!(keys.len(), 6, "{keys:?}");
    for key in keys {
        let expires: i64 = server.does(&["PTTL", &key]).await;
        assert!((1..=600_000).contains(&expires), "{key}: {expires}");
    }
}
