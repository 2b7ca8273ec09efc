//! Proposes the settings of JWTs (`[session.jwt]`) from the site's `SIMPLE_JWT`.

use crate::init::django::SimpleJwt;
use crate::init::guess::{Guess, text};

/// Adds the settings as comments: the key is a secret, which is not copied from the site.
pub(super) fn add_settings(guess: &mut Guess, tokens: &SimpleJwt) {
    let algorithm = tokens.algorithm.as_deref().unwrap_or("HS256");
    guess.propose(
        "session.jwt",
        "algorithms",
        format!("[{}]", text(algorithm)),
        "SIMPLE_JWT is set: to accept its tokens, remove the # of these lines, and write its SIGNING_KEY (by default \
         SECRET_KEY) to a file that only the sidecar can read",
    );
    guess.propose(
        "session.jwt",
        "key_file",
        "\"jwt.key\"",
        "the file with the key, relative to this one; init does not copy keys from the site",
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
