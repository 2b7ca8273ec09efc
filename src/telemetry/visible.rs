//! Log visibility: what may be logged, whatever `log.filter` says. Below info, libraries log what passes through them:
//! Pingora whole requests with their cookies, database clients rows. So below info only the sidecar's own lines are
//! logged; a library that is added later is safe by default.

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// The root of the sidecar's own modules.
const OURS: &str = "headcount";

/// Modules that log secrets at any level: sqlx logs unknown parameters of the database's URL with their values.
const SECRET: [&str; 1] = ["sqlx_postgres::options::parse"];

/// Libraries whose warnings say what the sidecar's own lines say, in other words, or are messages of the app's functions
/// (NOTICE and WARNING of Postgres), which may hold anything: sqlx logs connections that it closes and waits for one.
const SILENT: [&str; 4] = ["sqlx", "sqlx_core", "sqlx_postgres", "sqlx_sqlite"];
/// What nobody else says: why a password file is not used.
const HEARD: &str = "sqlx_postgres::options::pgpass";

/// The layer that drops all other lines.
pub(super) struct Visible;

impl<S: Subscriber> Layer<S> for Visible {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        is_visible(metadata.target(), *metadata.level())
    }
}

fn is_visible(target: &str, level: Level) -> bool {
    let is_of = |root: &str| {
        target
            .strip_prefix(root)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let least = if SILENT.into_iter().any(is_of) && !is_of(HEARD) {
        Level::ERROR
    } else {
        Level::INFO
    };
    is_of(OURS) || (level <= least && !SECRET.into_iter().any(is_of))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t4_below_info_only_our_own_lines_are_visible() {
        for target in ["pingora_core::protocols::http::v1", "h2", "headcounter", "log"] {
            assert!(
                is_visible(target, Level::INFO) && is_visible(target, Level::ERROR),
                "{target}"
            );
            assert!(
                !is_visible(target, Level::DEBUG) && !is_visible(target, Level::TRACE),
                "{target}"
            );
        }
        for target in ["headcount", "headcount::writer::drain"] {
            assert!(is_visible(target, Level::TRACE), "{target}");
        }
    }

    #[test]
    fn t4_what_sqlx_says_of_parameters_of_a_url_is_never_visible() {
        assert!(!is_visible("sqlx_postgres::options::parse", Level::WARN));
        assert!(is_visible("sqlx_postgres::options::pgpass", Level::WARN));
    }

    #[test]
    fn t4_what_sqlx_says_of_its_connections_is_said_by_us() {
        for target in [
            "sqlx::query",
            "sqlx::pool::acquire",
            "sqlx::postgres::notice",
            "sqlx_core::pool::inner",
            "sqlx_postgres::connection",
        ] {
            assert!(!is_visible(target, Level::WARN), "{target}");
            assert!(is_visible(target, Level::ERROR), "{target}");
        }
    }
}
