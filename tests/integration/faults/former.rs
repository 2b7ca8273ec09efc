//! A spool file that a version before the binary form of rows has left: `support/spool-v1`, whose process ended by kill -9.

use std::path::Path;

use sqlx::Executor as _;

use super::all_dropped;
use crate::support::postgres::Postgres;
use crate::support::world::Wanted;

/// The people, sessions and community of the file.
const PEOPLE: &str = "
    INSERT INTO communities_community (id, slug, name, is_private) VALUES (900001, 'spool-v1', 'Spool', false);
    INSERT INTO auth_user (id, username, password, first_name, last_name, email, is_superuser, is_staff, is_active,
                           date_joined)
    SELECT 900000 + n, 'v1-' || n, '!', '', '', '', false, false, true, now() FROM generate_series(1, 5) AS n;
    INSERT INTO accounts_userprofile (id, user_id, username, profile_picture, last_active)
    SELECT 900000 + n, 900000 + n, 'v1-' || n, '', '2020-01-01' FROM generate_series(1, 5) AS n;
    INSERT INTO accounts_usersession (id, user_id, session_id, ip_address, user_agent, device_info, location_data,
        device_fingerprint, fast_fingerprint, pages_visited, started_at, expires_at, is_active, is_ended, persistent,
        termination_reason)
    SELECT ('00000000-0000-4000-8000-00000000000' || n)::uuid, 900000 + n, 'spool-v1-session-' || n, '127.0.0.1', '',
           '{}', '{}', '', '', 0, '2020-01-01', '2999-01-01', true, false, false, ''
    FROM generate_series(1, 5) AS n;";

#[tokio::test]
async fn w31_a_spool_that_an_earlier_version_has_left_is_written_and_its_dead_letter_kept() {
    let mut world = Wanted::usual().start().await;
    let pool = Postgres::shared().pool(world.database.name());
    pool.execute(PEOPLE).await.expect("they are there");
    world.sidecar.kill();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/support/spool-v1");
    let folder = world.sidecar.directory().join("spool");
    for file in std::fs::read_dir(source).expect("a folder") {
        let file = file.expect("a file");
        std::fs::copy(file.path(), folder.join(file.file_name())).expect("copied");
    }
    world.sidecar.restart();
    let views = world.wait_for_views(11).await;
    let mut pages: Vec<String> = views
        .iter()
        .map(|view| format!("{} {}", view["metadata"]["community_id"], view["metadata"]["url"]))
        .collect();
    pages.sort();
    let expected = [
        ("\"900001\" \"/c/spool-v1/\"", 1),
        ("\"900001\" \"/communities/900001/\"", 4),
        ("\"900001\" \"/communities/900001/posts/5/\"", 3),
        ("null \"/elsewhere/ä/\"", 3),
    ];
    let expected = expected.map(|(page, times)| vec![page; times]).concat();
    assert_eq!(pages, expected);
    let visited: String = sqlx::query_scalar(
        "SELECT string_agg(pages_visited::text, ' ' ORDER BY user_id) FROM accounts_usersession WHERE user_id > 900000",
    )
    .fetch_one(&pool)
    .await
    .expect("numbers");
    pool.close().await;
    assert_eq!(visited, "3 3 3 1 1");
    world
        .sidecar
        .wait_for_metric("headcount_dead_letters", |letters| letters == 1.0)
        .await;
    assert_eq!(all_dropped(&world).await, 0.0);
}
