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
use crate::status::Status;
use crate::store::{Notification, SessionListener, StoreError};

/// First and longest pause between attempts to connect.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
/// A connection that lived shorter counts as a failed attempt.
const SHORT_LIVED: Duration = Duration::from_secs(10);

/// Listens until the task is ended.
pub(crate) async fn listen(
    mut listener: SessionListener,
    authenticator: Arc<Authenticator>,
    status: Status,
    metrics: Arc<Metrics>,
) {
    status.session_listener.unknown();
    // Forgets the last state, so that a missing trigger is logged again.
    status.session_trigger.up(|_| {});
    let handler = NotificationHandler {
        authenticator,
        status,
    };
    let mut backoff = PAUSES;
    let mut connected_before = false;
    loop {
        let error = match listener.connect().await {
            Ok(installed) => {
                let since = Instant::now();
                handler.begin(installed);
                if std::mem::replace(&mut connected_before, true) {
                    metrics.listener_reconnects.inc();
                }
                let error = handler.handle_notifications(&mut listener).await;
                if since.elapsed() >= SHORT_LIVED {
                    backoff.reset();
                }
                error
            }
            Err(error) => error,
        };
        handler.status.session_listener.down(error.chain(), |error| {
            tracing::warn!(
                %error,
                "no notifications of session changes arrive; sign-outs are noticed within session.cache_ttl"
            );
        });
        sleep(backoff.pause()).await;
    }
}

/// Applies notifications to the cache.
struct NotificationHandler {
    authenticator: Arc<Authenticator>,
    status: Status,
}

/// When the task has ended, no notifications arrive any more.
impl Drop for NotificationHandler {
    fn drop(&mut self) {
        self.status.session_listener.unknown();
    }
}

impl NotificationHandler {
    /// The connection is new: sessions that were read before may have changed without a notification.
    fn begin(&self, installed: bool) {
        self.authenticator.listening();
        self.look(installed);
        self.status.session_listener.up(|_| {});
        if installed {
            tracing::info!("listening to changes of sessions");
        }
    }

    /// Handles notifications until the connection is lost; returns the reason.
    async fn handle_notifications(&self, listener: &mut SessionListener) -> StoreError {
        loop {
            match listener.next().await {
                Ok(Notification::Changed(id)) => self.authenticator.changed(SessionChange::Of(id)),
                Ok(Notification::Appeared(fingerprint)) => self.authenticator.appeared(fingerprint),
                Ok(Notification::AllChanged) => self.authenticator.changed(SessionChange::OfAny),
                Ok(Notification::Alive { installed }) => {
                    if installed && self.status.session_trigger.is_down() {
                        self.authenticator.listening();
                    }
                    self.look(installed);
                }
                Err(error) => return error,
            }
        }
    }

    /// Reports whether the trigger exists. Without it no notifications arrive, though the connection is up.
    fn look(&self, installed: bool) {
        let trigger = &self.status.session_trigger;
        if installed {
            trigger.up(|_| tracing::info!("the session table has its trigger now"));
        } else {
            trigger.down(
                "the session table has no trigger that notifies of ended sessions: run headcount migrate",
                |problem| tracing::warn!("{problem}; sign-outs are noticed within session.cache_ttl"),
            );
        }
    }
}
