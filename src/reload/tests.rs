//! Tests with files that are being written. Time is the runtime's, and advances when no task runs.

mod api_keys;

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::*;

const WHOLE: &str = "[[route]]\nname = \"whole\"\npattern = '^/whole$'\n";
const CUT_OFF: &str = "[[route]]\nname = \"whole\"\npatt";
const OTHER: &str = "[[route]]\nname = \"other\"\npattern = '^/other$'\n";

struct Scene {
    folder: tempfile::TempDir,
    reloader: Reloader,
    metrics: Arc<Metrics>,
    _requests: mpsc::Sender<()>,
}

impl Scene {
    /// Two route files, which are loaded and watched.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            std::fs::write(
                folder.path().join(format!("{name}.toml")),
                OTHER.replace("other", name),
            )
            .unwrap();
        }
        let config = crate::config::Routes {
            dir: folder.path().into(),
            ..crate::config::Routes::default()
        };
        let loaded = LoadedRoutes::from(&config.dir, &RouteNames::default()).unwrap();
        let routes = Arc::new(ArcSwap::from_pointee(loaded.table));
        let metrics = Arc::<Metrics>::default();
        let (requests, asked) = mpsc::channel(1);
        let reloader = Reloader::new(
            &config,
            loaded.files,
            routes,
            KeyFiles::default(),
            asked,
            &Status::default(),
            metrics.clone(),
        );
        Self {
            folder,
            reloader,
            metrics,
            _requests: requests,
        }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// Lets the reloader work until the condition holds.
    async fn works_until(&mut self, so: impl Fn(&Self) -> bool) {
        while !so(self) {
            let next = timeout(Duration::from_secs(60), self.reloader.next()).await;
            assert!(next.expect("something to read"));
        }
    }

    fn has(&self, path: &str) -> bool {
        self.reloader.routes.load().find(path).is_some()
    }

    fn refused(&self) -> u64 {
        self.metrics.reloads[ReloadOutcome::Failure].get()
    }

    fn is_in_doubt(&self) -> bool {
        self.reloader.unsettled.is_some()
    }
}

#[tokio::test(start_paused = true)]
async fn c31_a_file_that_is_cut_off_is_given_time_to_become_whole() {
    let mut scene = Scene::new();
    scene.write("a.toml", CUT_OFF);
    scene.works_until(Scene::is_in_doubt).await;
    assert_eq!((scene.refused(), scene.has("/a")), (0, true));
    scene.write("a.toml", WHOLE);
    scene.works_until(|scene| scene.has("/whole")).await;
    assert_eq!((scene.refused(), scene.is_in_doubt()), (0, false));
}

#[tokio::test(start_paused = true)]
async fn c31_a_file_that_stays_cut_off_is_refused_and_said_so_once() {
    let mut scene = Scene::new();
    scene.write("a.toml", CUT_OFF);
    scene.works_until(Scene::is_in_doubt).await;
    let doubted = Instant::now();
    scene.works_until(|scene| scene.refused() > 0).await;
    assert!(
        doubted.elapsed() >= Duration::from_millis(1_950),
        "{:?}",
        doubted.elapsed()
    );
    scene.write("c.toml", CUT_OFF);
    scene.works_until(Scene::is_in_doubt).await;
    // Back to the text that was refused before.
    std::fs::remove_file(scene.folder.path().join("c.toml")).unwrap();
    scene.works_until(|scene| !scene.is_in_doubt()).await;
    assert_eq!((scene.refused(), scene.has("/a")), (1, true));
}

#[tokio::test(start_paused = true)]
async fn c31_one_of_several_files_is_gone_for_a_moment() {
    let mut scene = Scene::new();
    let path = scene.folder.path().join("a.toml");
    std::fs::remove_file(&path).unwrap();
    scene.works_until(Scene::is_in_doubt).await;
    assert!(scene.has("/a"));
    scene.write("a.toml", WHOLE);
    scene.works_until(|scene| scene.has("/whole")).await;
    // Removed for good.
    std::fs::remove_file(path).unwrap();
    scene.works_until(|scene| !scene.has("/whole")).await;
    assert_eq!((scene.refused(), scene.has("/b")), (0, true));
}

#[test]
fn files_that_have_become_blank_are_told_and_those_that_are_meant_to_be_are_not() {
    let file = |name: &str, text: &str| RouteFile {
        path: name.into(),
        text: text.into(),
    };
    let told = |files: &[RouteFile], before: &[RouteFile]| {
        let blank = blank_files(files, before).into_iter();
        blank.map(|path| path.display().to_string()).collect::<Vec<_>>()
    };
    let (whole, blank) = (file("a", WHOLE), file("b", " \n"));
    assert_eq!(told(&[whole.clone(), blank.clone()], &[]), ["b"]);
    // A site without routes.
    assert!(told(std::slice::from_ref(&blank), &[]).is_empty());
    assert!(told(&[file("b", "")], std::slice::from_ref(&blank)).is_empty());
    // It had some.
    assert_eq!(told(&[blank], &[file("b", WHOLE)]), ["b"]);
    assert!(told(&[file("a", "# none yet"), whole], &[]).is_empty());
}
