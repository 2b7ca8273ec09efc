//! `headcount counters`: compares the counters of communities with the events, and counts them anew.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use tokio::time::timeout;
use uuid::Uuid;

use super::{Failure, block_on, print_line};
use crate::config::{self, CommunityKey, Config};
use crate::counters::writes_presence;
use crate::ids::CommunityId;
use crate::presence::{self, Presence, Scope};
use crate::printable::counted;
use crate::reload::load_routes;
use crate::routes::{CountedTypes, RouteNames};
use crate::store::{self, Comparison, CounterStore, StoreError};
use crate::tasks::Tasks;
use crate::telemetry::chain;

/// Communities looked up, and written, at a time.
const PAGE: i64 = 100;
/// How long the lease is taken for one write.
const TTL: Duration = Duration::from_secs(30);
/// How long an answer of Redis is waited for.
const REDIS: Duration = Duration::from_secs(5);

#[derive(Debug, Subcommand)]
pub(super) enum CountersCommand {
    /// Compare them with the events, and `current_visitors` with Redis where that knows who is there, else with what was
    /// written last. Changes nothing; the exit code is 1 where one differs.
    Verify(CommunityArgs),
    /// Compare them with the events, and count those anew that differ. The app's columns are written by the sidecar that
    /// runs, or at once where none does.
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
    if !config.counters.enabled || !(config.counters.of_events() || writes_presence(config)) {
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
            differing: Vec::new(),
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
    /// Those that differed.
    differing: Vec<Difference>,
}

/// A community whose counters, or whose `current_visitors`, differed.
struct Difference {
    community: CommunityId,
    /// `current_visitors` did: it is wrong as long as it is not written.
    of_present: bool,
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
        let differing = self.differing.len();
        let seen = counted(self.seen, "community", "communities");
        let differ = counted(differing, "differs", "differ");
        print_line(format_args!("{seen} compared, {differ}"));
        if self.counters.of_events() {
            print_line(
                "they were compared with the events in the database: page views that wait in the spool of a sidecar are not yet \
                 among these",
            );
        }
        if let Here::Unknown(reason) = &self.here {
            print_line(format_args!(
                "current_visitors was compared with what was written last: {reason}"
            ));
        }
        if !self.repairs && differing > 0 {
            let what = "counters differ; `headcount counters repair` puts them right";
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
        let differs = self.counters.of_events() && self.events_of(&community).await?;
        let of_present = self.present_in(&community).await?;
        if differs || of_present {
            self.differing.push(Difference {
                community,
                of_present,
            });
        }
        Ok(())
    }

    /// Whether a community's counters differ from its events.
    async fn events_of(&self, community: &CommunityId) -> Result<bool, StoreError> {
        let comparison = self.store.compare(community).await?;
        if comparison.agrees() {
            return Ok(false);
        }
        print_line(line(community, &comparison));
        if self.repairs {
            self.store.recount(community).await?;
        }
        Ok(true)
    }

    /// Whether `current_visitors` of a community is wrong. While a sidecar keeps the counters, what was written last is right,
    /// or will be in a moment.
    async fn present_in(&mut self, community: &CommunityId) -> Result<bool, StoreError> {
        if matches!(self.here, Here::Unwritten) {
            return Ok(false);
        }
        let Some(found) = self.store.compare_present(community).await? else {
            return Ok(false);
        };
        let now = self.here.counts(&[community]).await[0];
        let is_late = !self.is_kept && now.is_some_and(|now| !found.shows(now));
        if !found.is_overwritten() && !is_late {
            return Ok(false);
        }
        let shown = number(found.shown);
        let right = match now {
            Some(now) => format!("{now} there now by Redis"),
            None => format!("{} written last", found.noted),
        };
        print_line(format_args!(
            "community {community}: current_visitors {shown} in the app's column, {right}"
        ));
        if self.repairs {
            self.store.note_shown(community, found).await?;
        }
        Ok(true)
    }

    /// Writes the app's columns of what was counted, unless a sidecar does; at the earliest a whole `counters.interval` after
    /// the last write.
    async fn write(&mut self) -> Result<(), StoreError> {
        if self.differing.is_empty() {
            return Ok(());
        }
        let holder = Uuid::new_v4();
        if !self.take_lease(holder).await? {
            print_line("the sidecar that keeps the counters writes them within counters.interval");
            return Ok(());
        }
        let outcome = self.write_all(holder).await;
        let released = self.store.release_lease(holder).await;
        let Some(Left { locked, unknown }) = outcome? else {
            print_line(
                "a sidecar has begun to keep the counters meanwhile: it writes what is left within counters.interval",
            );
            return Ok(());
        };
        released?;
        if locked > 0 {
            let locked = counted(locked, "community is", "communities are");
            print_line(format_args!(
                "{locked} locked by the app; the next sidecar writes what is left"
            ));
        }
        if unknown {
            let why = match &self.here {
                Here::Unknown(reason) => reason.as_str(),
                _ => "who is there is not known",
            };
            print_line(format_args!(
                "no sidecar runs: the next one writes current_visitors ({why})"
            ));
        }
        Ok(())
    }

    /// Takes the lease once a whole interval is over since the last write; whether nobody else has it. It is free while that
    /// is waited for: a sidecar that starts then writes instead.
    async fn take_lease(&self, holder: Uuid) -> Result<bool, StoreError> {
        loop {
            let Some(lease) = self.store.take_lease(holder, TTL).await? else {
                return Ok(false);
            };
            let rest = lease
                .since_round
                .map(|since| self.counters.interval.saturating_sub(since));
            let Some(rest) = rest.filter(|rest| !rest.is_zero()) else {
                return Ok(true);
            };
            self.store.release_lease(holder).await?;
            print_line(format_args!(
                "the columns were written less than counters.interval ago: written in {} s",
                rest.as_millis().div_ceil(1000)
            ));
            tokio::time::sleep(rest).await;
        }
    }

    /// Writes all, and keeps the lease meanwhile; what is left. `None` once another has it. Who is there is asked only now:
    /// the lease may have been waited for.
    async fn write_all(&mut self, holder: Uuid) -> Result<Option<Left>, StoreError> {
        let mut left = Left::default();
        for chunk in self.differing.chunks(usize::try_from(PAGE).unwrap_or(1)) {
            if self.store.take_lease(holder, TTL).await?.is_none() {
                return Ok(None);
            }
            let communities: Vec<_> = chunk.iter().map(|difference| &difference.community).collect();
            let now = self.here.counts(&communities).await;
            let is_unknown =
                |(difference, now): (&Difference, &Option<i64>)| difference.of_present && now.is_none();
            left.unknown |= chunk.iter().zip(&now).any(is_unknown);
            let wishes: Vec<_> = communities.into_iter().cloned().zip(now).collect();
            let Some(published) = self.store.publish(holder, &wishes).await? else {
                return Ok(None);
            };
            left.locked += published.left;
        }
        Ok(Some(left))
    }
}

/// What a repair has not written.
#[derive(Default)]
struct Left {
    /// Communities that the app has locked.
    locked: u64,
    /// `current_visitors` of one is wrong, and what is right is not known.
    unknown: bool,
}

/// How the command knows who is there now.
enum Here {
    /// It is not written, or not known.
    Unwritten,
    /// Why it is not known.
    Unknown(String),
    Redis(Arc<dyn Presence>),
}

impl Here {
    fn of(config: &Config, tasks: &Tasks) -> Result<Self, presence::PresenceConfigError> {
        if !writes_presence(config) {
            return Ok(Self::Unwritten);
        }
        let redis = presence::open_to_read(&config.redis, &config.record, tasks)?;
        Ok(redis.map_or_else(
            || Self::Unknown("without Redis only the sidecar that runs knows who is there".to_owned()),
            Self::Redis,
        ))
    }

    /// How many are in each of these communities now, where that is known. Redis is not asked again once it has not answered.
    async fn counts(&mut self, communities: &[&CommunityId]) -> Vec<Option<i64>> {
        let Self::Redis(redis) = self else {
            return vec![None; communities.len()];
        };
        let asked: Vec<Scope> = communities.iter().copied().map(Scope::from).collect();
        let reason = match timeout(REDIS, redis.all_counts(&asked)).await {
            Ok(Ok(answer)) => {
                let counts = answer.value.iter();
                let counts = counts.map(|count| Some(i64::try_from(count.current).unwrap_or(i64::MAX)));
                return counts.collect();
            }
            Ok(Err(error)) => format!("Redis does not say who is there ({})", chain(&error)),
            Err(_) => "Redis does not answer".to_owned(),
        };
        *self = Self::Unknown(reason);
        vec![None; communities.len()]
    }
}

fn number(number: Option<i64>) -> String {
    number.map_or_else(|| "none".to_owned(), |number| number.to_string())
}

fn line(community: &CommunityId, comparison: &Comparison) -> String {
    let counted = comparison.counted;
    let counted = format!(
        "page_views {} and total_visitors {} by the events",
        counted.page_views, counted.total_visitors
    );
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
