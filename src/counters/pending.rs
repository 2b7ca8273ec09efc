//! Which communities a round takes of those that wait to be written, where there are more than it can write.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use futures_util::future::BoxFuture;

use crate::ids::CommunityId;
use crate::store::StoreError;

/// The last community that a round took, unless it took all: some cannot be written for long, and hold up no others.
#[derive(Default)]
pub(super) struct PendingCursor(Mutex<Option<CommunityId>>);

impl PendingCursor {
    /// At most `most` communities: those behind the cursor, then from the first on. `read` reads so many behind one, in order.
    ///
    /// # Errors
    /// Those of `read`.
    pub(super) async fn next<'a>(
        &self,
        most: usize,
        read: impl Fn(Option<CommunityId>, usize) -> BoxFuture<'a, Result<Vec<CommunityId>, StoreError>>,
    ) -> Result<BTreeSet<CommunityId>, StoreError> {
        let after = self.replace(None);
        let mut pending = read(after.clone(), most).await?;
        if after.is_some() && pending.len() < most {
            let rest = most - pending.len();
            pending.extend(read(None, rest).await?);
        }
        if pending.len() >= most {
            self.replace(pending.last().cloned());
        }
        Ok(pending.into_iter().collect())
    }

    fn replace(&self, after: Option<CommunityId>) -> Option<CommunityId> {
        let mut cursor = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *cursor, after)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn k3_rounds_take_turns_where_more_communities_wait_than_one_takes() {
        let cursor = PendingCursor::default();
        let next = |most: usize, waiting: &[&'static str]| {
            let read = |after: Option<CommunityId>, most: usize| {
                let behind = waiting
                    .iter()
                    .map(|key| CommunityId::from(*key))
                    .filter(|key| after.as_ref().is_none_or(|after| key > after));
                std::future::ready(Ok(behind.take(most).collect())).boxed()
            };
            let taken = cursor.next(most, read).now_or_never();
            let taken = taken.expect("it waits for nothing").expect("it is read");
            taken.iter().map(ToString::to_string).collect::<Vec<_>>().concat()
        };
        let waiting = ["a", "b", "c", "d", "e"];
        assert_eq!(next(5, &[]), "");
        assert_eq!(next(2, &waiting), "ab");
        assert_eq!(next(2, &waiting), "cd");
        assert_eq!(next(2, &waiting), "ae", "the last, and the first again");
        assert_eq!(next(2, &waiting), "bc");
        assert_eq!(next(5, &waiting), "abcde", "all, as many as a round takes");
        assert_eq!(next(5, &waiting), "abcde");
        assert_eq!(next(9, &waiting), "abcde");
        assert_eq!(next(9, &["b"]), "b", "the others were written");
    }
}
