//! Simulated members: they visit, read a few pages and leave, through the sidecar.

use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::sleep;

use super::browser::{Browser, USER_AGENTS};
use super::site::content::{COMMUNITIES, MEMBERS, Member};

/// Time between the first arrivals.
const ARRIVAL_GAP: Duration = Duration::from_millis(1500);

/// Starts a task of the current runtime per simulated member. They end with the runtime.
pub(crate) fn start(site: SocketAddr) {
    let simulated = MEMBERS.iter().filter(|member| !member.guest);
    for ((number, member), user_agent) in (0..).zip(simulated).zip(USER_AGENTS.iter().cycle()) {
        let browser = Browser::new(site, user_agent);
        tokio::spawn(async move {
            sleep(ARRIVAL_GAP * number).await;
            live(member, browser).await;
        });
    }
}

async fn live(member: &Member, mut browser: Browser) {
    let mut random = StdRng::seed_from_u64(member.id.unsigned_abs());
    loop {
        let stay = Stay::plan(member, &mut random);
        // The sidecar may be shutting down, or have been stopped.
        if let Err(error) = stay.follow(member, &mut browser).await {
            tracing::debug!(%error, member = member.username, "a simulated member could not go on");
        }
        sleep(stay.away).await;
    }
}

/// One visit to the site: what a member reads, and how long until the next one.
#[derive(Debug)]
struct Stay {
    /// Paths, each with the time it is read.
    pages: Vec<(String, Duration)>,
    /// Whether the member signs out at the end.
    signs_out: bool,
    /// Time until the next visit.
    away: Duration,
}

impl Stay {
    /// Most visits are to the member's favourite community.
    fn plan(member: &Member, random: &mut StdRng) -> Self {
        let community = if random.random_bool(0.6) {
            &COMMUNITIES[member.favourite]
        } else {
            &COMMUNITIES[random.random_range(0..COMMUNITIES.len())]
        };
        let entrance = if random.random_bool(0.3) {
            format!("/c/{}/", community.slug)
        } else {
            format!("/communities/{}/", community.id)
        };
        let posts = random.random_range(1..=community.posts.len() + 1);
        let further = (0..posts).map(|_| {
            let number = random.random_range(1..=community.posts.len());
            format!("/communities/{}/posts/{number}/", community.id)
        });
        let paths: Vec<_> = std::iter::once(entrance).chain(further).collect();
        Self {
            pages: paths
                .into_iter()
                .map(|path| (path, seconds(random, 3.0, 8.0)))
                .collect(),
            signs_out: random.random_bool(0.2),
            away: seconds(random, 15.0, 50.0),
        }
    }

    async fn follow(&self, member: &Member, browser: &mut Browser) -> anyhow::Result<()> {
        if !browser.is_signed_in() {
            browser.sign_in(member.username).await?;
        }
        for (path, reading) in &self.pages {
            browser.open(path).await?;
            sleep(*reading).await;
        }
        if self.signs_out {
            browser.sign_out().await?;
        }
        Ok(())
    }
}

fn seconds(random: &mut StdRng, least: f64, most: f64) -> Duration {
    Duration::from_secs_f64(random.random_range(least..most))
}

#[cfg(test)]
mod tests {
    use super::super::site;
    use super::*;

    #[tokio::test]
    async fn simulated_members_open_only_pages_that_exist() {
        let directory = tempfile::tempdir().unwrap();
        let address = site::start(&directory.path().join("site.sqlite3")).await.unwrap();
        let browser = Browser::new(address, USER_AGENTS[0]);
        let mut random = StdRng::seed_from_u64(1);
        for member in MEMBERS {
            for (path, _) in Stay::plan(member, &mut random).pages {
                assert_eq!(browser.open(&path).await.unwrap(), 200, "{path}");
            }
        }
    }

    #[test]
    fn members_stay_away_long_enough_to_be_missed() {
        let mut random = StdRng::seed_from_u64(2);
        let window = Duration::from_secs(site::WINDOW_SECONDS);
        let stays: Vec<_> = (0..100).map(|_| Stay::plan(&MEMBERS[2], &mut random)).collect();
        assert!(
            stays
                .iter()
                .any(|stay| stay.away > window + Duration::from_secs(10))
        );
        let reading = stays
            .iter()
            .flat_map(|stay| &stay.pages)
            .map(|(_, reading)| *reading);
        assert!(
            reading.max().unwrap() < window,
            "nobody leaves in the middle of a visit"
        );
    }
}
