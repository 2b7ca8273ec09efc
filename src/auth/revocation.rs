//! Session revocation: listens to the database's notifications, so that ended sessions are noticed at once (I4). It
//! invalidates cached sessions after any gap in notifications.
//!
//! A notification says whose row changed, not how: the next use of the session queries the table. While no
//! notifications arrive (the database is down, the connection hangs, the trigger is missing) sessions are answered from
//! the cache as usual, for `session.cache_ttl`; when listening begins again, all of them are queried anew.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Authenticator, Metrics};
use crate::browser_session::SessionChange;
use crate::retry::Backoff;
use crate::store::{Heard, SessionListener, StoreError};

/// First and longest pause between attempts to connect.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
/// A connection that lived shorter counts as a failed attempt.
const SHORT_LIVED: Duration = Duration::from_secs(10);

/// Listens until the task is ended.
pub(crate) async fn listen(
    mut listener: SessionListener,
    authenticator: Arc<Authenticator>,
    metrics: Arc<Metrics>,
) {
    metrics.session_listener_up.set(0);
    let mut ears = Ears {
        authenticator,
        metrics,
        installed: None,
    };
    let mut backoff = PAUSES;
    let mut told = false;
    let mut connected_before = false;
    loop {
        let error = match listener.connect().await {
            Ok(installed) => {
                let since = Instant::now();
                ears.begin(installed);
                if connected_before {
                    ears.metrics.listener_reconnects.inc();
                }
                (connected_before, told) = (true, false);
                let error = ears.hear(&mut listener).await;
                ears.metrics.session_listener_up.set(0);
                if since.elapsed() >= SHORT_LIVED {
                    backoff.reset();
                }
                error
            }
            Err(error) => error,
        };
        if !told {
            told = true;
            tracing::warn!(
                error = %error.chain(),
                "changes of sessions are not heard of; sign-outs are noticed within session.cache_ttl"
            );
        }
        sleep(backoff.pause()).await;
    }
}

/// Applies notifications to the cache.
struct Ears {
    authenticator: Arc<Authenticator>,
    metrics: Arc<Metrics>,
    /// Whether the trigger existed at the last check.
    installed: Option<bool>,
}

/// However the task ends, no notifications arrive any more.
impl Drop for Ears {
    fn drop(&mut self) {
        self.metrics.session_listener_up.set(0);
    }
}

impl Ears {
    /// The connection is new: sessions that were read before may have changed without a notification.
    fn begin(&mut self, installed: bool) {
        self.authenticator.listening();
        self.look(installed);
        if installed {
            tracing::info!("listening to changes of sessions");
        }
    }

    /// Handles notifications until the connection is lost; returns the reason.
    async fn hear(&mut self, listener: &mut SessionListener) -> StoreError {
        loop {
            match listener.next().await {
                Ok(Heard::Changed(id)) => self.authenticator.changed(SessionChange::Of(id)),
                Ok(Heard::Appeared(fingerprint)) => self.authenticator.appeared(fingerprint),
                Ok(Heard::AllChanged) => self.authenticator.changed(SessionChange::OfAny),
                Ok(Heard::Alive { installed }) => {
                    if installed && self.installed == Some(false) {
                        self.authenticator.listening();
                    }
                    self.look(installed);
                }
                Err(error) => return error,
            }
        }
    }

    /// Reports whether the trigger exists, without which the connection brings no notifications.
    fn look(&mut self, installed: bool) {
        self.metrics.session_listener_up.set(i64::from(installed));
        let before = self.installed.replace(installed);
        if !installed && before != Some(false) {
            tracing::warn!(
                "the session table has no trigger that tells of sessions which end; sign-outs are noticed within \
                 session.cache_ttl; run headcount migrate"
            );
        } else if installed && before == Some(false) {
            tracing::info!("the session table's trigger is there now");
        }
    }
}
