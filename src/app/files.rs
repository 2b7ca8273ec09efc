//! The process' limit of open files, compared with what `limits.max_connections` needs: where files run out, the site
//! is gone for everybody, and nothing would say why.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Limits;

/// Files of everything but the site's connections: listeners, database, Redis, spool, admin, a hand-over.
const OTHERS: usize = 256;
/// A client's connection, and one to the app for its request.
const EACH: usize = 2;

/// Raises the limit as far as it may be. Returns how many connections can be taken, at most as many as the configuration
/// has; where that is fewer, the log says so, as a warning only where somebody has asked for more.
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
    // None is no limit.
    let Some(files) = files else {
        return wanted;
    };
    let possible = possible(usize::try_from(files).unwrap_or(usize::MAX));
    if possible < wanted && limits.max_connections.is_none() {
        tracing::info!(
            "this process may have {files} open files: it takes {possible} connections, and up to {wanted} where it may \
             have {}",
            needed(wanted)
        );
    } else if possible < wanted {
        tracing::warn!(
            "limits.max_connections is {wanted}, which takes {} open files, but this process may have {files}: it \
             takes {possible} connections; raise LimitNOFILE= of the systemd unit or `ulimits: nofile` of the \
             container, or lower limits.max_connections",
            needed(wanted)
        );
    }
    possible.min(wanted)
}

fn possible(files: usize) -> usize {
    // Some must be possible, even where there are hardly any.
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
