//! Whose faces an element shows, and when it asks; and what becomes of elements that pages handle in odd ways.

use serde_json::json;

use super::clockwork::Clockwork;

/// An answer with one visitor of this name.
fn visitor(question: usize, name: &str) -> String {
    format!(
        "questions[{question}].answer(200, {{visitors: [{{user_id: 1, username: '{name}', avatar: null}}]}})"
    )
}

/// A page of community 42 with one of 43 behind, each with one visitor.
async fn two_communities() -> Clockwork {
    let page = Clockwork::start("/communities/42/?43").await;
    page.pass(0).await;
    page.does(&[
        "sockets[0].opens()",
        "sockets[0].counts(42, 1)",
        "sockets[0].counts(43, 1)",
        "window.one = document.querySelector('live-visitors')",
    ])
    .await;
    page
}

#[tokio::test]
async fn an_element_never_shows_faces_of_another_community() {
    let page = two_communities().await;
    page.does(&["one.setAttribute('avatars', 5)", "pass(0)", &visitor(0, "alice")])
        .await;
    assert_eq!(page.of("faces()").await, "alice");
    page.does(&["one.community = 43"]).await;
    assert_eq!(page.of("faces()").await, "");
    assert_eq!(page.shown().await, "live 1");
    page.does(&["pass(0)"]).await;
    assert!(page.of("questions[1].url").await.to_string().contains("/43/"));
    // Back again, before the answer is there.
    page.does(&["one.community = 42", "pass(0)", &visitor(1, "bob")])
        .await;
    assert_eq!(page.of("faces()").await, "");
    assert!(page.of("questions[2].url").await.to_string().contains("/42/"));
    page.does(&[&visitor(2, "carol")]).await;
    assert_eq!(page.of("faces()").await, "carol");
    // Of one that nothing is known of, nothing is shown.
    page.does(&["one.community = 44"]).await;
    assert_eq!(page.shown().await, "null null");
}

#[tokio::test]
async fn faces_are_asked_for_where_their_number_changes_and_not_for_words() {
    let page = two_communities().await;
    page.does(&["one.setAttribute('avatars', 5)", "pass(0)", &visitor(0, "alice")])
        .await;
    page.does(&[
        "one.lang = 'en'",
        "one.setAttribute('label-one', '{count}')",
        "pass(60000)",
    ])
    .await;
    assert_eq!(page.of("questions.length").await, 1);
    page.does(&["one.setAttribute('avatars', 6)", "pass(0)"]).await;
    assert_eq!(page.of("questions.length").await, 2);
}

#[tokio::test]
async fn there_are_never_more_faces_than_people() {
    let page = two_communities().await;
    let three = "questions[0].answer(200, {visitors: ['alice', 'bob', 'carol'].map((username, user_id) =>
        ({user_id, username, avatar: null}))})";
    page.does(&[
        "sockets[0].counts(42, 3)",
        "one.setAttribute('avatars', 5)",
        "pass(0)",
        three,
        "window.titles = () => [...one.shadowRoot.querySelectorAll('.avatar')].map((face) => face.title).join()",
    ])
    .await;
    assert_eq!(page.of("titles()").await, "alice,bob,carol");
    // The count is told at once, faces are asked for later.
    page.does(&["sockets[0].counts(42, 2)"]).await;
    assert_eq!(page.of("titles()").await, "alice,bob");
    assert_eq!(page.of("questions.length").await, 1);
}

#[tokio::test]
async fn an_element_that_is_moved_keeps_its_faces_or_asks_again() {
    let page = two_communities().await;
    page.does(&[
        "one.setAttribute('avatars', 5)",
        "pass(0)",
        "document.body.append(one)",
        "pass(5000)",
    ])
    .await;
    page.does(&["window.faces = () => one.shadowRoot.querySelector('.avatar')?.title"])
        .await;
    page.does(&[&visitor(1, "alice")]).await;
    assert_eq!(page.of("faces()").await, "alice");
}

#[tokio::test]
async fn where_nobody_is_named_nobody_is_asked_for_again() {
    for answer in ["200, {visitors: []}", "400", "401", "403", "404"] {
        let page = two_communities().await;
        let answer = format!("questions[0].answer({answer})");
        page.does(&["one.setAttribute('avatars', 5)", "pass(0)", &answer])
            .await;
        page.does(&["sockets[0].counts(42, 2)", "pass(40000)"]).await;
        assert_eq!(page.of("questions.length").await, 1, "{answer}");
    }
}

#[tokio::test]
async fn what_a_page_says_before_the_script_is_there_counts() {
    let page = two_communities().await;
    // Of a document that knows no such element.
    page.does(&[
        "window.early = document.implementation.createHTMLDocument().createElement('live-visitors')",
        "early.community = 43",
        "early.here = true",
        "document.body.append(early)",
    ])
    .await;
    assert_eq!(
        page.of("[early.getAttribute('community'), early.hasAttribute('here'), shown(2)]")
            .await,
        json!(["43", true, "live 1"])
    );
}

#[tokio::test]
async fn a_browser_that_cannot_style_it_does_not_show_it() {
    let source = "delete Document.prototype.adoptedStyleSheets;";
    let page = Clockwork::after(source, "/communities/42/").await;
    assert_eq!(
        page.of("customElements.get('live-visitors') === undefined").await,
        true
    );
    assert_eq!(page.pass(0).await, 0);
}
