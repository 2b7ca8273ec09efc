//! What is done for all connections from time to time: one ticker, one ear for sessions that change, and two
//! workers that check whether sessions and access still hold (I5). None of them waits for a connection.
//!
//! What was verified holds for a time, and then ends the connection with the next tick: however many checks wait for
//! their turn, or for a database that is away.

use std::collections::HashSet;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Inner;
use super::close::Close;
use super::door::Denied;
use super::schedule::{TICK, ticks};
use super::seats::{AccessCheck, Checked, Why};
use crate::auth::{BrowserSession, SessionChange};
use crate::ids::{BrowserSessionId, SessionToken};
use crate::metrics::Dropped;

/// Sessions looked up at a time; most are in the authenticator's cache, the others share a statement.
const SESSIONS: usize = 64;
/// Connections whose access is checked at a time.
const ACCESS: usize = 12;
/// Changes of sessions that are dealt with in one go.
const CHANGES: usize = 256;

/// A connection to check, and in which tick it was queued.
type Queued = (u64, u32);

/// Queues of connections to check. Unbounded, but each connection waits in each at most once.
#[derive(Clone)]
struct Queues {
    urgent: UnboundedSender<Queued>,
    due: UnboundedSender<Queued>,
    access: UnboundedSender<u64>,
}

/// Starts all four on the current runtime, for as long as the process lives.
pub(super) fn start(live: &Arc<Inner>) {
    let (urgent, urgent_queue) = mpsc::unbounded_channel();
    let (due, due_queue) = mpsc::unbounded_channel();
    let (access, access_queue) = mpsc::unbounded_channel();
    let queues = Queues { urgent, due, access };
    let changes = live.authenticator.subscribe();
    tokio::spawn(hear(Arc::clone(live), changes, queues.clone()));
    tokio::spawn(tick(Arc::clone(live), queues));
    tokio::spawn(check_sessions(Arc::clone(live), urgent_queue, due_queue));
    tokio::spawn(check_access(Arc::clone(live), access_queue));
}

async fn tick(live: Arc<Inner>, queues: Queues) {
    let start = Instant::now();
    let mut ticker = interval(TICK);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticker.tick().await;
        let tick = ticks(start.elapsed()) + 1;
        let round = live.seats.advance(tick, (live.clock)());
        for id in round.sessions {
            // The workers live as long as this.
            let _ = queues.due.send((id, tick));
        }
        for id in round.access {
            let _ = queues.access.send(id);
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
async fn hear(live: Arc<Inner>, mut feed: broadcast::Receiver<SessionChange>, queues: Queues) {
    let mut sessions = HashSet::new();
    loop {
        sessions.clear();
        let Some(all) = next_changes(&mut feed, &mut sessions).await else {
            return;
        };
        let tick = live.seats.tick();
        for id in live.seats.sessions_changed((!all).then_some(&sessions)) {
            // As above.
            let _ = queues.urgent.send((id, tick));
        }
    }
}

/// Waits for changes, and takes what there is. Whether any session may have changed; `None` at the end.
async fn next_changes(
    feed: &mut broadcast::Receiver<SessionChange>,
    sessions: &mut HashSet<BrowserSessionId>,
) -> Option<bool> {
    let mut all = false;
    let mut next = match feed.recv().await {
        Ok(change) => Some(change),
        Err(RecvError::Lagged(_)) => {
            all = true;
            None
        }
        Err(RecvError::Closed) => return None,
    };
    for _ in 0..CHANGES {
        match next.take().map_or_else(|| feed.try_recv(), Ok) {
            Ok(SessionChange::Of(id)) => {
                sessions.insert(id);
            }
            Ok(SessionChange::OfAny) | Err(TryRecvError::Lagged(_)) => all = true,
            // The end is met again.
            Err(TryRecvError::Empty | TryRecvError::Closed) => break,
        }
    }
    Some(all)
}

/// Those that have changed first.
async fn check_sessions(
    live: Arc<Inner>,
    mut urgent: UnboundedReceiver<Queued>,
    mut due: UnboundedReceiver<Queued>,
) {
    let live = &live;
    stream::poll_fn(move |context| {
        if let Poll::Ready(Some(queued)) = urgent.poll_recv(context) {
            return Poll::Ready(Some((queued, Why::Changed)));
        }
        due.poll_recv(context)
            .map(|queued| queued.map(|queued| (queued, Why::Due)))
    })
    .for_each_concurrent(SESSIONS, async |((id, since), why)| {
        let waited = live.seats.tick().saturating_sub(since);
        live.metrics.live_check_delay.set(f64::from(waited));
        if let Some(token) = live.seats.session_check_begins(id, why) {
            let outcome = session_of(live, &token).await;
            live.seats.session_checked(id, outcome);
        }
    })
    .await;
}

async fn session_of(live: &Inner, token: &SessionToken) -> Checked<(Arc<BrowserSession>, Duration)> {
    match live.authenticator.verified(token, (live.clock)()).await {
        Ok(Some((session, read_at))) => Checked::Holds((session, read_at.elapsed())),
        Ok(None) => Checked::Over(Close::SessionEnded),
        Err(_) => Checked::Unknown,
    }
}

async fn check_access(live: Arc<Inner>, mut queue: UnboundedReceiver<u64>) {
    let live = &live;
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
            let since = live.seats.tick();
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
            live.seats.access_checked(id, since, outcome);
        })
        .await;
}
