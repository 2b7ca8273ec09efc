//! Tests of rows that appear a moment after their cookie (I10).

use super::*;
use crate::auth::outcome::Absent;

/// A token without a row so far; the clock moves only when the test advances it.
struct Late {
    scene: Scene,
    row: BrowserSession,
}

impl Late {
    fn new() -> Self {
        let scene = Scene::new();
        let row = scene.table.rows.lock().unwrap().remove(&scene.token).unwrap();
        Self { scene, row }
    }

    fn appears(&self) {
        let mut rows = self.scene.table.rows.lock().unwrap();
        rows.insert(self.scene.token.clone(), self.row.clone());
    }

    async fn whose(&self) -> Identified {
        let Scene {
            authenticator, token, ..
        } = &self.scene;
        authenticator.resolve_past(token, at(0), None).await.unwrap()
    }

    fn told(&self) {
        self.scene.authenticator.appeared(self.scene.token.fingerprint());
    }

    fn may_appear(&self) -> bool {
        self.scene.authenticator.may_appear(&self.scene.token)
    }
}

async fn pass(seconds: u64) {
    time::advance(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn i10_a_view_of_a_new_token_is_asked_about_once_more_after_a_second() {
    let late = Late::new();
    let now = time::Instant::now();
    assert_eq!(
        late.whose().await,
        Identified::NotYet(now + Duration::from_secs(1))
    );
    assert_eq!(
        late.scene.knows(at(0)),
        CachedSession::Unknown,
        "further views wait, too"
    );
    assert_eq!(
        late.scene.authenticator.cached_now(&late.scene.token, at(0)),
        CachedSession::NoSession(Absent::NotFound)
    );
    late.appears();
    assert!(
        matches!(late.whose().await, Identified::NotYet(_)),
        "it is not asked about yet"
    );
    pass(1).await;
    assert!(matches!(late.whose().await, Identified::Session(_)));
    assert_eq!(late.scene.reads(), 2);
}

#[tokio::test(start_paused = true)]
async fn i10_a_token_without_a_session_is_asked_about_ever_more_rarely() {
    let late = Late::new();
    let mut asked = Vec::new();
    for second in 0..40 {
        let before = late.scene.reads();
        let whose = late.whose().await;
        assert_eq!(matches!(whose, Identified::NotYet(_)), second == 0, "{second}");
        assert_eq!(late.may_appear(), second < 15, "{second}");
        if late.scene.reads() > before {
            asked.push(second);
        }
        pass(1).await;
    }
    assert_eq!(asked, [0, 1, 3, 7, 15, 25, 35]);
}

#[tokio::test(start_paused = true)]
async fn i10_a_session_of_which_is_told_that_it_appears_is_found_at_once() {
    let late = Late::new();
    late.whose().await;
    pass(1).await;
    assert_eq!(late.whose().await, Identified::NoSession(Absent::NotFound));
    late.told();
    assert_eq!(late.scene.knows(at(0)), CachedSession::Unknown);
    assert!(
        matches!(late.whose().await, Identified::NotYet(_)),
        "the cookie may be there before the row"
    );
    late.appears();
    late.told();
    assert!(matches!(late.whose().await, Identified::Session(_)));
    assert_eq!((late.scene.reads(), late.scene.evicted("appeared")), (4, 2));
}

/// The answer is older than the row, and arrives after it.
#[tokio::test]
async fn i10_an_answer_that_was_on_its_way_when_the_session_appeared_is_not_kept() {
    let late = Late::new();
    late.scene.table.answers.forget_permits(Semaphore::MAX_PERMITS);
    let appears = async {
        while late.scene.reads() == 0 {
            tokio::task::yield_now().await;
        }
        late.appears();
        late.told();
        late.scene.table.answers.add_permits(2);
    };
    let (whose, ()) = tokio::join!(late.whose(), appears);
    assert!(matches!(whose, Identified::Session(_)));
    assert_eq!(late.scene.reads(), 2);
}

#[tokio::test(start_paused = true)]
async fn i10_nobody_waits_for_a_session_that_has_ended() {
    let scene = Scene::new();
    assert!(scene.resolves(at(0)).await);
    scene.table.rows.lock().unwrap().clear();
    scene.hears();
    let whose = scene.authenticator.resolve_past(&scene.token, at(0), None).await;
    assert_eq!(whose.unwrap(), Identified::NoSession(Absent::NotFound));
    assert!(!scene.authenticator.may_appear(&scene.token));
}

#[tokio::test(start_paused = true)]
async fn i10_a_session_that_becomes_valid_is_found_soon() {
    let scene = Scene::new();
    scene.change(|session| session.is_active = false);
    assert!(!scene.resolves(at(0)).await);
    scene.change(|session| session.is_active = true);
    assert!(!scene.resolves(at(0)).await);
    pass(1).await;
    assert!(scene.resolves(at(0)).await);
}
