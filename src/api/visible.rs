//! The communities that a caller names and may see: of one request, and of a connection for as long as it is open.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::ApiState;
use super::caller::Caller;
use super::problem::Problem;
use crate::communities::AskedCommunity;
use crate::ids::Finer;
use crate::presence::Scope;

/// Communities of one request that are checked at the same time.
const CHECKED_AT_ONCE: usize = 8;

impl ApiState {
    /// The community in the path, if it exists and the caller may see it.
    pub(super) async fn visible_community(
        &self,
        caller: &Caller,
        asked: Option<&str>,
    ) -> Result<AskedCommunity, Problem> {
        self.visible_scope(caller, asked, None).await
    }

    /// The same, where the caller may see something `finer` in it, too.
    pub(super) async fn visible_scope(
        &self,
        caller: &Caller,
        asked: Option<&str>,
        finer: Option<&Finer>,
    ) -> Result<AskedCommunity, Problem> {
        let admitted = self.gate.admit(caller)?;
        let asked = asked.ok_or(Problem::NotFound)?;
        let community = self.gate.community(&admitted, asked, finer).await?;
        community.ok_or(Problem::NotFound)
    }

    /// The communities asked for, in the same order: `None` for each that does not exist or that the caller may
    /// not see, or something `finer` in it.
    pub(super) async fn visible(
        &self,
        caller: &Caller,
        asked: Vec<String>,
        finer: Option<&Finer>,
    ) -> Result<Vec<Option<AskedCommunity>>, Problem> {
        let admitted = self.gate.admit(caller)?;
        let (gate, admitted) = (&self.gate, &admitted);
        stream::iter(asked)
            .map(async |asked: String| gate.community(admitted, &asked, finer).await)
            .buffered(CHECKED_AT_ONCE)
            .try_collect()
            .await
    }

    /// Whether the caller may see these communities and things in them, in the same order. The page at `open_page` is still
    /// open.
    pub(super) async fn still_visible(
        &self,
        caller: &Caller,
        scopes: &[Scope],
        open_page: Option<&Scope>,
    ) -> Result<Vec<bool>, Problem> {
        let admitted = self.gate.admit(caller)?;
        let (gate, admitted) = (&self.gate, &admitted);
        stream::iter(scopes.to_vec())
            .map(async |scope: Scope| {
                let is_open = open_page.is_some_and(|page| *page == scope || page.group() == scope);
                gate.still_shows(admitted, &scope, is_open).await
            })
            .buffered(CHECKED_AT_ONCE)
            .try_collect()
            .await
    }
}
