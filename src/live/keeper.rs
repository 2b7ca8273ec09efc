//! What is done for all connections from time to time: one ticker, one ear for sessions that change, and two
//! workers that check whether sessions and access still hold (I5). None of them waits for a connection.

use std::sync::Arc;

use chrono::Utc;
use futures_util::{StreamExt as _, stream};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Inner;
use super::close::Close;
use super::door::Denied;
use super::schedule::{TICK, ticks};
use super::seats::{AccessCheck, Checked};
use crate::auth::{BrowserSession, Known, SessionChange};
use crate::ids::SessionToken;
use crate::metrics::Dropped;

/// Sessions looked up at a time; most are in the authenticator's cache. Few, so that the recorder's own lookups
/// do not wait behind thousands.
const SESSIONS: usize = 2;
/// Connections whose access is checked at a time.
const ACCESS: usize = 4;
/// A check that fails for so many of its own intervals ends the connection.
const PATIENCE: u32 = 2;

/// A connection whose session is to be checked, and the session's token.
type SessionToCheck = (u64, SessionToken);

/// Starts all four on the current runtime, for as long as the process lives.
pub(super) fn start(live: &Arc<Inner>) {
    // Unbounded, but each connection is in each queue at most once.
    let (sessions, session_queue) = mpsc::unbounded_channel();
    let (access, access_queue) = mpsc::unbounded_channel();
    let changes = live.authenticator.subscribe();
    tokio::spawn(hear(Arc::clone(live), changes, sessions.clone()));
    tokio::spawn(tick(Arc::clone(live), sessions, access));
    tokio::spawn(check_sessions(Arc::clone(live), session_queue));
    tokio::spawn(check_access(Arc::clone(live), access_queue));
}

async fn tick(live: Arc<Inner>, sessions: UnboundedSender<SessionToCheck>, access: UnboundedSender<u64>) {
    let start = Instant::now();
    let mut ticker = interval(TICK);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticker.tick().await;
        let round = live.seats.advance(ticks(start.elapsed()) + 1);
        for check in round.sessions {
            // The workers live as long as this.
            let _ = sessions.send(check);
        }
        for id in round.access {
            let _ = access.send(id);
        }
        for (community, user) in round.beats {
            let Some(presence) = &live.presence else {
                break;
            };
            live.metrics.live_heartbeats.inc();
            if presence.touch(community, user).is_err() {
                live.metrics.dropped(Dropped::PresenceQueueFull);
            }
        }
    }
}

/// Has the sessions checked of whose change the database tells. A change is not always an end.
async fn hear(
    live: Arc<Inner>,
    mut changes: broadcast::Receiver<SessionChange>,
    sessions: UnboundedSender<SessionToCheck>,
) {
    loop {
        let checks = match changes.recv().await {
            Ok(SessionChange::Of(id)) => live.seats.sessions_changed(Some(&id)),
            Ok(SessionChange::OfAny) | Err(RecvError::Lagged(_)) => live.seats.sessions_changed(None),
            Err(RecvError::Closed) => return,
        };
        for check in checks {
            // As above.
            let _ = sessions.send(check);
        }
    }
}

async fn check_sessions(live: Arc<Inner>, mut queue: UnboundedReceiver<SessionToCheck>) {
    let live = &live;
    let patience = ticks(live.session_ttl).saturating_mul(PATIENCE);
    stream::poll_fn(move |context| queue.poll_recv(context))
        .for_each_concurrent(SESSIONS, async |(id, token)| {
            while {
                let outcome = session_of(live, &token).await;
                live.seats.session_checked(id, outcome, patience)
            } {}
        })
        .await;
}

async fn session_of(live: &Inner, token: &SessionToken) -> Checked<Arc<BrowserSession>> {
    let now = Utc::now();
    let session = match live.authenticator.cached(token, now).await {
        Known::Session(session) => Ok(Some(session)),
        Known::Nobody => Ok(None),
        Known::Unknown => live.authenticator.resolve(token, now).await,
    };
    match session {
        Ok(Some(session)) => Checked::Holds(session),
        Ok(None) => Checked::Over(Close::SessionEnded),
        Err(_) => Checked::Unknown,
    }
}

async fn check_access(live: Arc<Inner>, mut queue: UnboundedReceiver<u64>) {
    let live = &live;
    let patience = ticks(live.settings.access_check_interval).saturating_mul(PATIENCE);
    stream::poll_fn(move |context| queue.poll_recv(context))
        .for_each_concurrent(ACCESS, async |id| {
            let Some(check) = live.seats.access(id) else {
                return;
            };
            let AccessCheck {
                door,
                session,
                communities,
            } = check;
            let asked: Vec<String> = communities.iter().map(ToString::to_string).collect();
            let outcome = match door.admit(session, &asked).await {
                Ok(admitted) => {
                    let lost = communities.into_iter().zip(admitted);
                    Checked::Holds(
                        lost.filter(|(_, admitted)| admitted.is_none())
                            .map(|(community, _)| community)
                            .collect(),
                    )
                }
                Err(Denied::Unavailable) => Checked::Unknown,
                Err(Denied::NoSession) => Checked::Over(Close::SessionEnded),
            };
            live.seats.access_checked(id, outcome, patience);
        })
        .await;
}
