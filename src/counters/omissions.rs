//! Page views that were written without what they add to the counters: the role of the sidecar that wrote them lacked a
//! right, or the tables of counters were not there. The counters of their communities are compared with the events as soon as
//! a sidecar can write counters, whoever that is, and however often those that wrote them have been started since.
//!
//! Paced as the daily comparison is, and not begun again at once: while another sidecar lacks the right, such views keep
//! coming.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};

use super::in_turn::{Interruption, MOST_FAILED, PAGE, Reconciler};
use crate::ids::CommunityId;
use crate::store::{Omission, StoreError};

/// A row may say that a view is earlier than it was: in a column without a zone, of two hours of one name in autumn.
const MARGIN: TimeDelta = TimeDelta::hours(2);

/// A comparison of the communities that an omission concerns.
#[derive(Debug)]
pub(super) struct OmittedPass {
    omission: Omission,
    /// How many were compared.
    communities: u64,
    /// Those that could not be compared, at most [`MOST_FAILED`].
    failed: BTreeSet<CommunityId>,
    /// Why the last one of these could not be.
    error: Option<StoreError>,
}

impl Reconciler {
    /// Compares what there is to compare; whether there was anything. Where some cannot be, `unfinished` has these: a retry
    /// compares no others, unless there are more such views by then.
    pub(super) async fn compare_omitted(
        &self,
        unfinished: &mut Option<OmittedPass>,
    ) -> Result<bool, Interruption> {
        let former = unfinished.take();
        if !self.config.of_events() {
            return Ok(false);
        }
        let Some(omission) = self.store.omission().await? else {
            return Ok(false);
        };
        let mut pass = OmittedPass {
            omission,
            communities: 0,
            failed: BTreeSet::new(),
            error: None,
        };
        match former.filter(|former| former.omission == omission) {
            Some(former) => self.compare_each(former.failed, &mut pass).await?,
            None => self.compare_all(&mut pass).await?,
        }
        if let Some(error) = pass.error.take() {
            *unfinished = Some(pass);
            return Err(error.into());
        }
        self.store.forget_omission(omission).await?;
        let communities = pass.communities;
        tracing::info!(
            communities,
            "the counters have the page views again that they lacked"
        );
        Ok(true)
    }

    async fn compare_all(&self, pass: &mut OmittedPass) -> Result<(), Interruption> {
        tracing::info!(
            since = %pass.omission.since,
            "page views were written that the counters lack, as a right for these or their tables were missing: the communities with page \
             views since then are compared with their events now"
        );
        let mut after = None;
        loop {
            // Whatever was compared before: such a view may have been written since.
            let all = DateTime::<Utc>::MAX_UTC.min(Utc::now() + TimeDelta::days(1));
            let (communities, last) = self.store.unchecked(after.as_ref(), all, PAGE).await?;
            self.compare_each(communities, pass).await?;
            match last {
                Some(last) => after = Some(last),
                None => return Ok(()),
            }
        }
    }

    /// An error where too many cannot be compared, so that all are again.
    async fn compare_each(
        &self,
        communities: impl IntoIterator<Item = CommunityId>,
        pass: &mut OmittedPass,
    ) -> Result<(), Interruption> {
        for community in communities {
            let compared = self.compare_if_viewed(&community, pass.omission);
            match self.in_turn(compared).await? {
                Ok(is_compared) => pass.communities += u64::from(is_compared),
                Err(error) if pass.failed.len() >= MOST_FAILED => return Err(error.into()),
                Err(error) => {
                    pass.error = Some(error);
                    pass.failed.insert(community);
                }
            }
        }
        Ok(())
    }

    /// Compares one community, if it has views since then; whether it has.
    async fn compare_if_viewed(
        &self,
        community: &CommunityId,
        omission: Omission,
    ) -> Result<bool, StoreError> {
        let since = omission
            .since
            .checked_sub_signed(MARGIN)
            .unwrap_or(omission.since);
        let has_views = self.store.has_views(community, since).await?;
        if has_views {
            self.reconcile(community).await?;
        }
        Ok(has_views)
    }
}
