//! One page of past visitors: those who are shown.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::end;
use crate::api::ApiState;
use crate::api::answers::past_visitors::PastVisitorAnswer;
use crate::api::caller::Caller;
use crate::api::cursor::past::{Belonging, PastCursor};
use crate::api::problem::Problem;
use crate::api::query::PastQuery;
use crate::ids::{CommunityId, UserId};
use crate::store::{PastAsked, PastPlace, PastSort, PastVisitor};

/// How many pages in a row of users who are not shown are passed over before the list ends …
const ROUNDS: usize = 20;
/// … and the least size of such a page after the first.
const LARGE_PAGE: usize = 200;

impl ApiState {
    /// One page, its window's end, and the cursor of the next. Users without a profile, and those whom the app hides, are
    /// passed over: a cursor is that of a visitor who is shown, as it holds the user's id.
    pub(super) async fn past_page(
        &self,
        caller: &Caller,
        community: &CommunityId,
        belonging: Belonging,
        query: &PastQuery,
        now: DateTime<Utc>,
    ) -> Result<(DateTime<Utc>, Vec<PastVisitorAnswer>, Option<String>), Problem> {
        let mut to = end(query, now);
        let mut after = query.after.as_ref().map(|after| after.place.clone());
        for round in 0..ROUNDS {
            let size = if round == 0 {
                query.limit
            } else {
                query.limit.max(LARGE_PAGE)
            };
            let asked = PastAsked::Page {
                sort: query.sort,
                after: after.clone(),
                limit: size.saturating_add(1),
            };
            let is_first = query.after.is_none() && round == 0;
            let found = self.past.of(community, query.days, to, is_first, asked).await?;
            to = found.to;
            let mut are_more = found.visitors.len() > size;
            let visitors = found.visitors.get(..size).unwrap_or(&found.visitors);
            after = visitors.last().map(|last| place(last, query.sort));
            let mut shown = self.past_profiles(caller, visitors).await?;
            are_more |= shown.len() > query.limit;
            shown.truncate(query.limit);
            if shown.is_empty() && are_more {
                continue;
            }
            let next = shown.last().filter(|_| are_more).map(|(last, _)| {
                let place = place(last, query.sort);
                let cursor = PastCursor { to, place, belonging };
                cursor.encode()
            });
            let visitors = shown.into_iter().map(|(_, visitor)| visitor).collect();
            return Ok((to, visitors, next));
        }
        Ok((to, Vec::new(), None))
    }

    /// Those who are shown, in the same order.
    pub(super) async fn past_profiles<'v>(
        &self,
        caller: &Caller,
        visitors: &'v [PastVisitor],
    ) -> Result<Vec<(&'v PastVisitor, PastVisitorAnswer)>, Problem> {
        if visitors.is_empty() {
            return Ok(Vec::new());
        }
        let users: Vec<UserId> = visitors.iter().map(|visitor| visitor.user_id.clone()).collect();
        let rows = self.store.visitors(&users).await;
        let rows = rows.map_err(|error| Problem::from_store(&error))?;
        let mut rows: HashMap<UserId, _> = rows.into_iter().map(|row| (row.user_id.clone(), row)).collect();
        let (keys, base) = (self.store.keys(), &self.settings.avatar_base);
        let shown = visitors.iter().filter_map(|visitor| {
            let row = rows.remove(&visitor.user_id)?;
            let pages = self.told_pages(caller, &visitor.pages);
            Some((visitor, PastVisitorAnswer::new(row, visitor, pages, base, &keys)))
        });
        Ok(shown.collect())
    }
}

fn place(visitor: &PastVisitor, sort: PastSort) -> PastPlace {
    PastPlace {
        value: visitor.value(sort),
        user: visitor.user_id.clone(),
    }
}
