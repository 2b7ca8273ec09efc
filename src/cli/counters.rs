//! `headcount counters`: compares the counters of communities with the events, and counts them anew.

mod comparison;
mod present;
mod repair;

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use clap::{Args, Subcommand};

use self::present::Here;
use super::{Failure, block_on, print_line};
use crate::config::{self, CommunityKey, Config};
use crate::ids::CommunityId;
use crate::printable::counted;
use crate::reload::load_routes;
use crate::routes::{CountedTypes, RouteNames};
use crate::store::{self, CounterStore, PresentComparison, StoreError};
use crate::tasks::Tasks;

/// When a sidecar writes columns that are left to it.
const BY_A_SIDECAR: &str = "within counters.interval, or once the app has unlocked the row or Redis answers";

/// Communities looked up, and written, at a time.
const PAGE: i64 = 100;

#[derive(Debug, Subcommand)]
pub(super) enum CountersCommand {
    /// Compare them with the events, and `current_visitors` with Redis where that knows who is there, else with what was
    /// written last. Changes nothing; the exit code is 1 where one differs.
    Verify(CommunityArgs),
    /// Compare them with the events, and count those anew that differ. The app's columns are written by the sidecar that
    /// runs; where none does, here, once `counters.interval` is over since the last write. The exit code is 1 where not all
    /// could be written.
    Repair(CommunityArgs),
}

/// Which communities are meant.
#[derive(Debug, Args)]
pub(super) struct CommunityArgs {
    /// One community, by its primary key in any spelling, or by its slug; all where it is left out.
    #[arg(long, value_name = "KEY OR SLUG")]
    community: Option<String>,
}

pub(super) fn run(path: &Path, config: &Config, command: CountersCommand) -> Result<(), Failure> {
    if !config.counters.enabled || !(config.counters.of_events() || config.writes_presence()) {
        return Err(Failure::Usage(format!(
            "{}: counters.enabled is false, or no count that the sidecar knows has a column: there is nothing to compare",
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
        let tasks = Tasks::on_current_runtime();
        let work = ComparisonRun {
            file: path,
            here: Here::of(config, &tasks).map_err(anyhow::Error::new)?,
            store: store.clone(),
            counters: config.counters.clone(),
            key: config.api.community_key,
            nor_slug: if config.schema.community.columns.slug.is_empty() {
                ""
            } else {
                ", nor with that slug"
            },
            repairs,
            is_kept: false,
            seen: 0,
            differing: 0,
            unwritten: 0,
            waiting: 0,
            to_write: Vec::new(),
        };
        let outcome = work.all(which.community).await;
        tasks.end();
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

/// A run of the command, over the communities that are meant.
struct ComparisonRun<'a> {
    /// The configuration's.
    file: &'a Path,
    store: Arc<dyn CounterStore>,
    counters: config::Counters,
    /// What names a community first.
    key: CommunityKey,
    /// Ends the error of a community that is not there.
    nor_slug: &'static str,
    repairs: bool,
    /// A sidecar keeps the counters now.
    is_kept: bool,
    here: Here,
    /// Communities that were compared.
    seen: usize,
    /// Those whose counters, or whose `current_visitors`, differed.
    differing: usize,
    /// Those whose counters agree, and of which the app's columns are still to be written, where no sidecar does: as after one
    /// that was killed, or a repair that was ended while it waited.
    unwritten: usize,
    /// The same where a sidecar does.
    waiting: usize,
    /// Those of `differing` and those of `unwritten`.
    to_write: Vec<ToWrite>,
}

/// A community of which the app's columns are to be written.
struct ToWrite {
    community: CommunityId,
    /// `current_visitors` beside what was written last, where it is wrong.
    present: Option<PresentComparison>,
}

impl ComparisonRun<'_> {
    async fn all(mut self, only: Option<String>) -> Result<(), Stopped> {
        let faults = self.store.faults().await?;
        if !faults.is_empty() {
            let faults: Vec<_> = faults.iter().map(|fault| format!("\n  {fault}")).collect();
            return Err(Stopped::Failure(Failure::Usage(format!(
                "{}: counters can be neither compared nor written:{}",
                self.file.display(),
                faults.concat()
            ))));
        }
        self.is_kept = self.store.is_lease_held().await?;
        match only {
            Some(named) => {
                let Some(community) = self.store.find(&named, self.key).await? else {
                    let problem = format!("there is no community with the key {named}{}", self.nor_slug);
                    return Err(Stopped::Failure(Failure::Usage(problem)));
                };
                self.one(community).await?;
            }
            None => self.each().await?,
        }
        let seen = counted(self.seen, "community", "communities");
        let differ = counted(self.differing, "differs", "differ");
        print_line(format_args!("{seen} compared, {differ}"));
        if self.unwritten > 0 {
            let unwritten = counted(self.unwritten, "community has", "communities have");
            let who = if self.repairs {
                ", by `repair` unless a sidecar does"
            } else {
                ": by the next sidecar, or by `headcount counters repair`"
            };
            print_line(format_args!(
                "{unwritten} columns that are still to be written{who}"
            ));
        }
        if self.waiting > 0 {
            let waiting = counted(self.waiting, "community waits", "communities wait");
            print_line(format_args!(
                "{waiting} for the sidecar to write the columns: {BY_A_SIDECAR}"
            ));
        }
        if self.counters.of_events() {
            print_line(
                "they were compared with the events in the database: page views that wait in the spool of a sidecar are not yet \
                 among these",
            );
        }
        if let Some(reason) = self.here.why_unknown() {
            print_line(format_args!(
                "current_visitors was compared with what was written last: {reason}"
            ));
        }
        if !self.repairs && self.differing > 0 {
            let what = "counters differ; `headcount counters repair` puts them right";
            return Err(Stopped::Failure(Failure::Other(anyhow::anyhow!(what))));
        }
        if self.repairs {
            self.write().await?;
        }
        Ok(())
    }
}
