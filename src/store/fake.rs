//! Fake stores for tests that need only a part of one.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{
    Applied, PastAsked, PastVisitor, PastWindow, SessionsFound, Stats, Store, StoreError, VisitorRow,
};
use crate::batch::{Batch, BatchKey};
use crate::browser_session::BrowserSession;
use crate::ids::{AccountId, CommunityId, SessionToken, UserId};
use crate::key_type::{AppKeys, KeyType, KeyTypes};

/// Declares [`Fake`] with the operations of a store, and makes each fake a [`Store`].
macro_rules! operations {
    ($($operation:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        /// The part of a store that a test expects to be used; any other call fails the test.
        #[async_trait]
        pub(crate) trait Fake: Send + Sync + 'static {
            fn known_keys(&self) -> AppKeys {
                AppKeys::of(KeyTypes {
                    community: KeyType::BIGINT,
                    user: KeyType::BIGINT,
                })
            }

            $(async fn $operation(&self, $(_: $type),*) -> Result<$answer, StoreError> {
                unimplemented!("{} is not expected", stringify!($operation))
            })*
        }

        #[async_trait]
        impl<F: Fake> Store for F {
            fn keys(&self) -> AppKeys {
                self.known_keys()
            }

            async fn key_types(&self) -> Result<KeyTypes, StoreError> {
                let unknown = StoreError::Unavailable(sqlx::Error::PoolTimedOut);
                self.known_keys().get().ok_or(unknown)
            }

            async fn browser_sessions(&self, tokens: &[SessionToken]) -> Result<SessionsFound, StoreError> {
                let mut found = SessionsFound::new();
                for token in tokens {
                    match Fake::browser_session(self, token).await {
                        Ok(Some(session)) => drop(found.insert(token.clone(), Ok(Ok(session)))),
                        Ok(None) => {}
                        Err(error @ StoreError::Unavailable(_)) => return Err(error),
                        Err(error) => drop(found.insert(token.clone(), Err(error))),
                    }
                }
                Ok(found)
            }

            $(async fn $operation(&self, $($argument: $type),*) -> Result<$answer, StoreError> {
                Fake::$operation(self, $($argument),*).await
            })*

            async fn ping(&self) -> Result<(), StoreError> {
                Ok(())
            }

            fn lost_connections(&self) -> u64 {
                0
            }

            async fn close(&self) {}
        }
    };
}

operations! {
    browser_session(token: &SessionToken) -> Option<BrowserSession>;
    users_of_accounts(accounts: &[AccountId]) -> HashMap<AccountId, UserId>;
    community_by_slug(slug: &str) -> Option<CommunityId>;
    community_by_lookup(lookup: &str, key: &str) -> Option<CommunityId>;
    community_slug(community: &CommunityId) -> Option<String>;
    community_by_key(key: &CommunityId) -> Option<CommunityId>;
    apply(batch: &Batch) -> Applied;
    missing_parts(parts: &[BatchKey]) -> HashSet<BatchKey>;
    forget_old_parts(now: DateTime<Utc>) -> u64;
    visitors(users: &[UserId]) -> Vec<VisitorRow>;
    past_visitors(window: &PastWindow, asked: &PastAsked) -> Vec<PastVisitor>;
    stats(community: &CommunityId, from: DateTime<Utc>, to: DateTime<Utc>) -> Stats;
}
