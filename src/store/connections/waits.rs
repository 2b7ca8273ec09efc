//! What is said of an operation that has waited for a connection: who waited for how long, and which of the two it was, a
//! database that did not answer or a pool that is too small. Pure.

use std::time::Duration;

/// Why there was no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoConnection {
    /// The database did not answer, or was slow to accept another.
    NoAnswer,
    /// All of the pool were in use.
    AllInUse { connections: u32, of_counters: bool },
}

impl NoConnection {
    /// What a wait of `what` came to.
    pub(super) fn waited(self, what: &str, waited: Duration) -> String {
        let seconds = waited.as_secs_f64();
        format!(
            "{what} waited {seconds:.1} s for a connection to the database: {}",
            self.why("were", "it was slow to accept connections, or to answer")
        )
    }

    /// The same of one that got none.
    pub(super) fn in_vain(self, what: &str) -> String {
        format!(
            "{what} got no connection within database.acquire_timeout: {}",
            self.why(
                "are",
                "it does not run, refuses connections, does not answer, or is too slow"
            )
        )
    }

    /// `were`: in use; `no_answer`: what that comes of.
    fn why(self, were: &str, no_answer: &str) -> String {
        match self {
            Self::NoAnswer => format!("{no_answer}; more connections in the pool would not help"),
            Self::AllInUse {
                connections,
                of_counters: false,
            } => format!(
                "all {connections} of this sidecar {were} in use; find the statements that take long (pg_stat_activity), or \
                 raise database.max_connections, as far as the database, or its pooler, has connections left"
            ),
            Self::AllInUse {
                connections,
                of_counters: true,
            } => format!(
                "all {connections} that the counters have {were} in use, whose number is fixed; find the statements that \
                 take long (pg_stat_activity): nothing but the counters waits for them"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d27_only_a_pool_that_is_too_small_is_to_be_made_larger() {
        let names_the_key = |cause: NoConnection| {
            cause
                .waited("a lookup", Duration::from_millis(1_250))
                .contains("database.max_connections")
        };
        let all_in_use = |of_counters| NoConnection::AllInUse {
            connections: 8,
            of_counters,
        };
        assert!(names_the_key(all_in_use(false)));
        assert!(!names_the_key(all_in_use(true)));
        assert!(!names_the_key(NoConnection::NoAnswer));
        let said = all_in_use(false).waited("the writing of page views", Duration::from_millis(1_250));
        let begins = "the writing of page views waited 1.2 s for a connection to the database: all 8 of this sidecar were in use;";
        assert!(said.starts_with(begins), "{said}");
    }
}
