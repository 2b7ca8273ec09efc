//! The loop of a connection's own task: what comes from the client, from the hub and the registry, from lookups and
//! from the clock. It waits for all of them at once, so none keeps the others waiting, and nothing but a write that the
//! client does not take keeps what is sent to it waiting.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use super::checks::{
    self, AccessChecked, AccessStep, CheckOutcome, CheckPermit, CheckReason, FoundCommunities, PendingLookup,
    SessionChecked,
};
use super::close::{Close, End};
use super::connection::{Connection, Owner};
use super::deadlines::{Deadlines, Due};
use super::message::Request;
use super::subscriber::Signal;
use super::transport::{Outgoing, Transport};
use crate::browser_session::Visibility;
use crate::page_view::PresenceDropped;
use crate::presence::moment::Moment;

/// Longest time that closing may take.
const CLOSING: Duration = Duration::from_secs(4);

/// A connection that is served.
struct ServedConnection<'a, T> {
    connection: &'a mut Connection,
    transport: &'a mut T,
    deadlines: Deadlines,
    session: PendingLookup<SessionChecked>,
    /// Why the running check of the session was started.
    why: CheckReason,
    /// The session has changed since its last check began.
    session_changed: bool,
    access: PendingLookup<AccessStep>,
    /// The request that is looked up. Meanwhile the client is read until there is another, and no further.
    request: PendingLookup<Result<FoundCommunities, Close>>,
    next_request: Option<Request>,
    /// A ping is to be sent.
    ping: bool,
    /// Values that were queued and are not written yet.
    unwritten: u64,
}

/// What there is to do.
enum ConnectionEvent {
    Ping,
    Received(Option<Request>),
    Found(Result<FoundCommunities, Close>),
    SessionChecked(SessionChecked),
    Access(AccessStep),
    Signal(Signal),
    Due(Due),
}

impl Connection {
    /// Sends the snapshots and the unknown communities, serves the connection, and closes it.
    pub(super) async fn serve(&mut self, transport: &mut impl Transport) -> End {
        let deadlines = self.deadlines();
        let end = ServedConnection::new(self, transport, deadlines).run().await;
        let End::Closed(close) = end else {
            return end;
        };
        let limit = Instant::now() + CLOSING;
        let written =
            async { while let Ok(false) = poll_fn(|context| transport.poll_write(context)).await {} };
        if timeout_at(limit, written).await.is_err() {
            return End::Stuck;
        }
        let closed = transport.close(close, self.state.retry_after());
        let _ = timeout_at(limit, closed).await;
        end
    }
}

impl<'a, T: Transport> ServedConnection<'a, T> {
    pub(super) fn new(connection: &'a mut Connection, transport: &'a mut T, deadlines: Deadlines) -> Self {
        Self {
            connection,
            transport,
            deadlines,
            session: PendingLookup::default(),
            why: CheckReason::Periodic,
            session_changed: false,
            access: PendingLookup::default(),
            request: PendingLookup::default(),
            next_request: None,
            ping: false,
            unwritten: 0,
        }
    }

    /// Serves the connection, until it is to be closed or has ended.
    pub(super) async fn run(&mut self) -> End {
        let mut timer = std::pin::pin!(sleep_until(self.deadlines.next()));
        let mut done = self
            .connection
            .greet(self.transport)
            .map(|values| self.unwritten = values);
        loop {
            if let Err(end) = done {
                return end;
            }
            let event = poll_fn(|context| self.poll(context, timer.as_mut())).await;
            done = event.and_then(|event| self.handle(event));
        }
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
        timer: Pin<&mut Sleep>,
    ) -> Poll<Result<ConnectionEvent, End>> {
        let now = Instant::now();
        let is_written = self.write(context, now)?;
        if is_written && self.ping {
            return Poll::Ready(Ok(ConnectionEvent::Ping));
        }
        if let Poll::Ready(found) = self.request.poll(context) {
            return Poll::Ready(Ok(ConnectionEvent::Found(found)));
        }
        if is_written
            && self.next_request.is_none()
            && let Poll::Ready(received) = self.transport.poll_read(context)
        {
            return Poll::Ready(received.map(ConnectionEvent::Received));
        }
        let with_values = is_written && self.transport.takes_values();
        if let Poll::Ready(signal) = self.connection.subscriber().poll(context, with_values) {
            return Poll::Ready(Ok(ConnectionEvent::Signal(signal)));
        }
        if let Poll::Ready(checked) = self.session.poll(context) {
            return Poll::Ready(Ok(ConnectionEvent::SessionChecked(checked)));
        }
        if let Poll::Ready(step) = self.access.poll(context) {
            return Poll::Ready(Ok(ConnectionEvent::Access(step)));
        }
        let due = ready!(self.poll_due(context, timer, now));
        Poll::Ready(Ok(ConnectionEvent::Due(due)))
    }

    /// Writes what is queued; returns whether all of it is written.
    fn write(&mut self, context: &mut Context<'_>, now: Instant) -> Result<bool, End> {
        loop {
            match self.transport.poll_write(context) {
                Poll::Ready(Ok(is_written)) => {
                    self.deadlines.written();
                    if is_written {
                        if self.unwritten > 0 {
                            self.connection.count_sent(std::mem::take(&mut self.unwritten));
                        }
                        return Ok(true);
                    }
                }
                Poll::Ready(Err(end)) => return Err(end),
                Poll::Pending => {
                    self.deadlines.write_pending(now, &self.connection.state.times);
                    return Ok(false);
                }
            }
        }
    }

    /// The timer is moved only to an earlier deadline: deadlines move away far more often than they are reached.
    fn poll_due(
        &mut self,
        context: &mut Context<'_>,
        mut timer: Pin<&mut Sleep>,
        mut now: Instant,
    ) -> Poll<Due> {
        loop {
            if let Some(due) = self.deadlines.due(now, &self.connection.state.times) {
                return Poll::Ready(due);
            }
            let next = self.deadlines.next();
            if next < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(next);
            }
            ready!(timer.as_mut().poll(context));
            now = Instant::now();
        }
    }

    fn handle(&mut self, event: ConnectionEvent) -> Result<(), End> {
        match event {
            ConnectionEvent::Ping => {
                self.ping = false;
                self.transport.send(Outgoing::Ping)
            }
            ConnectionEvent::Received(request) => {
                self.deadlines.heard();
                self.next_request = request;
                self.start_request().map_err(End::Closed)
            }
            ConnectionEvent::Found(found) => {
                // Messages that came meanwhile may still be unread.
                self.deadlines.heard();
                let unknown = found.and_then(|found| self.connection.subscribed(found));
                let unknown = unknown.map_err(End::Closed)?;
                let unknown = unknown.iter().map(|asked| (asked.as_str(), None));
                self.connection.tell_unknown(self.transport, unknown)?;
                self.start_request().map_err(End::Closed)
            }
            ConnectionEvent::SessionChecked(checked) => self.session_checked(checked).map_err(End::Closed),
            ConnectionEvent::Access(AccessStep::MayCheck(turn)) => {
                self.check_access(turn);
                Ok(())
            }
            ConnectionEvent::Access(AccessStep::Outcome(checked)) => self.access_checked(checked),
            ConnectionEvent::Signal(Signal::Value(update)) => {
                self.unwritten += 1;
                self.transport.send(Outgoing::Value(&update))
            }
            ConnectionEvent::Signal(Signal::SessionChanged) => {
                self.session_changed = true;
                self.check_changed_session().map_err(End::Closed)
            }
            ConnectionEvent::Signal(Signal::Close(close)) => Err(End::Closed(close)),
            ConnectionEvent::Due(due) => self.act(due),
        }
    }

    fn act(&mut self, due: Due) -> Result<(), End> {
        match due {
            Due::End(end) => return Err(end),
            Due::Ping => self.ping = true,
            Due::CheckSession if !self.session.is_running() => {
                self.check_session(CheckReason::Periodic).map_err(End::Closed)?;
            }
            Due::CheckAccess if !self.access.is_running() => {
                let state = Arc::clone(&self.connection.state);
                self.access.start(checks::access_turn(state));
            }
            Due::CheckSession | Due::CheckAccess => {}
            Due::Heartbeat => self.beat(),
        }
        Ok(())
    }

    /// Starts the next request, if its turn has come.
    fn start_request(&mut self) -> Result<(), Close> {
        if self.request.is_running() {
            return Ok(());
        }
        match self.next_request.take() {
            Some(Request::Subscribe(asked)) => self.request.start(self.connection.subscribe(asked)?),
            // In any of its spellings.
            Some(Request::Unsubscribe(asked)) => {
                for asked in asked {
                    if let Some(named) = self.connection.community(&asked) {
                        self.connection.unsubscribe(&named);
                    }
                }
            }
            None => {}
        }
        Ok(())
    }

    /// Starts the check of the visitor's session; that of a server's key is over at once.
    fn check_session(&mut self, why: CheckReason) -> Result<(), Close> {
        let state = &self.connection.state;
        match &self.connection.owner {
            Some(Owner::Visitor(_, token)) => {
                self.session
                    .start(checks::session(Arc::clone(state), token.clone(), why));
                self.why = why;
            }
            Some(Owner::Server(key)) => {
                let left = key.lasts((state.clock)()).ok_or(Close::KeyEnded)?;
                let now = Instant::now();
                self.deadlines.session_verified(now, now, left, &state.times);
            }
            None => {}
        }
        Ok(())
    }

    /// Checks a session that has changed, once. A periodic check is replaced: it may wait for its turn, and its answer
    /// may be older than the change. Another check because of a change ends first, so that each has an outcome.
    fn check_changed_session(&mut self) -> Result<(), Close> {
        let waits = self.session.is_running() && self.why == CheckReason::Changed;
        if !waits && std::mem::take(&mut self.session_changed) {
            self.check_session(CheckReason::Changed)?;
        }
        Ok(())
    }

    fn session_checked(&mut self, checked: SessionChecked) -> Result<(), Close> {
        match checked {
            CheckOutcome::Holds((session, read_at)) => {
                let expires_in = self.connection.expires_in(&session);
                let times = &self.connection.state.times;
                self.deadlines
                    .session_verified(read_at, Instant::now(), expires_in, times);
                self.connection.renew(session)?;
            }
            CheckOutcome::Unknown => {}
            CheckOutcome::Over(close) => return Err(close),
        }
        self.check_changed_session()
    }

    fn check_access(&mut self, turn: CheckPermit) {
        let connection = &*self.connection;
        self.access.start(checks::access(
            turn,
            Arc::clone(&connection.access_policy),
            connection.session(),
            connection.subscriber().checked_scopes(),
            connection.page.clone(),
        ));
    }

    fn access_checked(&mut self, checked: AccessChecked) -> Result<(), End> {
        let (since, lost) = match checked {
            CheckOutcome::Holds(held) => held,
            CheckOutcome::Unknown => return Ok(()),
            CheckOutcome::Over(close) => return Err(End::Closed(close)),
        };
        self.deadlines
            .access_verified(since, &self.connection.state.times);
        if lost.is_empty() {
            return Ok(());
        }
        let lost = self.connection.lose(&lost);
        if self.connection.subscriber().is_idle() {
            return Err(End::Closed(Close::Unknown));
        }
        let unknown = lost.iter().filter_map(|asked| {
            let (_, name) = asked.community()?;
            Some((name, asked.scope.finer()))
        });
        self.connection.tell_unknown(self.transport, unknown)
    }

    /// The owner is present where the page is (P11).
    fn beat(&self) {
        let Connection {
            state, owner, page, ..
        } = &*self.connection;
        if let (Some(presence), Some(owner), Some(page)) = (&state.presence, owner, page)
            && let Some(session) = owner.session()
            && session.is_valid_at((state.clock)())
            && session.visibility != Visibility::Ignored
        {
            state.metrics.heartbeats.inc();
            if presence
                .touch(page.into(), session.user_id.clone(), Moment::now())
                .is_err()
            {
                state.metrics.views.presence_dropped[PresenceDropped::QueueFull].inc();
            }
        }
    }
}
