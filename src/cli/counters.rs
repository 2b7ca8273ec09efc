//! `headcount counters`: compares the counters of communities with the events, and counts them anew.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use uuid::Uuid;

use super::{Failure, block_on, print_line};
use crate::config::Config;
use crate::ids::CommunityId;
use crate::reload::load_routes;
use crate::routes::{CountedTypes, RouteNames};
use crate::store::{self, Comparison, CounterStore, StoreError};

/// Communities looked up, and written, at a time.
const PAGE: i64 = 100;
/// How long the lease is taken for one write.
const TTL: Duration = Duration::from_secs(30);

#[derive(Debug, Subcommand)]
pub(super) enum CountersCommand {
    /// Compare them with the events. Changes nothing; the exit code is 1 where one differs.
    Verify(CommunityArgs),
    /// Compare them with the events, and count those anew that differ. The app's columns are written by the sidecar that
    /// runs, or at once where none does.
    Repair(CommunityArgs),
}

/// Which communities are meant.
#[derive(Debug, Args)]
pub(super) struct CommunityArgs {
    /// One community, by its primary key; all where it is left out.
    #[arg(long, value_name = "KEY")]
    community: Option<String>,
}

pub(super) fn run(path: &Path, config: &Config, command: CountersCommand) -> Result<(), Failure> {
    if !config.counters.enabled || !config.counters.of_events() {
        return Err(Failure::Usage(format!(
            "{}: counters.enabled is false, or neither total_visitors nor page_views has a column: there is nothing to \
             compare",
            path.display()
        )));
    }
    let (which, repairs) = match command {
        CountersCommand::Verify(which) => (which, false),
        CountersCommand::Repair(which) => (which, true),
    };
    // Which event types count may depend on what routes write.
    let table = load_routes(&config.routes.dir, &RouteNames::of(config))?;
    let routes = Arc::new(ArcSwap::from_pointee(table));
    let counted = CountedTypes::new(&config.record, routes);
    block_on(async {
        let store = store::open_counters(config, counted).map_err(anyhow::Error::new)?;
        let work = ComparisonRun {
            store: store.clone(),
            repairs,
            seen: 0,
            differing: Vec::new(),
        };
        let outcome = work.all(which.community.map(CommunityId::new)).await;
        store.disconnect().await;
        outcome.map_err(|error| match error {
            Stopped::Store(error) => Failure::of_store(path, config, &error),
            Stopped::Failure(failure) => failure,
        })
    })?
}

enum Stopped {
    Store(StoreError),
    Failure(Failure),
}

impl From<StoreError> for Stopped {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

struct ComparisonRun {
    store: Arc<dyn CounterStore>,
    repairs: bool,
    /// Communities that were compared.
    seen: usize,
    /// Those that differed.
    differing: Vec<CommunityId>,
}

impl ComparisonRun {
    async fn all(mut self, only: Option<CommunityId>) -> Result<(), Stopped> {
        match only {
            Some(key) => {
                let Some(community) = self.store.known(&key).await? else {
                    let problem = format!("there is no community with the key {key}");
                    return Err(Stopped::Failure(Failure::Usage(problem)));
                };
                self.one(community).await?;
            }
            None => self.each().await?,
        }
        let (seen, differing) = (self.seen, self.differing.len());
        print_line(format_args!("{seen} communities compared, {differing} differ"));
        if !self.repairs && differing > 0 {
            let what = "counters differ from the events; `headcount counters repair` counts them anew";
            return Err(Stopped::Failure(Failure::Other(anyhow::anyhow!(what))));
        }
        if self.repairs {
            self.write().await?;
        }
        Ok(())
    }

    async fn each(&mut self) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let all = DateTime::<Utc>::MAX_UTC.min(Utc::now() + chrono::TimeDelta::days(1));
            let (communities, last) = self.store.unchecked(after.as_ref(), all, PAGE).await?;
            for community in communities {
                self.one(community).await?;
            }
            match last {
                Some(last) => after = Some(last),
                None => return Ok(()),
            }
        }
    }

    async fn one(&mut self, community: CommunityId) -> Result<(), StoreError> {
        self.seen += 1;
        let comparison = self.store.compare(&community).await?;
        if comparison.agrees() {
            return Ok(());
        }
        print_line(line(&community, &comparison));
        if self.repairs {
            self.store.recount(&community).await?;
        }
        self.differing.push(community);
        Ok(())
    }

    /// Writes the app's columns of what was counted, unless a sidecar does.
    async fn write(&self) -> Result<(), StoreError> {
        let holder = Uuid::new_v4();
        if self.differing.is_empty() {
            return Ok(());
        }
        if self.store.take_lease(holder, TTL).await?.is_none() {
            print_line("the sidecar that keeps the counters writes them within counters.interval");
            return Ok(());
        }
        let wishes: Vec<_> = self
            .differing
            .iter()
            .map(|community| (community.clone(), None))
            .collect();
        let mut left = 0;
        for chunk in wishes.chunks(usize::try_from(PAGE).unwrap_or(1)) {
            left += match self.store.publish(holder, chunk).await {
                Ok(published) => published.map_or(chunk.len() as u64, |published| published.left),
                Err(error) => {
                    let _ = self.store.release_lease(holder).await;
                    return Err(error);
                }
            };
        }
        self.store.release_lease(holder).await?;
        if left > 0 {
            print_line(format_args!(
                "{left} communities are locked by the app; the next sidecar writes them"
            ));
        }
        Ok(())
    }
}

fn line(community: &CommunityId, comparison: &Comparison) -> String {
    let counted = comparison.counted;
    let counted = format!(
        "page_views {} and total_visitors {} by the events",
        counted.page_views, counted.total_visitors
    );
    let number = |number: Option<i64>| number.map_or_else(|| "none".to_owned(), |number| number.to_string());
    let kept = match (comparison.kept, comparison.shown) {
        (None, _) => "not counted yet".to_owned(),
        (Some(kept), _) if kept != comparison.counted => {
            format!("{} and {} kept", kept.page_views, kept.total_visitors)
        }
        (Some(_), Some((page_views, total_visitors))) => format!(
            "{} and {} in the app's columns",
            number(page_views),
            number(total_visitors)
        ),
        (Some(_), None) => "to be written".to_owned(),
    };
    format!("community {community}: {counted}, {kept}")
}
