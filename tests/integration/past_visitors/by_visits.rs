//! Pages of past visitors in the order of their visits.

use headcount::store::{PastAsked, PastPlace, PastSort, migrate};

use super::many_views::{unmigrated, window};

/// A community with a few who come often, some who see much at once, and many who came once or twice: each page is as the
/// plainest count has it, whosever visits are counted for it.
#[tokio::test]
async fn s37_pages_by_visits_are_right_whoever_has_the_most_views() {
    pages_by_visits_are_right("bigint", "%s", |user| user.to_string()).await;
}

/// What has no order of its own in the sidecar is counted by the database.
#[tokio::test]
async fn s37_pages_by_visits_are_right_whatever_the_keys_are() {
    let uuid = "('00000000-0000-0000-0000-' || lpad(%s::text, 12, '0'))::uuid";
    let of_uuid = |user| format!("00000000-0000-0000-0000-{user:012}");
    pages_by_visits_are_right("uuid", uuid, of_uuid).await;
    let text = "'user-' || lpad(%s::text, 5, '0')";
    pages_by_visits_are_right("varchar(20)", text, |user| format!("user-{user:05}")).await;
}

/// With keys of this type, `%s` being the number in SQL.
async fn pages_by_visits_are_right(declared: &str, sql: &str, key: impl Fn(i64) -> String) {
    const GUESTS: i64 = 6_000;
    // Those who see much at once are nearly all of those who are tried first. Of the thirty who come often ten are among
    // these, too, and the tenth has as many visits as the eleventh.
    let site = unmigrated(
        GUESTS,
        &format!(
            "SELECT u, timestamptz '2024-03-02' + u * interval '1 second' + v * pause
             FROM generate_series(1, {GUESTS}) AS u,
                  LATERAL (SELECT CASE WHEN u <= 30 THEN 3 + u / 2 WHEN u <= 520 THEN 20 WHEN u % 3 = 0 THEN 2 ELSE 1 END
                                      AS views,
                                  CASE WHEN u BETWEEN 31 AND 520 THEN interval '1 minute' ELSE interval '2 hours' END
                                      AS pause) AS guest,
                  LATERAL generate_series(1, views) AS v"
        ),
    )
    .await;
    site.execute(&format!(
        r#"ALTER TABLE accounts_userevent DROP CONSTRAINT "accounts_userevent_user_id_4ca2ef92_fk_accounts_userprofile_id",
             ALTER user_id TYPE {declared} USING {of_user};
         ALTER TABLE accounts_usersession DROP CONSTRAINT "accounts_usersession_user_id_567c9519_fk_accounts_",
             ALTER user_id TYPE {declared} USING {of_user};
         ALTER TABLE accounts_userprofile ALTER id DROP IDENTITY;
         ALTER TABLE accounts_userprofile ALTER id TYPE {declared} USING {of_profile}"#,
        of_user = sql.replace("%s", "user_id"),
        of_profile = sql.replace("%s", "id"),
    ))
    .await;
    migrate(&site.config, false).await.unwrap();
    site.execute("ANALYZE").await;
    let visits = |user: i64| match user {
        1..=30 => 3 + user / 2,
        31..=520 => 1,
        _ => 1 + i64::from(user % 3 == 0),
    };
    let mut expected: Vec<(i64, i64)> = (1..=GUESTS).map(|user| (visits(user), user)).collect();
    expected.sort_by_key(|(visits, user)| (-visits, *user));
    let expected: Vec<(i64, String)> = expected
        .into_iter()
        .map(|(visits, user)| (visits, key(user)))
        .collect();
    // Of the first tried; with more; of all, with a place in the order, at the border between twice and once, and the last.
    for (from, limit) in [
        (0_usize, 5),
        (0, 10),
        (5, 5),
        (20, 50),
        (1_800, 100),
        (5_950, 100),
    ] {
        let after = from.checked_sub(1).map(|last| PastPlace {
            value: expected[last].0,
            user: expected[last].1.as_str().into(),
        });
        let asked = PastAsked::Page {
            sort: PastSort::VisitCount,
            after,
            limit,
        };
        let page = site.store.past_visitors(&window(), &asked).await.unwrap();
        let page: Vec<(i64, String)> = page
            .iter()
            .map(|visitor| (visitor.visit_count, visitor.user_id.as_str().to_owned()))
            .collect();
        let rest = &expected[from..];
        assert_eq!(page, rest[..limit.min(rest.len())], "{declared}: {from}, {limit}");
    }
}
