//! The site's own backend asks: a Django view and a management command.

use reqwest::StatusCode;

use crate::support::api_keys::{BOTH, KeyFile, key, requests};
use crate::support::backend::{Backend, Settings, Variant, manage_with};
use crate::support::world::Wanted;

#[tokio::test]
async fn a14_a_django_view_and_a_command_ask_without_a_session() {
    let file = KeyFile::new(&[("board", BOTH)]);
    // What visitors may see does not matter.
    let wanted = file.wanted(Wanted::usual().with_default_access());
    let world = wanted.start().await;
    for name in ["alice", "bob"] {
        world.member(name).await.sees(&world.community("hidden")).await;
    }
    world.wait_for_views(2).await;
    let origin = world.sidecar.url("");
    let environment = [
        (
            "DJANGO_SETTINGS_MODULE",
            "community_site.settings_board".to_owned(),
        ),
        ("HEADCOUNT_URL", origin.trim_end_matches('/').to_owned()),
        ("HEADCOUNT_KEY", key("board")),
    ];
    let url = world.database.url();
    let site = Backend::start_with(Variant::Default, &url, Settings::default(), &environment);
    let board = reqwest::get(site.url("/board/")).await.expect("an answer");
    assert_eq!(board.status(), StatusCode::OK);
    let board = board.text().await.expect("text");
    assert_eq!(board, "rust 0\ndjango 0\nhidden 2 bob alice");
    let told = manage_with(
        Variant::Default,
        &url,
        &["visitors_now", "42", "44", "404"],
        &environment,
    );
    assert_eq!(told, "42 0\n44 2\n");
    let asked = world.sidecar.metric(&requests("board", "answered")).await;
    assert_eq!(
        asked, 5.0,
        "one question for all counts, and one list for each community"
    );
    // Still the whole site.
    let page = reqwest::get(site.url(&world.community("rust")))
        .await
        .expect("an answer");
    assert_eq!(page.status(), StatusCode::OK);
}
