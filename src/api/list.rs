//! One page of a visitor list: which of those present are shown, with profile and cursor.

use std::collections::HashMap;

use super::answers::Visitor;
use super::problem::Problem;
use super::query::ListQuery;
use super::{ApiState, cursor};
use crate::ids::UserId;
use crate::presence::{Answer, Scope, Seen};

/// How many pages in a row of users who are not shown are passed over before the list ends …
const ROUNDS: usize = 20;
/// … and the least size of such a page after the first.
const LARGE_PAGE: usize = 200;

impl ApiState {
    /// The page where the visitors are shown, else one without entries.
    pub(super) async fn page_if(
        &self,
        are_shown: bool,
        scope: &Scope,
        query: &ListQuery,
    ) -> Result<Answer<(Vec<Visitor>, Option<String>)>, Problem> {
        if are_shown {
            return self.page(scope, query).await;
        }
        Ok(Answer {
            value: (Vec::new(), None),
            stale: false,
        })
    }

    /// One page and the cursor of the next. Presence lists the users; one query on the app's tables adds their
    /// profiles. Users without one, and those whom the app hides, are passed over: a cursor is that of a visitor who is
    /// shown, as it holds the user's id. Where a whole page is passed over the next one is read.
    async fn page(
        &self,
        scope: &Scope,
        query: &ListQuery,
    ) -> Result<Answer<(Vec<Visitor>, Option<String>)>, Problem> {
        let (mut after, mut is_stale) = (query.after.clone(), false);
        for round in 0..ROUNDS {
            let size = if round == 0 {
                query.limit
            } else {
                query.limit.max(LARGE_PAGE)
            };
            let seen = self
                .presence
                .list(scope, after.as_ref(), size.saturating_add(1))
                .await;
            let seen = seen.map_err(|error| Problem::from_presence(&error))?;
            let Answer {
                value: mut seen,
                stale,
            } = seen;
            is_stale |= stale;
            let mut are_more = seen.len() > size;
            seen.truncate(size);
            after = seen.last().cloned();
            let mut shown = self.profiles(seen).await?;
            are_more |= shown.len() > query.limit;
            shown.truncate(query.limit);
            if shown.is_empty() && are_more {
                continue;
            }
            let next = shown.last().filter(|_| are_more);
            let next = next.map(|(seen, _)| cursor::encode(seen));
            let visitors = shown.into_iter().map(|(_, visitor)| visitor).collect();
            return Ok(Answer {
                value: (visitors, next),
                stale: is_stale,
            });
        }
        Ok(Answer {
            value: (Vec::new(), None),
            stale: is_stale,
        })
    }

    /// Those who are shown, in the same order.
    pub(super) async fn profiles(&self, seen: Vec<Seen>) -> Result<Vec<(Seen, Visitor)>, Problem> {
        if seen.is_empty() {
            return Ok(Vec::new());
        }
        let users: Vec<UserId> = seen.iter().map(|seen| seen.user.clone()).collect();
        let keys = self.store.keys();
        let rows = self.store.visitors(&users).await;
        let rows = rows.map_err(|error| Problem::from_store(&error))?;
        let mut rows: HashMap<UserId, _> = rows.into_iter().map(|row| (row.user_id.clone(), row)).collect();
        Ok(seen
            .into_iter()
            .filter_map(|seen| {
                let row = rows.remove(&seen.user)?;
                let base = &self.settings.avatar_base;
                let visitor = Visitor::new(row, seen.last_seen, base, &keys, self.session_facts);
                Some((seen, visitor))
            })
            .collect())
    }
}
