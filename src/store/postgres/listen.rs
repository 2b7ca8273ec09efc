//! Listens to the session trigger's notifications on a connection of its own.
//!
//! A connection can be healthy and silent: after a failover, behind a pooler that lends its connections per
//! transaction, or because the server hangs. So the listener notifies itself every few seconds and expects the
//! notification; if it does not come in time, the connection counts as lost.

use std::mem;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPoolOptions, Postgres};
use sqlx::{Acquire as _, ConnectOptions as _, Connection as _};
use tokio::time::{Instant, timeout, timeout_at};
use uuid::Uuid;

use super::introspect::split;
use super::statement::query;
use super::trigger::{self, ALL, APPEARED, CHANNEL};
use super::{connect_options, pooler};
use crate::config::{Config, Secret};
use crate::ids::{BrowserSessionId, TokenFingerprint};
use crate::store::StoreError;
use crate::store::connections::not_connected;
use crate::store::error::timed_out;
use crate::store::url::OpenError;

/// Time between two probes: notifications to itself.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// Longest time for the server to do anything: connect, listen, and deliver a notification.
const LIMIT: Duration = Duration::from_secs(5);
/// Longest text of a session's key, in bytes.
const MAX_KEY: usize = 255;

/// A notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notification {
    /// A session's row has changed or is gone.
    Changed(BrowserSessionId),
    /// Any row may have.
    AllChanged,
    /// A session may exist now for a token with this fingerprint.
    Appeared(TokenFingerprint),
    /// Only that the connection works.
    Alive {
        /// Whether the trigger is on the table. Without it no other notification ever comes.
        installed: bool,
    },
}

/// Listens to changes of the session table. Nothing is connected before [`SessionListener::connect`].
pub struct SessionListener {
    options: PgConnectOptions,
    /// The session table's configured name.
    table: String,
    /// A channel that no other client notifies.
    own_channel: String,
    line: Option<Line>,
    /// A connection on which the server owes an answer. The driver would wait for that for ever before it closed
    /// such a connection, so the connection is kept until there is a fresh one to give the driver in its place.
    hung: Option<PgListener>,
}

struct Line {
    listener: PgListener,
    /// Until `until` the server owes an answer, or, otherwise, no probe is sent.
    owes: bool,
    until: Instant,
}

impl SessionListener {
    pub(in crate::store) fn new(url: &Secret, key: &'static str, config: &Config) -> Result<Self, OpenError> {
        let options = connect_options(url, key)?;
        let name = options.get_application_name().unwrap_or_default();
        let name = format!("{name} listener");
        Ok(Self {
            options: options.application_name(&name),
            table: config.schema.sessions_table(config.session.kind).to_owned(),
            own_channel: format!("headcount_probe_{}", Uuid::new_v4().simple()),
            line: None,
            hung: None,
        })
    }

    /// Begins to listen on a new connection, which replaces an earlier one. Changes from now on are reported.
    /// Returns whether the trigger is installed, without which none ever are.
    pub async fn connect(&mut self) -> Result<bool, StoreError> {
        self.disconnect();
        let Ok(connection) = timeout(LIMIT, self.options.connect()).await else {
            return Err(timed_out("no connection in time"));
        };
        let mut connection = connection.map_err(|error| not_connected::<Postgres>(error, &self.options))?;
        if pooler::is_lent_by_the_transaction(&mut connection, &self.options).await? {
            let lent = std::io::Error::other(pooler::NEEDS_ITS_OWN);
            return Err(StoreError::Unavailable(sqlx::Error::Io(lent)));
        }
        match self.hung.take() {
            Some(hung) => discard(hung, connection).await,
            None => drop(timeout(LIMIT, connection.close()).await),
        }

        // The driver's listener takes its connection from a pool, which would hide the reason where none can be
        // made: the first connection has shown that.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(LIMIT)
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_lazy_with(self.options.clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener.ignore_pool_close_event(true);
        let line = self.line.insert(Line {
            listener,
            owes: true,
            until: Instant::now(),
        });
        let channels = [CHANNEL, APPEARED, &self.own_channel];
        let begun = timeout(LIMIT, line.listener.listen_all(channels)).await;
        begun.map_err(|_| timed_out("LISTEN was not answered in time"))??;
        let installed = self.probe().await?;
        // Until the first probe has arrived; other notifications before that are ignored.
        while self.line.as_ref().is_some_and(|line| line.owes) {
            self.step().await?;
        }
        Ok(installed)
    }

    /// Waits for the next notification. After an error the connection is unusable, and changes may have been
    /// missed.
    pub async fn next(&mut self) -> Result<Notification, StoreError> {
        loop {
            if let Some(notification) = self.step().await? {
                return Ok(notification);
            }
        }
    }

    /// One notification, or one probe.
    async fn step(&mut self) -> Result<Option<Notification>, StoreError> {
        let Some(line) = &mut self.line else {
            return Err(lost());
        };
        match timeout_at(line.until, line.listener.try_recv()).await {
            Ok(Ok(Some(notification))) if notification.channel() == CHANNEL => {
                Ok(Some(parse_notification(notification.payload())))
            }
            // Any role that can connect can notify: a payload that is no fingerprint is ignored.
            Ok(Ok(Some(notification))) if notification.channel() == APPEARED => {
                Ok(TokenFingerprint::parse(notification.payload()).map(Notification::Appeared))
            }
            // A probe of ours. It may be an earlier one, which is as good.
            Ok(Ok(Some(_))) => {
                line.owes = false;
                line.until = Instant::now() + PROBE_EVERY;
                Ok(None)
            }
            Ok(Ok(None)) => {
                self.line = None;
                Err(lost())
            }
            Ok(Err(error)) => Err(error.into()),
            Err(_) if line.owes => Err(timed_out("a probe notification did not arrive in time")),
            Err(_) => {
                let installed = self.probe().await?;
                Ok(Some(Notification::Alive { installed }))
            }
        }
    }

    /// Sends a probe, and checks whether the trigger exists.
    async fn probe(&mut self) -> Result<bool, StoreError> {
        let Some(line) = &mut self.line else {
            return Err(lost());
        };
        line.owes = true;
        line.until = Instant::now() + LIMIT;
        let probe = async {
            query("SELECT pg_catalog.pg_notify($1, '')")
                .bind(&self.own_channel)
                .execute(&mut line.listener)
                .await?;
            trigger::is_installed((&mut line.listener).acquire().await?, split(&self.table)).await
        };
        match timeout_at(line.until, probe).await {
            Ok(installed) => Ok(installed?),
            Err(_) => Err(timed_out("a statement was not answered in time")),
        }
    }

    /// Drops the connection, if there is one.
    fn disconnect(&mut self) {
        if let Some(line) = self.line.take()
            && line.owes
        {
            self.hung = Some(line.listener);
        }
    }
}

/// Drops a listener whose connection hangs: the driver sends its goodbye on the fresh one instead.
async fn discard(mut hung: PgListener, fresh: PgConnection) {
    // The listener has a connection, so this makes none.
    if let Ok(connection) = (&mut hung).acquire().await {
        drop(mem::replace(connection, fresh));
    }
}

fn parse_notification(payload: &str) -> Notification {
    match payload {
        ALL => Notification::AllChanged,
        // Too long for a key: any role that can connect can notify, and payloads are remembered.
        other if other.len() > MAX_KEY => Notification::AllChanged,
        key => Notification::Changed(BrowserSessionId::from(key)),
    }
}

fn lost() -> StoreError {
    let error = std::io::Error::other("the server closed the connection");
    StoreError::Unavailable(sqlx::Error::Io(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notification_names_a_session_or_all() {
        assert_eq!(
            parse_notification("42"),
            Notification::Changed(BrowserSessionId::from("42"))
        );
        assert_eq!(parse_notification("*"), Notification::AllChanged);
        assert_eq!(parse_notification(&"x".repeat(300)), Notification::AllChanged);
    }
}
