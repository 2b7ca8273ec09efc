//! Periodic work for all connections: pings, heartbeats, and checks of sessions and access (I5).
//! One ticker, one listener for changed sessions, and two workers that check. None of them waits for a connection.
//!
//! A verification is valid for a limited time, and the first tick after that ends the connection: however many
//! checks are queued, and even if the database is away.

use std::collections::HashSet;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Inner;
use super::close::Close;
use super::door::Denied;
use super::schedule::{TICK, ticks};
use super::seats::{AccessCheck, Checked, Why};
use crate::browser_session::{BrowserSession, SessionChange};
use crate::ids::{BrowserSessionId, CommunityId, SessionToken};
use crate::page_view::Dropped;
use crate::tasks::{Task, Tasks};

/// Sessions looked up at a time; most are in the authenticator's cache, the others share a statement.
const SESSIONS: usize = 64;
/// Connections whose access is checked at a time.
const ACCESS: usize = 12;
/// Most changes of sessions handled at once.
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

/// Starts all four tasks, for as long as the process lives.
pub(super) fn start(live: &Arc<Inner>, tasks: &Tasks) {
    let (urgent, urgent_queue) = mpsc::unbounded_channel();
    let (due, due_queue) = mpsc::unbounded_channel();
    let (access, access_queue) = mpsc::unbounded_channel();
    let queues = Queues { urgent, due, access };
    tasks.keep(Task::LiveChanges, {
        let (live, queues) = (Arc::clone(live), queues.clone());
        let mut first = Some(live.authenticator.subscribe());
        move || {
            let is_again = first.is_none();
            let changes = first.take().unwrap_or_else(|| live.authenticator.subscribe());
            let (live, queues) = (Arc::clone(&live), queues.clone());
            async move {
                if is_again {
                    // Changes may have been missed.
                    check_all(&live, &queues.urgent);
                }
                hear(live, changes, queues).await;
            }
        }
    });
    tasks.keep(Task::LiveTicker, {
        let (live, queues, start) = (Arc::clone(live), queues.clone(), Instant::now());
        move || tick(Arc::clone(&live), queues.clone(), start)
    });
    let sessions = Sessions {
        live: Arc::clone(live),
        urgent: urgent_queue,
        due: due_queue,
        again: queues.urgent,
        is_again: false,
    };
    tasks.keep_worker(Task::LiveSessions, sessions, |sessions| sessions.check().boxed());
    tasks.keep_worker(
        Task::LiveAccess,
        (Arc::clone(live), access_queue),
        |(live, queue)| check_access(live, queue).boxed(),
    );
}

/// Queues a check of the sessions of all connections.
fn check_all(live: &Inner, urgent: &UnboundedSender<Queued>) {
    let tick = live.seats.tick();
    for id in live.seats.sessions_changed(None) {
        let _ = urgent.send((id, tick));
    }
}

/// Runs the ticks, counted from `start`.
async fn tick(live: Arc<Inner>, queues: Queues, start: Instant) {
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
            live.metrics.heartbeats.inc();
            if presence.touch(community, user).is_err() {
                live.metrics.views.dropped[Dropped::PresenceQueueFull].inc();
            }
        }
    }
}

/// Queues checks of sessions that the database reports as changed. A change is not always an end.
async fn hear(live: Arc<Inner>, mut feed: broadcast::Receiver<SessionChange>, queues: Queues) {
    let mut sessions = HashSet::new();
    loop {
        sessions.clear();
        let Some(all) = next_changes(&mut feed, &mut sessions).await else {
            return;
        };
        let tick = live.seats.tick();
        for id in live.seats.sessions_changed((!all).then_some(&sessions)) {
            // The workers live as long as this.
            let _ = queues.urgent.send((id, tick));
        }
    }
}

/// Waits for changes, and takes all that are queued. Whether any session may have changed; `None` at the end.
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
            // The end is reported by the next call.
            Err(TryRecvError::Empty | TryRecvError::Closed) => break,
        }
    }
    Some(all)
}

/// Checks sessions, changed ones first.
struct Sessions {
    live: Arc<Inner>,
    urgent: UnboundedReceiver<Queued>,
    due: UnboundedReceiver<Queued>,
    /// The sender of `urgent`.
    again: UnboundedSender<Queued>,
    is_again: bool,
}

impl Sessions {
    async fn check(&mut self) {
        if std::mem::replace(&mut self.is_again, true) {
            // Checks that were running were lost.
            check_all(&self.live, &self.again);
        }
        check_sessions(&self.live, &mut self.urgent, &mut self.due).await;
    }
}

async fn check_sessions(
    live: &Inner,
    urgent: &mut UnboundedReceiver<Queued>,
    due: &mut UnboundedReceiver<Queued>,
) {
    stream::poll_fn(move |context| {
        if let Poll::Ready(Some(queued)) = urgent.poll_recv(context) {
            return Poll::Ready(Some((queued, Why::Changed)));
        }
        due.poll_recv(context)
            .map(|queued| queued.map(|queued| (queued, Why::Due)))
    })
    .for_each_concurrent(SESSIONS, async |((id, since), why)| {
        let waited = live.seats.tick().saturating_sub(since);
        live.metrics.check_delay.set(f64::from(waited));
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

async fn check_access(live: &Inner, queue: &mut UnboundedReceiver<u64>) {
    stream::poll_fn(move |context| queue.poll_recv(context))
        .for_each_concurrent(ACCESS, async |id| {
            let Some(check) = live.seats.access(id) else {
                return;
            };
            // It can be queued again only when this check is over.
            let since = live.seats.tick();
            let asking = Asking { live, id, since };
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
            asking.ends(outcome);
        })
        .await;
}

/// A running check of access; its outcome is recorded however it ends.
struct Asking<'a> {
    live: &'a Inner,
    id: u64,
    /// The tick when it began.
    since: u32,
}

impl Asking<'_> {
    fn ends(self, outcome: Checked<Vec<CommunityId>>) {
        self.live.seats.access_checked(self.id, self.since, outcome);
        std::mem::forget(self);
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let outcome = Checked::Unknown;
        self.live.seats.access_checked(self.id, self.since, outcome);
    }
}
