//! Log visibility: what may be logged, whatever `log.filter` says. Below info, libraries log what passes through them:
//! Pingora whole requests with their cookies, database clients rows. So below info only the sidecar's own lines are
//! logged; a library that is added later is safe by default.

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// The root of the sidecar's own modules.
const OURS: &str = "headcount";

/// Modules that log secrets at any level: sqlx logs unknown parameters of the database's URL with their values.
const SECRET: [&str; 1] = ["sqlx_postgres::options::parse"];

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
    is_of(OURS) || (level <= Level::INFO && !SECRET.into_iter().any(is_of))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t4_below_info_only_our_own_lines_are_visible() {
        for target in [
            "pingora_core::protocols::http::v1",
            "h2",
            "sqlx::query",
            "headcounter",
            "log",
        ] {
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
        assert!(is_visible("sqlx_postgres::connection", Level::WARN));
    }
}
