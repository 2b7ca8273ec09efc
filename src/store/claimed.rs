//! The sessions that JWTs name: by their primary key, and only where they are of the user that the JWT names too. The
//! statements are in `postgres` and `sqlite`.

use super::operations::Operation;
use super::schema::SessionTable;
use crate::browser_session::BrowserSession;
use crate::ids::SessionToken;

/// The sessions of JWTs' claims, valid or not.
pub(super) struct FindClaimed<'a> {
    pub tokens: &'a [&'a SessionToken],
}

impl Operation for FindClaimed<'_> {
    /// Each with its token's index among those asked for.
    type Output = Vec<(usize, Result<BrowserSession, sqlx::Error>)>;
}

/// What is looked for: index among the tokens, key of the session, key of its user; both in canonical form.
pub(super) type Wanted = (usize, String, String);

impl FindClaimed<'_> {
    /// What is looked for. A claim that is no key of its column's type names no session.
    pub(super) fn wanted(&self, table: &SessionTable) -> Vec<Wanted> {
        let wanted = |(place, token): (usize, &&SessionToken)| {
            let claims = token.claims()?;
            let session = table
                .id
                .key_type()
                .canonical(claims.session.as_ref()?.as_str())?
                .into_owned();
            let user = table
                .user_id
                .key_type()
                .canonical(claims.user.as_str())?
                .into_owned();
            Some((place, session, user))
        };
        self.tokens.iter().enumerate().filter_map(wanted).collect()
    }
}
