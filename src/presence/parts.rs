//! Splits a request for many counts by part of the store, and asks the parts concurrently.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;

use super::{Answer, Count, PresenceError};
use crate::ids::CommunityId;

/// One count per community, in the order asked. Stale if any is; an error if any part fails.
pub(super) async fn counts_by_part<F>(
    communities: &[CommunityId],
    part: impl Fn(&CommunityId) -> u16,
    ask: impl Fn(u16, Vec<CommunityId>) -> F,
) -> Result<Answer<Vec<Count>>, PresenceError>
where
    F: Future<Output = Result<Answer<Vec<Count>>, PresenceError>>,
{
    let mut by_part: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
    for (place, community) in communities.iter().enumerate() {
        by_part.entry(part(community)).or_default().push(place);
    }
    let asked = by_part.iter().map(|(part, places)| {
        let communities = places.iter().map(|place| communities[*place].clone()).collect();
        ask(*part, communities)
    });
    let answers = try_join_all(asked).await?;
    let stale = answers.iter().any(|answer| answer.stale);
    let places = by_part.into_values().flatten();
    let counts = answers.into_iter().flat_map(|answer| answer.value);
    let in_order: BTreeMap<_, _> = places.zip(counts).collect();
    let value = in_order.into_values().collect();
    Ok(Answer { value, stale })
}
