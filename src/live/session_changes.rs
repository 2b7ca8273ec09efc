//! Tells live connections that their sessions have changed, as the database notifies it (I5).

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::registry::ConnectionRegistry;
use super::state::LiveState;
use crate::browser_session::SessionChange;
use crate::ids::BrowserSessionId;
use crate::tasks::{Task, Tasks};

/// Most changes of sessions handled at once.
const CHANGES: usize = 256;

/// Starts the task that listens to changes.
pub(super) fn watch(state: &Arc<LiveState>, tasks: &Tasks) {
    let state = Arc::clone(state);
    let mut first = Some(state.authenticator.subscribe());
    tasks.keep(Task::LiveChanges, move || {
        let is_again = first.is_none();
        let changes = first.take().unwrap_or_else(|| state.authenticator.subscribe());
        let registry = Arc::clone(&state.registry);
        async move {
            if is_again {
                // Changes may have been missed.
                registry.any_session_changed();
            }
            pass_on(&registry, changes).await;
        }
    });
}

async fn pass_on(registry: &ConnectionRegistry, mut changes: Receiver<SessionChange>) {
    let mut sessions = HashSet::new();
    while let Some(any) = next_changes(&mut changes, &mut sessions).await {
        if any {
            registry.any_session_changed();
        } else {
            registry.sessions_changed(&sessions);
        }
        sessions.clear();
    }
}

/// Waits for changes, and takes all that are queued. Whether any session may have changed; `None` at the end.
async fn next_changes(
    changes: &mut Receiver<SessionChange>,
    sessions: &mut HashSet<BrowserSessionId>,
) -> Option<bool> {
    let mut all = false;
    let mut next = match changes.recv().await {
        Ok(change) => Some(change),
        Err(RecvError::Lagged(_)) => {
            all = true;
            None
        }
        Err(RecvError::Closed) => return None,
    };
    for _ in 0..CHANGES {
        match next.take().map_or_else(|| changes.try_recv(), Ok) {
            Ok(SessionChange::Of(id)) => {
                sessions.insert(id);
            }
            Ok(SessionChange::OfAny) | Err(TryRecvError::Lagged(_)) => all = true,
            // The end is reported by the next call.
            Err(TryRecvError::Empty | TryRecvError::Closed) => break,
        }
    }
    Some(all)
}
