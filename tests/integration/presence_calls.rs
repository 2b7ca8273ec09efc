//! How many calls presence costs Redis: counted by Redis itself.

use std::sync::Arc;
use std::time::Duration;

use headcount::config;
use headcount::ids::Finer;
use headcount::page_view::{self, Queue};
use headcount::presence::moment::Moment;
use headcount::presence::{Metrics, Presence, Scope, Whereabouts, worker};
use headcount::status::Status;
use headcount::tasks::Tasks;

use crate::support::redis::{self as servers, RedisServer};

const WINDOW: Duration = Duration::from_secs(300);

/// How often scripts were called.
async fn scripts_called(server: &RedisServer) -> u64 {
    let stats: String = server.does(&["INFO", "commandstats"]).await;
    let calls = |command: &str| -> u64 {
        let line = stats
            .lines()
            .find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.map_or(0, |line| {
            line.split(',')
                .next()
                .expect("a number")
                .parse()
                .expect("a number")
        })
    };
    calls("evalsha") + calls("eval")
}

/// A page of a community, and of so many things in it.
fn page(community: usize, things: usize) -> Whereabouts {
    let kinds = ["post", "author", "tag"];
    let finer = kinds[..things].iter().map(|kind| Finer::new(kind, "7").unwrap());
    Whereabouts::new(Some(community.to_string().as_str().into()), finer.collect())
}

/// Views of one moment: one call for each community, however many things the routes name there, and one for the site.
#[tokio::test]
async fn p25_a_view_costs_one_call_whatever_the_number_of_its_scopes() {
    let server = RedisServer::start(&[]);
    let redis = Arc::new(servers::presence(&server.config(), WINDOW));
    let record = config::Record {
        coalesce: Duration::ZERO,
        ..config::Record::default()
    };
    servers::until_it_answers(&*redis).await;
    // The server knows the script and the sidecar the server's clock from here on.
    redis.touch(&Scope::Site, &[]).await.unwrap();
    for things in 0..=3 {
        let queued = page_view::Metrics::default().queued[Queue::Presence].clone();
        let (touches, worker) = worker::new(
            Arc::clone(&redis) as Arc<dyn Presence>,
            &record,
            &Status::default(),
            Arc::<Metrics>::default(),
            queued,
        );
        for view in 0..60 {
            let user = format!("u{view}");
            let community = view % 6;
            touches
                .touch(page(community, things), user.as_str().into(), Moment::now())
                .unwrap();
        }
        let before = scripts_called(&server).await;
        let tasks = Tasks::on_current_runtime();
        tasks.end();
        let (_stop, is_over) = tokio::sync::watch::channel(true);
        // The one ends when it has touched them, the other has not begun.
        let [done, sweeps] = worker.start(&tasks, is_over);
        sweeps.abort();
        done.await.unwrap();
        let called = scripts_called(&server).await - before;
        assert_eq!(called, 6 + 1, "calls with {things} things");
        let posts = redis.all_counts(&[Scope::Site, "0".into()]).await.unwrap().value;
        assert_eq!((posts[0].current, posts[1].current), (60, 10));
    }
}
