//! Compares the counters of communities with the events, and `current_visitors` with Redis.

use chrono::{DateTime, Utc};

use super::present::Here;
use super::{ComparisonRun, PAGE, ToWrite};
use crate::cli::print_line;
use crate::ids::CommunityId;
use crate::store::{Comparison, PresentComparison, StoreError};

/// Counters, and the app's columns of them, beside the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Columns {
    Agree,
    /// The counters agree; the columns are still to be written, by the sidecar that runs.
    Waiting,
    /// The counters agree; the columns are still to be written, and no sidecar runs that does.
    Unwritten,
    Differ,
}

impl ComparisonRun<'_> {
    /// Compares each community.
    pub(super) async fn each(&mut self) -> Result<(), StoreError> {
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

    /// Compares one, and counts it anew where it differs and is to be repaired.
    pub(super) async fn one(&mut self, community: CommunityId) -> Result<(), StoreError> {
        self.seen += 1;
        let columns = if self.counters.of_events() {
            self.events_of(&community).await?
        } else {
            Columns::Agree
        };
        let present = self.present_in(&community).await?;
        self.differing += usize::from(present.is_some() || columns == Columns::Differ);
        self.unwritten += usize::from(columns == Columns::Unwritten);
        self.waiting += usize::from(columns == Columns::Waiting);
        if present.is_some() || matches!(columns, Columns::Unwritten | Columns::Differ) {
            self.to_write.push(ToWrite { community, present });
        }
        Ok(())
    }

    /// How a community's counters are beside its events.
    async fn events_of(&self, community: &CommunityId) -> Result<Columns, StoreError> {
        let comparison = self.store.compare(community).await?;
        if comparison.agrees() {
            if comparison.shown.is_some() {
                return Ok(Columns::Agree);
            }
            if self.is_kept {
                return Ok(Columns::Waiting);
            }
            if self.repairs {
                // What batches have added since the last round is among the totals then, which alone are written.
                self.store.recount(community).await?;
            }
            return Ok(Columns::Unwritten);
        }
        print_line(line(community, &comparison));
        if self.repairs {
            self.store.recount(community).await?;
        }
        Ok(Columns::Differ)
    }

    /// `current_visitors` of a community, if it is wrong. While a sidecar keeps the counters, what was written last is right,
    /// or will be in a moment.
    async fn present_in(&mut self, community: &CommunityId) -> Result<Option<PresentComparison>, StoreError> {
        if matches!(self.here, Here::Unwritten) {
            return Ok(None);
        }
        let Some(found) = self.store.compare_present(community).await? else {
            return Ok(None);
        };
        let now = self.here.counts(&[community]).await[0];
        let is_late = !self.is_kept && now.is_some_and(|now| !found.shows(now));
        if !found.is_overwritten() && !is_late {
            return Ok(None);
        }
        let shown = number(found.shown);
        let right = match now {
            Some(now) => format!("{now} there now by Redis"),
            None => format!("{} written last", found.noted),
        };
        print_line(format_args!(
            "community {community}: current_visitors {shown} in the app's column, {right}"
        ));
        Ok(Some(found))
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
