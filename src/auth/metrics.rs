//! Metrics of sessions: lookups, evictions, and the listener to changes.

use crate::metrics::{Counter, Counters, label_values, metrics};

metrics! {
    /// Metrics of sessions.
    pub struct Metrics {
        /// Session tokens identified, by outcome
        lookups: Counters<LookupOutcome> = "session_lookups_total",
        /// JWTs that identify nobody, by reason
        jwts_refused: Counters<JwtRefusal> = "jwts_refused_total",
        /// API keys that are not accepted, by reason
        api_keys_refused: Counters<KeyRefused> = "api_keys_refused_total",
        /// Times that cached sessions were discarded before their time in the cache was over, by reason
        evictions: Counters<Evicted> = "session_evictions_total",
        /// Reconnects of the session-change listener
        listener_reconnects: Counter = "session_listener_reconnects_total",
    }
}

label_values! {
    /// Outcome of identifying a token.
    pub enum LookupOutcome as "outcome" {
        /// The session was in the cache.
        Cached => "cached",
        /// The table has a session.
        Found => "found",
        /// The table has no session.
        Nobody => "nobody",
        /// The table has a session without a user.
        Anonymous => "anonymous",
        /// The table has a session of an account without a profile.
        NoProfile => "no_profile",
        /// The table has a session of an account that is disabled.
        Disabled => "disabled",
        /// The table has a session whose user cannot be read.
        Unreadable => "unreadable",
        /// The token is not one of the app's.
        Malformed => "malformed",
        /// The table cannot be queried.
        Unavailable => "unavailable",
        /// The table cannot be queried, and the session was known before.
        Remembered => "remembered",
    }
}

label_values! {
    /// Why cached sessions are discarded.
    pub enum Evicted as "reason" {
        /// The database notified of a change of one session.
        Changed => "changed",
        /// The database notified that all may have changed.
        AllChanged => "all_changed",
        /// The listener has connected: changes before that may have been missed.
        Gap => "gap",
        /// More sessions changed than are tracked one by one.
        Overflow => "overflow",
        /// A token that had no session may have one now.
        Appeared => "appeared",
    }
}

label_values! {
    /// Why an API key is not accepted.
    pub enum KeyRefused as "reason" {
        /// It has not the form of one, or there are several `Authorization` headers.
        Malformed => "malformed",
        /// It is none of those that are configured.
        Unknown => "unknown",
        /// Its time is over.
        Expired => "expired",
    }
}

label_values! {
    /// Why a JWT identifies nobody.
    pub enum JwtRefusal as "reason" {
        /// It has more than 8 KiB.
        TooLong => "too_long",
        /// It is none.
        Malformed => "malformed",
        /// It is signed by another algorithm than those configured, or not at all.
        Algorithm => "algorithm",
        /// There is no key of its name and algorithm.
        Key => "key",
        /// It was signed with another key, or changed since.
        Signature => "signature",
        /// Its time is over.
        Expired => "expired",
        /// Its time has not come.
        NotYet => "not_yet",
        /// It is of another issuer.
        Issuer => "issuer",
        /// It is for another audience.
        Audience => "audience",
        /// It is no access token, but a refresh token or the like.
        TokenType => "token_type",
        /// A claim is missing, or is not of the kind that it must be.
        Claims => "claims",
    }
}
