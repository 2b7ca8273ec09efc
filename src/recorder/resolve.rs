//! Views whose visitor or community must be looked up first: after the response, a bounded number at a time.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;

use super::{Destinations, Message, Visit, Who};
use crate::auth::Authenticator;
use crate::communities::Communities;
use crate::metrics::{Dropped, Metrics};
use crate::page_view::NotCounted;

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

/// The worker: ends when every handle is gone and the queue is empty.
pub(super) async fn run(
    mut queue: mpsc::Receiver<Message>,
    resolver: Resolver,
    destinations: Destinations,
    metrics: Arc<Metrics>,
) {
    let mut in_flight = FuturesUnordered::new();
    loop {
        let message = tokio::select! {
            Some(()) = in_flight.next() => continue,
            message = queue.recv(), if in_flight.len() < IN_FLIGHT => message,
        };
        match message {
            Some(Message::Visit(visit)) => {
                in_flight.push(resolve(&resolver, &destinations, &metrics, *visit));
            }
            Some(Message::Flush(done)) => {
                while in_flight.next().await.is_some() {}
                let _ = done.send(());
            }
            None => break,
        }
    }
    while in_flight.next().await.is_some() {}
}

async fn resolve(resolver: &Resolver, destinations: &Destinations, metrics: &Metrics, visit: Visit) {
    let Visit { view, who } = visit;
    let session = match who {
        Who::Session(session) => session,
        Who::Token(token) => match resolver.authenticator.resolve(&token, view.at).await {
            Ok(Some(session)) => session,
            Ok(None) => {
                metrics.page_views_not_counted.with_label_values(&[NotCounted::Anonymous.label()]).inc();
                return;
            }
            Err(error) => {
                tracing::debug!(error = %error, "a session could not be looked up");
                metrics.dropped(Dropped::SessionUnavailable);
                return;
            }
        },
    };
    let community = match &view.community {
        None => None,
        Some(named) => match resolver.communities.resolve(named).await {
            Ok(community) => community,
            Err(error) => {
                tracing::debug!(error = %error, "a community could not be looked up");
                metrics.dropped(Dropped::CommunityUnavailable);
                return;
            }
        },
    };
    destinations.deliver(view, session, community);
}
