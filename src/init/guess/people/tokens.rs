//! Signed tokens, which name the user beside sessions.

use crate::init::django::Tokens;
use crate::init::guess::{Guess, text};

/// Writes it down. Proposed only: the key is a secret, which is not copied out of the site.
pub(super) fn say(guess: &mut Guess, tokens: &Tokens) {
    let algorithm = tokens.algorithm.as_deref().unwrap_or("HS256");
    guess.propose(
        "session.jwt",
        "algorithms",
        format!("[{}]", text(algorithm)),
        "SIMPLE_JWT is set: take the mark away, and write its SIGNING_KEY (by default SECRET_KEY) to a file that only the \
         sidecar can read",
    );
    guess.propose(
        "session.jwt",
        "key_file",
        "\"jwt.key\"",
        "that file, beside this one; keys are not copied out of the site",
    );
    for (key, setting, value) in [
        (
            "user_claim",
            "USER_ID_CLAIM",
            tokens.user_id_claim.as_deref().map(text),
        ),
        ("issuer", "ISSUER", tokens.issuer.as_deref().map(text)),
        (
            "audience",
            "AUDIENCE",
            tokens.audience.as_deref().map(|name| format!("[{}]", text(name))),
        ),
    ] {
        if let Some(value) = value {
            guess.propose("session.jwt", key, value, format!("SIMPLE_JWT[\"{setting}\"]"));
        }
    }
}
