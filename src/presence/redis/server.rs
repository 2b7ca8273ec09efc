//! Inspects the Redis server on each new connection, as it may have been replaced or restarted: version and eviction policy (P10).
//!
//! Uses `INFO`, which managed services and narrow ACLs allow more often than `CONFIG GET`.

use ::redis::aio::MultiplexedConnection;
use ::redis::{RedisError, RedisResult};

/// First version with `ZADD … GT`.
const OLDEST: (u32, u32) = (6, 2);

/// Reads `INFO`; what operators are to be warned of. A server that refuses `INFO` is accepted as it is.
///
/// # Errors
/// Only if the connection broke meanwhile.
pub(super) async fn inspect(connection: &mut MultiplexedConnection) -> RedisResult<Vec<String>> {
    let info: Result<String, RedisError> = ::redis::cmd("INFO").query_async(connection).await;
    match info {
        Ok(info) => Ok(warnings(&info)),
        Err(error) if error.is_io_error() => Err(error),
        Err(error) => {
            tracing::debug!(error = %error, "Redis refuses INFO; its version and settings are unknown");
            Ok(Vec::new())
        }
    }
}

/// Warnings for operators.
fn warnings(info: &str) -> Vec<String> {
    let field = |name: &str| {
        info.lines()
            .filter_map(|line| line.trim_end().split_once(':'))
            .find_map(|(key, value)| (key == name).then_some(value))
    };
    let mut warnings = Vec::new();
    if let Some(policy) = field("maxmemory_policy")
        && policy != "noeviction"
    {
        warnings.push(format!(
            "Redis may evict keys (maxmemory-policy {policy}): visitors would vanish from the counts when \
             its memory is full; set maxmemory-policy to noeviction"
        ));
    }
    if let Some(version) = field("redis_version")
        && parse_version(version).is_some_and(|found| found < OLDEST)
    {
        warnings.push(format!(
            "Redis {version} is too old: presence needs {}.{} or later",
            OLDEST.0, OLDEST.1
        ));
    }
    warnings
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(version: &str, policy: &str) -> String {
        format!(
            "# Server\r\nredis_version:{version}\r\n# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:{policy}\r\n"
        )
    }

    #[test]
    fn p10_a_policy_that_can_evict_is_warned_of() {
        for policy in ["allkeys-lru", "volatile-ttl", "volatile-lru"] {
            let warnings = warnings(&info("7.0.15", policy));
            assert_eq!(warnings.len(), 1);
            assert!(warnings[0].contains(policy), "{warnings:?}");
        }
    }

    #[test]
    fn a_suitable_server_is_not_warned_of() {
        for version in ["6.2.0", "7.0.15", "8.2"] {
            assert_eq!(warnings(&info(version, "noeviction")), Vec::<String>::new());
        }
        assert_eq!(warnings("# a server that tells nothing"), Vec::<String>::new());
    }

    #[test]
    fn a_server_that_is_too_old_is_warned_of() {
        for version in ["6.0.16", "5.0.7"] {
            assert_eq!(warnings(&info(version, "noeviction")).len(), 1, "{version}");
        }
    }
}
