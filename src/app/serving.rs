//! Life of the site's listeners: bind or take over, serve, then drain or hand over.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Context as _;
use tokio::sync::mpsc;

use super::listeners::{self, Listeners};
use super::site::Site;
use crate::admin::{Admin, SharedListener};
use crate::config::Config;
use crate::handover::{self, AwaitedPredecessor, Predecessor, Stage, Successor, UpgradeSocket};
use crate::live::Live;
use crate::proxy::Sidecar;
use crate::reload::Certificate;
use crate::shutdown::{Closing, InFlight, Shutdown};
use crate::tasks::{Task, Tasks};
use crate::{systemd, telemetry};

/// Where the listening sockets come from.
pub(super) enum Ports {
    /// Bound by this process.
    Claimed(Listeners),
    /// To be taken over from the running sidecar.
    TakenOver(AwaitedPredecessor, TakeOver),
}

impl Ports {
    /// Whether another sidecar is to be replaced.
    pub(super) fn are_taken_over(&self) -> bool {
        matches!(self, Self::TakenOver(..))
    }
}

/// How a new process takes over from the running one.
#[derive(Debug, Clone, Copy)]
pub struct TakeOver {
    /// Is called with each stage.
    pub tell: fn(Stage),
    /// Log to the running sidecar's log instead of this process' standard error.
    pub log: bool,
}

/// What is served, and the requests to end it.
pub(super) struct Serving<'a> {
    pub(super) config: &'a Config,
    /// Of `listen.https`, in that order.
    pub(super) certificates: Vec<Arc<Certificate>>,
    pub(super) tasks: &'a Tasks,
    pub(super) admin: Admin,
    /// Set once the site is served.
    pub(super) serves: Shutdown,
    pub(super) shutdown: Shutdown,
    /// Each message asks for a hand-over.
    pub(super) quits: mpsc::Receiver<()>,
    pub(super) closing: Closing,
    pub(super) in_flight: InFlight,
    /// Live connections, where they are switched on.
    pub(super) live: Option<Live>,
}

/// Why serving ends.
enum ServingEnd {
    Shutdown,
    HandedOver(Successor),
}

impl Serving<'_> {
    /// Serves until the shutdown or a hand-over, and lets requests in flight end.
    ///
    /// # Errors
    /// Something could not be started, or was not taken over.
    pub(super) async fn run(mut self, ports: Ports, sidecar: Sidecar) -> anyhow::Result<()> {
        let take_over = match &ports {
            Ports::Claimed(_) => None,
            Ports::TakenOver(_, how) => Some(*how),
        };
        let Some((listeners, mut predecessor)) = self.listeners(ports).await? else {
            return Ok(());
        };
        // For a successor.
        let copies = listeners.copies()?;
        let addresses = listeners.addresses.clone();
        let began = self.begin(listeners, sidecar, predecessor.as_mut()).await;
        let log = match began {
            Ok(log) => log,
            Err(error) => {
                // Clients that connected here already find the running sidecar, if there is one.
                drop(copies);
                self.hand_on().await;
                return Err(error);
            }
        };
        if take_over.is_some_and(|how| how.log) {
            continue_log(log);
        }
        self.admin.serving.store(true, Ordering::Relaxed);
        self.serves.start();
        let mut site = addresses.site().map(|address| address.to_string());
        let first = site.next().unwrap_or_default();
        let others = site.collect::<Vec<_>>().join(",");
        let others = Some(others).filter(|others| !others.is_empty());
        tracing::info!(site = %first, admin = %addresses.admin, others, "ready");
        systemd::ready();
        // The old process may end now: systemd knows which of the two matters.
        drop(predecessor);
        if let Some(how) = take_over {
            (how.tell)(Stage::Serving);
        }
        match self.wait_for_end(&copies).await {
            ServingEnd::Shutdown => {
                systemd::stopping();
                tokio::time::sleep(self.config.limits.shutdown_delay).await;
                drop(copies);
                self.drain().await;
            }
            ServingEnd::HandedOver(successor) => {
                tracing::info!(
                    "handed over: the new process serves, this one ends when its connections have"
                );
                drop(copies);
                self.hand_on().await;
                successor.wait_until_settled().await;
            }
        }
        Ok(())
    }

    /// The sockets, and the process that had them before; `None` if the shutdown comes first.
    async fn listeners(&self, ports: Ports) -> anyhow::Result<Option<(Listeners, Option<Predecessor>)>> {
        let (waiting, how) = match ports {
            Ports::Claimed(listeners) => return Ok(Some((listeners, None))),
            Ports::TakenOver(waiting, how) => (waiting, how),
        };
        if how.log {
            tracing::info!(
                "everything is prepared; headcount upgrade has the running sidecar hand over its sockets"
            );
        } else {
            tracing::info!(
                "everything is prepared; SIGQUIT to the running sidecar makes it hand over its sockets"
            );
        }
        (how.tell)(Stage::Waiting);
        let (sockets, mut predecessor) = tokio::select! {
            taken = waiting.sockets() => taken?,
            () = self.shutdown.started() => return Ok(None),
        };
        match listeners::take_over(&self.config.listen, sockets) {
            Ok(listeners) => Ok(Some((listeners, Some(predecessor)))),
            Err(error) => {
                predecessor.refuse(&error.to_string()).await;
                Err(error)
            }
        }
    }

    /// Starts to serve, and takes over. Returns the log of the old process, where it passed one on.
    async fn begin(
        &self,
        listeners: Listeners,
        sidecar: Sidecar,
        predecessor: Option<&mut Predecessor>,
    ) -> anyhow::Result<Option<OwnedFd>> {
        let serves = self.serve(listeners, sidecar).await;
        if serves.is_err() {
            // Listeners that were never opened need not be waited for.
            self.closing.closed.start();
        }
        let Some(predecessor) = predecessor else {
            return serves.map(|()| None);
        };
        let error = match serves {
            Ok(()) if self.shutdown.has_started() => anyhow::anyhow!("shut down before it took over"),
            Ok(()) => return Ok(predecessor.take_over().await?),
            Err(error) => error,
        };
        predecessor.refuse(&error.to_string()).await;
        Err(error)
    }

    /// Returns once every listener is served, or the shutdown has begun.
    async fn serve(&self, listeners: Listeners, sidecar: Sidecar) -> anyhow::Result<()> {
        let Listeners {
            addresses,
            admin,
            site,
        } = listeners;
        admin.set_nonblocking(true)?;
        for (_, listener) in &site {
            listener.set_nonblocking(true)?;
        }
        let site = Site::new(
            self.config,
            &addresses,
            site,
            &self.certificates,
            sidecar,
            &self.closing,
            self.tasks,
        )?;
        let socket = SharedListener::new(admin);
        let admin = self.admin.clone();
        self.tasks
            .keep(Task::Admin, move || admin.clone().serve(socket.clone()));
        tokio::select! {
            served = site.start() => served,
            () = self.shutdown.started() => {
                // The listeners may never open, so that closing need not wait for them.
                self.closing.closed.start();
                Ok(())
            }
        }
    }

    async fn wait_for_end(&mut self, copies: &[TcpListener]) -> ServingEnd {
        if self.quits.try_recv().is_ok() {
            tracing::warn!("SIGQUIT came before this process served; it is ignored");
        }
        loop {
            tokio::select! {
                () = self.shutdown.started() => return ServingEnd::Shutdown,
                Some(()) = self.quits.recv() => {}
            }
            tracing::info!("SIGQUIT: handing over to a new process");
            let place = UpgradeSocket::new(&self.config.listen);
            let handed_over = tokio::select! {
                handed_over = handover::hand_over(&place, copies) => handed_over,
                () = self.shutdown.started() => return ServingEnd::Shutdown,
            };
            match handed_over {
                Ok(successor) => return ServingEnd::HandedOver(successor),
                Err(error) => {
                    tracing::error!(error = %error, "not handed over; this process goes on serving");
                }
            }
        }
    }

    /// Drains live connections, at most for the grace period: they would stay open for ever.
    async fn close_connections(&self) {
        if let Some(live) = &self.live {
            let left = live.drain(self.config.limits.grace_period).await;
            if left > 0 {
                tracing::warn!(
                    connections = left,
                    "live connections still open after the grace period are cut off"
                );
            }
        }
    }

    /// Ends without a successor.
    async fn drain(&self) {
        let grace = self.config.limits.grace_period;
        let (left, ()) = tokio::join!(
            self.closing.drain(&self.in_flight, grace),
            self.close_connections()
        );
        cut_off(left);
    }

    /// Ends after a hand-over: another process has the sockets.
    async fn hand_on(&self) {
        self.admin.handed_over.start();
        let grace = self.config.limits.grace_period;
        let (left, ()) = tokio::join!(
            self.closing.hand_on(&self.in_flight, grace, &self.shutdown),
            self.close_connections()
        );
        cut_off(left);
    }
}

/// Continues the log of the old process.
fn continue_log(log: Option<OwnedFd>) {
    let moved = log
        .context("the old process did not pass it on")
        .and_then(|log| Ok(telemetry::move_to(log)?));
    if let Err(error) = moved {
        tracing::warn!(
            error = %telemetry::chain(error.as_ref()),
            "the log of the old process cannot be continued; this process logs to the standard error that it was started with"
        );
    }
}

fn cut_off(left: usize) {
    if left > 0 {
        tracing::warn!(
            requests = left,
            "requests still in flight after the grace period are cut off"
        );
    }
}
