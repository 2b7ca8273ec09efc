//! Finds sessions by their tokens, with what the app says of their users: hidden, or disabled.

use std::collections::{HashMap, HashSet};

use chrono::Utc;

use super::{SqlStore, has_nul};
use crate::browser_session::{Unusable, Visibility};
use crate::config;
use crate::ids::{SessionToken, UserId};
use crate::store::jwt_sessions::FindJwtSessions;
use crate::store::operations::{Backend, FindSessions, LookAtSessions, MarkedOf, Runs, StoreOperation};
use crate::store::schema::Mark;
use crate::store::{SessionFound, SessionsFound, StoreError};

impl<B: Backend> SqlStore<B> {
    /// The sessions of tokens, whether secrets of cookies or the claims of JWTs.
    pub(super) async fn sessions(&self, tokens: &[SessionToken]) -> Result<SessionsFound, StoreError> {
        let tokens = tokens.iter().filter(|token| !has_nul(token.expose_secret()));
        let (jwts, secrets): (Vec<_>, Vec<_>) = tokens.partition(|token| token.claims().is_some());
        let mut found = self
            .sessions_of(&secrets, &FindSessions { tokens: &secrets })
            .await?;
        found.extend(
            self.sessions_of(&jwts, &FindJwtSessions { tokens: &jwts })
                .await?,
        );
        Ok(found)
    }

    /// The sessions of tokens, by the operation that finds them.
    async fn sessions_of<O>(&self, tokens: &[&SessionToken], find: &O) -> Result<SessionsFound, StoreError>
    where
        O: StoreOperation<Output = Vec<(usize, Result<SessionFound, sqlx::Error>)>>,
        B: Runs<O>,
    {
        if tokens.is_empty() {
            return Ok(SessionsFound::new());
        }
        let found = match self.connections.run(find).await {
            // Of several tokens, the caller asks for each alone.
            Err(error) if error.untranslatable() && tokens.len() == 1 => return Ok(SessionsFound::new()),
            outcome => outcome?,
        };
        let found = self.with_marks(found).await?;
        let of = |(place, session): (usize, Result<SessionFound, sqlx::Error>)| {
            Some(((*tokens.get(place)?).clone(), session.map_err(StoreError::from)))
        };
        Ok(found.into_iter().filter_map(of).collect())
    }

    /// Sets which of the sessions' users the app hides, and leaves out those whose accounts it has disabled.
    async fn with_marks(
        &self,
        mut found: <FindSessions<'_> as StoreOperation>::Output,
    ) -> Result<<FindSessions<'_> as StoreOperation>::Output, StoreError> {
        if self.rules.hidden.is_none() && !self.rules.disabled {
            return Ok(found);
        }
        let sessions = found
            .iter()
            .filter_map(|(_, session)| session.as_ref().ok()?.as_ref().ok());
        let users: Vec<UserId> = sessions.map(|session| session.user_id.clone()).collect();
        let hidden = self.hidden_of(&users).await?;
        let disabled = self.disabled(&users).await?;
        for (_, session) in &mut found {
            let Ok(Ok(known)) = session else { continue };
            if disabled.contains(&known.user_id) {
                *session = Ok(Err(Unusable::Disabled));
            } else {
                known.visibility = hidden.get(&known.user_id).copied().unwrap_or_default();
            }
        }
        Ok(found)
    }

    /// Those of the users whose accounts are disabled, or gone: all but those that are there and active.
    async fn disabled(&self, users: &[UserId]) -> Result<HashSet<UserId>, StoreError> {
        if !self.rules.disabled || users.is_empty() {
            return Ok(HashSet::new());
        }
        let mark = Mark::Active;
        let active = self.connections.run(&MarkedOf { mark, users }).await?;
        let mut disabled: HashSet<UserId> = users.iter().cloned().collect();
        for user in &active {
            disabled.remove(user);
        }
        Ok(disabled)
    }

    /// Those of the users whom the app hides, and from whom.
    pub(super) async fn hidden_of(
        &self,
        users: &[UserId],
    ) -> Result<HashMap<UserId, Visibility>, StoreError> {
        let Some(hidden) = self.rules.hidden.filter(|_| !users.is_empty()) else {
            return Ok(HashMap::new());
        };
        let mark = Mark::Hidden;
        let users = self.connections.run(&MarkedOf { mark, users }).await?;
        Ok(users.into_iter().map(|user| (user, hidden)).collect())
    }

    /// What some live sessions look like.
    pub(in crate::store) async fn session_remarks(
        &self,
        session: &config::Session,
    ) -> Result<Vec<String>, StoreError> {
        let now = Utc::now();
        self.connections.run(&LookAtSessions { session, now }).await
    }
}
