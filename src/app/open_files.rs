//! Open-file limit of the process (`RLIMIT_NOFILE`): raised, and compared with what `limits.max_connections` needs. A
//! process without free files can serve no client, and no message would say why.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Limits;

/// Files of everything but the site's connections: listeners, database, Redis, spool, admin, a hand-over.
const OTHERS: usize = 256;
/// Files per connection: the client's, and one to the app.
const EACH: usize = 2;

const REMEDY: &str = "raise LimitNOFILE= of the systemd unit or `ulimits: nofile` of the container";

/// Raises the limit to its maximum. Returns how many connections fit, at most as many as configured; where fewer fit,
/// the log says so, as a warning only if `limits.max_connections` is set.
pub(super) fn connections(limits: &Limits) -> usize {
    let wanted = limits.connections();
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::debug!(%error, "the limit of open files cannot be raised");
            current
        }
    };
    // `None`: no limit.
    let Some(files) = files else {
        return wanted;
    };
    let possible = possible(usize::try_from(files).unwrap_or(usize::MAX));
    if possible < wanted && limits.max_connections.is_none() {
        tracing::info!(
            "this process may have {files} open files: it takes {possible} connections, and up to {wanted} where it may \
             have {}; {REMEDY}, or set limits.max_connections to what it needs",
            needed(wanted)
        );
    } else if possible < wanted {
        tracing::warn!(
            "limits.max_connections is {wanted}, which takes {} open files, but this process may have {files}: it \
             takes {possible} connections; {REMEDY}, or lower limits.max_connections",
            needed(wanted)
        );
    }
    possible.min(wanted)
}

fn possible(files: usize) -> usize {
    // At least one, even under a very low limit.
    let reserved = OTHERS.min(files / 2);
    ((files - reserved) / EACH).max(1)
}

fn needed(connections: usize) -> usize {
    connections.saturating_mul(EACH).saturating_add(OTHERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t5_so_many_connections_are_possible_as_files_suffice_for() {
        assert_eq!(possible(needed(20_000)), 20_000);
        assert_eq!(possible(1_024), 384);
        assert_eq!(possible(100), 25);
        assert_eq!(possible(0), 1);
        assert_eq!(needed(usize::MAX), usize::MAX);
    }
}
