//! Recorders for tests, without destinations: they only count their views.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::{Destinations, Intake, Recognition, Recorder, Resolver, Worker};
use crate::auth::cookie::SessionCookie;
use crate::auth::{Authenticator, EarlyLookups};
use crate::communities::Communities;
use crate::config::{Privacy, RecentPrecision, Record, Schema, Session};
use crate::page_view::{Metrics, Policy, SentFiles};
use crate::presence::worker::PresenceHandle;
use crate::recent_pages::RecentPages;
use crate::status::Component;
use crate::store::Store;
use crate::writer::load::Bytes;

/// Looks up in `store`.
pub(crate) fn resolver(store: Arc<dyn Store>) -> Resolver {
    let session = Session::default();
    Resolver {
        authenticator: Arc::new(Authenticator::new(&session, Arc::clone(&store), Arc::default())),
        communities: Arc::new(Communities::new(store)),
        patience: Duration::from_millis(50),
        admission: Duration::from_secs(5),
        window: Duration::from_secs(300),
    }
}

/// A recorder whose views go nowhere.
pub(crate) fn recorder(resolver: Resolver, metrics: &Arc<Metrics>) -> (Recorder, Worker) {
    recorder_of(resolver, None, metrics)
}

/// A recorder of presence alone.
pub(crate) fn recorder_of(
    resolver: Resolver,
    presence: Option<PresenceHandle>,
    metrics: &Arc<Metrics>,
) -> (Recorder, Worker) {
    let destinations = Destinations {
        presence,
        writer: None,
        recent: RecentPages::new(RecentPrecision::None),
        metrics: metrics.clone(),
        recognition: Arc::new(Recognition::new(
            &Session::default(),
            &Schema::default(),
            Component::default(),
        )),
        faulty_keys: Arc::default(),
    };
    let bytes = Bytes::new(1 << 24, metrics);
    Recorder::new(destinations, resolver, 10_000, bytes)
}

/// An intake in front of such a recorder, whose worker does not run.
pub(crate) fn intake(store: Arc<dyn Store>) -> Intake {
    let resolver = resolver(store);
    let lookups = EarlyLookups::new(resolver.authenticator.clone(), Handle::current());
    let (recorder, _) = recorder(resolver, &Arc::default());
    Intake {
        is_recording: true,
        cookie: SessionCookie::new(&Session::default()),
        jwts: None,
        routes: Arc::default(),
        lookups,
        policy: Arc::new(Policy::new(&Record::default(), &Privacy::default())),
        files: SentFiles::default(),
        recorder,
        shown: None,
    }
}
