//! What Redis keeps of whom the app has shown which community: the script, and the keys' expiry.

use std::time::Duration;

use headcount::ids::{CommunityId, UserId};
use headcount::presence::Presence as _;
use headcount::presence::grants::{Grant, News, Verdict};
use headcount::presence::keys::Keys;

use crate::support::redis::{self as servers};

const HOUR: Duration = Duration::from_secs(60 * 60);
const SHOWN: News = News::Answer(Verdict::Shown);
const REFUSED: News = News::Answer(Verdict::Refused);

fn ago(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test]
async fn a8_redis_keeps_the_later_of_two_answers_and_open_pages_are_none() {
    let server = servers::shared();
    let config = server.config();
    let presence = servers::presence(&config, ago(300));
    let (community, user) = (CommunityId::from("forty:2"), UserId::from("a b"));
    let note = async |news: News, age: Duration| {
        let grants = [Grant {
            user: user.clone(),
            news,
            age,
        }];
        presence.note_grants(&community, HOUR, &grants).await.unwrap();
        let noted = presence.grant(&community, &user).await.unwrap();
        noted.map(|noted| (noted.verdict, (noted.left.as_secs() + 30) / 60))
    };
    assert_eq!(presence.grant(&community, &user).await.unwrap(), None);
    assert_eq!(note(News::StillOpen, ago(0)).await, None, "it gives nothing");
    assert_eq!(note(SHOWN, HOUR).await, None, "its time is over");
    let (shown, refused) = (Verdict::Shown, Verdict::Refused);
    assert_eq!(note(SHOWN, ago(3_000)).await, Some((shown, 10)));
    assert_eq!(note(News::StillOpen, ago(1_800)).await, Some((shown, 30)));
    // An answer of before the page was still open.
    assert_eq!(note(REFUSED, ago(2_100)).await, Some((refused, 25)));
    assert_eq!(note(News::StillOpen, ago(0)).await, Some((refused, 25)));
    assert_eq!(note(SHOWN, ago(2_500)).await, Some((refused, 25)), "it came late");
    assert_eq!(note(SHOWN, ago(1_200)).await, Some((shown, 40)));
    // Others are others.
    for (community, user) in [("forty", "2:a b"), ("forty:2", "a"), ("forty:2:a b", "a b")] {
        let noted = presence.grant(&community.into(), &user.into()).await.unwrap();
        assert_eq!(noted, None, "{community} {user}");
    }
    let keys = Keys::new(&config.key_prefix, config.partitions).unwrap();
    let key = keys.granted(&community, &user);
    let expires: i64 = server.does(&["PTTL", &key]).await;
    assert!((1..=2_400_000).contains(&expires), "{expires}");
}

/// Whoever asks for what they may not see fills Redis with nothing that stays.
#[tokio::test]
async fn a8_a_refusal_of_what_was_never_shown_is_kept_for_a_minute() {
    let server = servers::shared();
    let config = server.config();
    let presence = servers::presence(&config, ago(300));
    let (community, user) = (CommunityId::from("42"), UserId::from("7"));
    for news in [REFUSED, REFUSED] {
        let (user, age) = (user.clone(), Duration::ZERO);
        let grants = [Grant { user, news, age }];
        presence.note_grants(&community, HOUR, &grants).await.unwrap();
    }
    let noted = presence.grant(&community, &user).await.unwrap().unwrap();
    assert_eq!(noted.verdict, Verdict::Refused);
    assert!(noted.left <= ago(60), "{noted:?}");
    // One call for many users.
    let many = (0..2_500).map(|user| Grant {
        user: UserId::new(user.to_string()),
        news: SHOWN,
        age: Duration::ZERO,
    });
    let many: Vec<_> = many.collect();
    presence.note_grants(&"43".into(), HOUR, &many).await.unwrap();
    let last = presence
        .grant(&"43".into(), &"2499".into())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(last.verdict, Verdict::Shown);
}
