//! Recorder (step 5): the non-blocking handle of the request path. It never waits: views that do not fit are dropped
//! and counted (promise 1).
//!
//! A view whose visitor and community are in the caches goes straight to presence (5a) and writer (5b). Any
//! other goes to a worker that looks them up after the response, and does not delay the former.

mod admission;
mod facts;
mod faulty_keys;
mod intake;
mod late;
mod recognition;
mod resolve;
mod resolver;
mod shown;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::auth::{Absent, Authenticator, EarlyLookup};
use crate::batch::RecordedView;
use crate::browser_session::{BrowserSession, Unusable, Visibility};
use crate::communities::{Communities, PageCommunity};
use crate::geoip::Location;
use crate::ids::{CommunityId, Finer, SessionToken};
use crate::live::AccessPolicy;
use crate::page_view::{Dropped, Metrics, NotCounted, PageView, PresenceDropped, Queue};
use crate::presence::moment::Moment;
use crate::presence::worker::PresenceHandle;
use crate::presence::{Scope, Whereabouts};
use crate::tasks::Tasks;
use crate::writer::Writer;

use crate::recent_pages::RecentPages;
use crate::writer::load::{Bytes, Load};
pub use facts::RequestFacts;
pub use faulty_keys::FaultyKeys;
pub use intake::{Intake, Report};
pub use recognition::Recognition;
pub use resolver::Resolver;
pub use shown::ShownPages;

/// Of a view that was accepted just now.
const NOT_WAITED: Duration = Duration::ZERO;

/// An accepted page view, with its visitor as known from the request.
pub struct AcceptedView {
    /// The view.
    pub view: PageView,
    /// When it was accepted: the visitor is present from then on, however long the lookups take.
    pub seen: Moment,
    /// The visitor.
    pub who: RequestVisitor,
    /// The client's address.
    pub from: Option<IpAddr>,
    /// Set for a view that only its page reports: checks whether the visitor may see its community.
    pub access_policy: Option<Arc<dyn AccessPolicy>>,
}

impl AcceptedView {
    /// Whether its token was never seen with a session.
    fn is_strangers(&self, authenticator: &Authenticator) -> bool {
        match &self.who {
            RequestVisitor::Session(_) => false,
            RequestVisitor::Token(token, lookup) => {
                lookup.session().is_none() && !authenticator.is_known(token)
            }
        }
    }

    /// Whether it counts only where the visitor may see its community.
    fn needs_admission(&self) -> bool {
        self.admission().is_some()
    }

    /// What decides on that.
    fn admission(&self) -> Option<&Arc<dyn AccessPolicy>> {
        self.access_policy
            .as_ref()
            .filter(|_| self.view.community.is_some())
    }
}

/// The visitor as known when the view is accepted.
#[derive(Debug, Clone)]
pub enum RequestVisitor {
    /// The session, from the cache.
    Session(Arc<BrowserSession>),
    /// Only the token: to be looked up. A session that was found for it when the request began takes precedence over
    /// what is found later.
    Token(SessionToken, EarlyLookup),
}

/// Accepts page views, and passes them to presence and writer.
#[derive(Clone)]
pub struct Recorder {
    unresolved: mpsc::Sender<Message>,
    /// Views queued or being looked up.
    load: Load,
    communities: Arc<Communities>,
    authenticator: Arc<Authenticator>,
    destinations: Destinations,
}

/// Destinations of a view with a known visitor. Either of presence and writer may be switched off.
#[derive(Clone)]
pub struct Destinations {
    /// Presence: who is here now.
    pub presence: Option<PresenceHandle>,
    /// The writer of the app's tables.
    pub writer: Option<Writer>,
    /// The latest pages, for the dashboard. The writer, where there is one, adds them outside the requests.
    pub recent: RecentPages,
    /// Counts views.
    pub metrics: Arc<Metrics>,
    /// Whether anybody is recognised.
    pub recognition: Arc<Recognition>,
    /// Whose paths name no keys.
    pub faulty_keys: Arc<FaultyKeys>,
}

enum Message {
    AcceptedView(Box<AcceptedView>),
    Flush(oneshot::Sender<()>),
}

impl Recorder {
    /// The handle, and its worker, which must be started.
    pub(crate) fn new(
        destinations: Destinations,
        resolver: Resolver,
        capacity: usize,
        bytes: Bytes,
    ) -> (Self, Worker) {
        let (unresolved, queue) = mpsc::channel(capacity);
        let load = Load::new(Queue::Recorder, bytes, &destinations.metrics);
        let communities = resolver.communities.clone();
        let authenticator = resolver.authenticator.clone();
        let (sender, late) = late::Worker::new(resolver.clone(), destinations.clone());
        let work = resolve::Work::new(resolver, destinations.clone(), load.clone(), sender);
        let handle = Self {
            unresolved,
            load,
            communities,
            authenticator,
            destinations,
        };
        let resolving = resolve::Worker { queue, work };
        (handle, Worker { resolving, late })
    }

    /// Records a view. Reads caches only, and never waits.
    pub fn record(&self, accepted: AcceptedView) {
        if let RequestVisitor::Session(session) = &accepted.who
            && !accepted.needs_admission()
            && let Ok(named) = self.communities.cached(accepted.view.community.as_ref())
        {
            match named {
                PageCommunity::Community(community) => {
                    self.destinations.deliver(
                        accepted.view,
                        accepted.seen,
                        session,
                        Some(community),
                        NOT_WAITED,
                    );
                }
                PageCommunity::Nothing => {
                    self.destinations
                        .deliver(accepted.view, accepted.seen, session, None, NOT_WAITED);
                }
                PageCommunity::NoKey => self.destinations.names_no_key(&accepted.view, false),
            }
            return;
        }
        let weight = accepted.view.weight();
        let reason = if accepted.is_strangers(&self.authenticator) {
            Dropped::UnknownToken
        } else {
            Dropped::RecorderQueueFull
        };
        let dropped = &self.destinations.metrics.dropped[reason];
        if !self.load.add(weight) {
            dropped.inc();
        } else if self
            .unresolved
            .try_send(Message::AcceptedView(Box::new(accepted)))
            .is_err()
        {
            self.load.free(weight);
            self.load.done(1);
            dropped.inc();
        }
    }

    /// Views that a crash would lose: not in the spool or, where nothing is written, still being looked up.
    pub fn unspooled(&self) -> usize {
        self.load.views() + self.destinations.writer.as_ref().map_or(0, Writer::unspooled)
    }

    /// Views in the spool that are not yet in the app's tables.
    pub fn spooled(&self) -> u64 {
        self.destinations.writer.as_ref().map_or(0, Writer::spooled)
    }

    /// Waits until presence has the views in these scopes that were recorded before and whose visitors are known, for a
    /// moment at most ([`PresenceHandle::catch_up`]). For reads of who is there.
    pub async fn catch_up(&self, scopes: &[Scope]) {
        if let Some(presence) = &self.destinations.presence {
            presence.catch_up(scopes).await;
        }
    }

    /// Waits until every view recorded before has been looked up as far as possible, and is in the spool.
    pub async fn flush_to_spool(&self) {
        let (done, finished) = oneshot::channel();
        if self.unresolved.send(Message::Flush(done)).await.is_ok() {
            let _ = finished.await;
        }
        if let Some(writer) = &self.destinations.writer {
            writer.flush_to_spool().await;
        }
    }

    /// The same, and until presence and writer have processed what they had.
    pub async fn flush(&self) {
        self.flush_to_spool().await;
        // Concurrently: a Redis that hangs must not keep rows from the database.
        let presence = async {
            if let Some(presence) = &self.destinations.presence {
                presence.flush().await;
            }
        };
        let writer = async {
            if let Some(writer) = &self.destinations.writer {
                writer.flush().await;
            }
        };
        tokio::join!(presence, writer);
    }
}

/// Looks views up while it is run.
pub(crate) struct Worker {
    resolving: resolve::Worker,
    late: late::Worker,
}

impl Worker {
    /// Runs until every handle is dropped and the queue is empty.
    pub(crate) fn start(self, tasks: &Tasks) {
        self.late.start(tasks);
        self.resolving.start(tasks);
    }
}

impl From<Absent> for NotCounted {
    fn from(absent: Absent) -> Self {
        match absent {
            Absent::NotFound => Self::NoSession,
            Absent::Ended => Self::SessionEnded,
            Absent::Unusable(Unusable::Anonymous) => Self::SignedOut,
            Absent::Unusable(Unusable::NoProfile) => Self::NoProfile,
            Absent::Unusable(Unusable::Disabled) => Self::AccountDisabled,
            Absent::Unusable(Unusable::Unreadable) => Self::UnreadableSession,
        }
    }
}

impl Destinations {
    /// A view whose visitor was looked up has none.
    fn is_nobodys(&self, reason: NotCounted) {
        self.metrics.not_counted[reason].inc();
        self.recognition.found_none(reason);
    }

    /// What a view's path names as its community is no key. Of one that a page has reported, the app has shown nothing.
    fn names_no_key(&self, view: &PageView, is_reported: bool) {
        self.metrics.not_counted[NotCounted::CommunityKey].inc();
        if !is_reported {
            self.faulty_keys.note(view);
        }
    }

    fn touch(
        &self,
        session: &BrowserSession,
        community: Option<&CommunityId>,
        finer: &Arc<[Finer]>,
        seen: Moment,
    ) {
        let whereabouts = Whereabouts::new(community.cloned(), Arc::clone(finer));
        if let Some(presence) = &self.presence
            && session.visibility != Visibility::Ignored
            && presence
                .touch(whereabouts, session.user_id.clone(), seen)
                .is_err()
        {
            self.metrics.presence_dropped[PresenceDropped::QueueFull].inc();
        }
    }

    fn deliver(
        &self,
        view: PageView,
        seen: Moment,
        session: &BrowserSession,
        community: Option<CommunityId>,
        waited: Duration,
    ) {
        self.recognition.recognised();
        if session.visibility == Visibility::Ignored {
            self.metrics.not_counted[NotCounted::Hidden].inc();
            return;
        }
        let is_listed = session.visibility == Visibility::Shown;
        self.metrics.counted.inc();
        self.touch(session, community.as_ref(), &view.finer, seen);
        let recorded = RecordedView {
            view,
            session_id: session.id.clone(),
            user_id: session.user_id.clone(),
            community,
            location: Location::default(),
        };
        match &self.writer {
            Some(writer) => {
                if let Err(reason) = writer.write(recorded, is_listed, waited) {
                    self.metrics.dropped[reason].inc();
                }
            }
            None if is_listed => self.recent.note(&recorded.view, recorded.community.as_ref()),
            None => {}
        }
    }
}
