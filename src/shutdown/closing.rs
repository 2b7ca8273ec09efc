//! Closing of the site: the steps in which it stops serving its clients.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{InFlight, Shutdown};

/// Longest time that Pingora may take to close its listeners: it needs a few polls.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// Longest time in which idle connections are closed, each after a last read.
const LAST_LOOK: Duration = Duration::from_millis(500);
/// Shortest time, after a hand-over, for requests that came just before idle connections were closed.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// The steps that the front is asked for, and the one that it reports.
#[derive(Clone, Debug, Default)]
pub struct Closing {
    /// Nothing more is accepted, and each answer from now on ends its connection.
    pub accepting: Shutdown,
    /// Set by the front: the listeners are closed.
    pub closed: Shutdown,
    /// Connections on which no request is under way are closed.
    pub idle: Shutdown,
}

impl Closing {
    /// Closes without a successor: listeners and idle connections are closed at once, and requests in flight have
    /// `grace`. Returns how many are left.
    pub async fn drain(&self, in_flight: &InFlight, grace: Duration) -> usize {
        self.accepting.start();
        self.idle.start();
        let _ = timeout(CLOSE_LIMIT, self.closed.started()).await;
        settled(in_flight, grace).await
    }

    /// Closes after a hand-over. Clients do not learn of it, and a request on a connection that is being closed fails:
    /// so each kept connection has until the end of `grace` to send one more request, whose answer says that the
    /// connection ends. `hurry` shortens it. Returns how many requests are left.
    pub async fn hand_on(&self, in_flight: &InFlight, grace: Duration, hurry: &Shutdown) -> usize {
        let end = Instant::now() + grace;
        self.accepting.start();
        let _ = timeout(CLOSE_LIMIT, self.closed.started()).await;
        tokio::select! {
            () = in_flight.emptied(end - Instant::now()) => {}
            () = hurry.started() => {}
        }
        self.idle.start();
        let rest = end.saturating_duration_since(Instant::now());
        settled(in_flight, rest.max(LAST_MOMENT)).await
    }
}

/// Waits until idle connections have been read from once more, and then until no request is in flight, at most `limit` for
/// both. Returns how many are left.
async fn settled(in_flight: &InFlight, limit: Duration) -> usize {
    let end = Instant::now() + limit;
    in_flight.emptied(limit.min(LAST_LOOK)).await;
    in_flight
        .drained(end.saturating_duration_since(Instant::now()))
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(10);

    fn closing() -> Closing {
        let closing = Closing::default();
        closing.closed.start();
        closing
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_successor_idle_connections_are_closed_at_once_and_not_waited_for() {
        let (closing, in_flight) = (closing(), InFlight::default());
        let _idle = in_flight.connect();
        let start = Instant::now();
        assert_eq!(closing.drain(&in_flight, GRACE).await, 0);
        assert!(closing.idle.has_started());
        assert!(start.elapsed() < LAST_MOMENT);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_hand_over_kept_connections_have_the_grace_period_for_one_more_request() {
        let (closing, in_flight) = (closing(), InFlight::default());
        let connection = in_flight.connect();
        let ended = tokio::spawn({
            let (closing, in_flight) = (closing.clone(), in_flight.clone());
            async move { closing.hand_on(&in_flight, GRACE, &Shutdown::new()).await }
        });
        tokio::time::sleep(GRACE / 2).await;
        assert!(closing.accepting.has_started() && !closing.idle.has_started());
        drop(connection);
        let last_used = Instant::now();
        assert_eq!(ended.await.unwrap(), 0);
        assert!(last_used.elapsed() < LAST_MOMENT);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_hand_over_connections_that_stay_idle_are_closed_when_the_grace_period_ends() {
        let (closing, in_flight) = (closing(), InFlight::default());
        let _idle = in_flight.connect();
        let _tunnel = in_flight.enter();
        let start = Instant::now();
        assert_eq!(closing.hand_on(&in_flight, GRACE, &Shutdown::new()).await, 1);
        assert!(closing.idle.has_started());
        assert_eq!(start.elapsed(), GRACE + LAST_MOMENT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_after_a_hand_over_waits_for_requests_only() {
        let (closing, in_flight) = (closing(), InFlight::default());
        let _idle = in_flight.connect();
        let hurry = Shutdown::new();
        hurry.start();
        let start = Instant::now();
        assert_eq!(closing.hand_on(&in_flight, GRACE, &hurry).await, 0);
        assert!(start.elapsed() < LAST_MOMENT);
    }
}
