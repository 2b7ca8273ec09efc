//! The communities that a caller names and may see: of one request, and of a connection for as long as it is open.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::ApiState;
use super::caller::Caller;
use super::problem::Problem;
use crate::communities::AskedCommunity;
use crate::ids::CommunityId;

/// Communities of one request that are checked at the same time.
const CHECKED_AT_ONCE: usize = 8;

impl ApiState {
    /// The community in the path, if it exists and the caller may see it.
    pub(super) async fn visible_community(
        &self,
        caller: &Caller,
        asked: Option<&str>,
    ) -> Result<AskedCommunity, Problem> {
        let admitted = self.gate.admit(caller)?;
        let asked = asked.ok_or(Problem::NotFound)?;
        let community = self.gate.community(&admitted, asked).await?;
        community.ok_or(Problem::NotFound)
    }

    /// The communities asked for, in the same order: `None` for each that does not exist or that the caller may
    /// not see.
    pub(super) async fn visible(
        &self,
        caller: &Caller,
        asked: Vec<String>,
    ) -> Result<Vec<Option<AskedCommunity>>, Problem> {
        let admitted = self.gate.admit(caller)?;
        let (gate, admitted) = (&self.gate, &admitted);
        stream::iter(asked)
            .map(async |asked: String| gate.community(admitted, &asked).await)
            .buffered(CHECKED_AT_ONCE)
            .try_collect()
            .await
    }

    /// Whether the caller may see these communities, in the same order. The page of `open_page` is still open.
    pub(super) async fn still_visible(
        &self,
        caller: &Caller,
        communities: &[CommunityId],
        open_page: Option<&CommunityId>,
    ) -> Result<Vec<bool>, Problem> {
        let admitted = self.gate.admit(caller)?;
        let (gate, admitted) = (&self.gate, &admitted);
        stream::iter(communities.to_vec())
            .map(async |community: CommunityId| {
                let is_open = open_page == Some(&community);
                gate.still_shows(admitted, &community, is_open).await
            })
            .buffered(CHECKED_AT_ONCE)
            .try_collect()
            .await
    }
}
