//! Views whose visitor or community must be looked up first: after the response, a bounded number at a time.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;

use super::load::Load;
use super::{Destinations, Message, Visit, Who};
use crate::auth::{Authenticator, BrowserSession};
use crate::communities::Communities;
use crate::ids::CommunityId;
use crate::metrics::{Dropped, Metrics};
use crate::page_view::{NotCounted, PageView};

/// Views being looked up at one time. The lookups themselves are bounded further by the authenticator.
const IN_FLIGHT: usize = 256;

/// Answers who a token is and which community a slug is.
#[derive(Clone)]
pub struct Resolver {
    /// Token to session.
    pub authenticator: Arc<Authenticator>,
    /// Slug to id.
    pub communities: Arc<Communities>,
}

/// What the worker works with.
pub(super) struct Work {
    pub(super) resolver: Resolver,
    pub(super) destinations: Destinations,
    pub(super) load: Load,
    pub(super) metrics: Arc<Metrics>,
}

/// The worker: ends when every handle is gone and the queue is empty.
pub(super) async fn run(mut queue: mpsc::Receiver<Message>, work: Work) {
    let mut in_flight = FuturesUnordered::new();
    loop {
        let message = tokio::select! {
            Some(()) = in_flight.next() => continue,
            message = queue.recv(), if in_flight.len() < IN_FLIGHT => message,
        };
        match message {
            Some(Message::Visit(visit)) => in_flight.push(work.resolve(*visit)),
            Some(Message::Flush(done)) => {
                while in_flight.next().await.is_some() {}
                let _ = done.send(());
            }
            None => break,
        }
    }
    while in_flight.next().await.is_some() {}
}

impl Work {
    /// Looks one view's visitor and community up, and hands it on.
    async fn resolve(&self, visit: Visit) {
        let Visit { view, who } = visit;
        let found = self.look_up(who, &view).await;
        // Its bytes are the writer's now, or nobody's.
        self.load.free(view.weight());
        match found {
            Ok((session, community)) => self.destinations.deliver(view, session, community),
            Err(Given::NotCounted(reason)) => {
                self.metrics
                    .page_views_not_counted
                    .with_label_values(&[reason.label()])
                    .inc();
            }
            Err(Given::Up(reason)) => self.metrics.dropped(reason),
        }
        self.load.done(1);
    }

    async fn look_up(
        &self,
        who: Who,
        view: &PageView,
    ) -> Result<(Arc<BrowserSession>, Option<CommunityId>), Given> {
        let session = match who {
            Who::Session(session) => session,
            Who::Token(token) => {
                let authenticator = &self.resolver.authenticator;
                match authenticator.resolve_past(&token, view.at).await {
                    Ok(found) => found.ok_or(Given::NotCounted(NotCounted::Anonymous))?,
                    Err(_) => authenticator
                        .remembered(&token, view.at)
                        .ok_or(Given::Up(Dropped::SessionUnavailable))?,
                }
            }
        };
        let community = match &view.community {
            None => None,
            Some(named) => {
                let found = self.resolver.communities.named(named).await;
                found.map_err(|_| Given::Up(Dropped::CommunityUnavailable))?
            }
        };
        Ok((session, community))
    }
}

/// Why a view goes no further.
enum Given {
    /// It turned out to be nobody's.
    NotCounted(NotCounted),
    /// The database is away.
    Up(Dropped),
}
