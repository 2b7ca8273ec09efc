//! TLS certificates of the listeners, replaced at runtime. A handshake uses the one that was read last, so that a
//! renewed certificate needs no restart and disturbs no connection.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use chrono::Utc;
use pingora_core::tls::sign::CertifiedKey;
use pingora_core::tls::{ClientHello, ResolvesServerCert};

use super::metrics::Metrics;
use super::watch::Watch;
use crate::config::{TlsListener, Validity, read_key_pair};
use crate::status::Component;

/// Why a certificate cannot be used, with the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("listen.https: {0}")]
pub struct CertificateError(String);

/// The certificate of one listener.
#[derive(Debug)]
pub struct Certificate {
    listener: SocketAddr,
    chain: PathBuf,
    key: PathBuf,
    current: ArcSwap<CertifiedKey>,
    /// Down while the files are faulty.
    pub(super) files: Component,
}

impl Certificate {
    /// Reads a listener's certificate.
    ///
    /// # Errors
    /// The files are no certificate and key that belong together.
    pub fn read(listener: &TlsListener) -> Result<Self, CertificateError> {
        let (chain, key) = (listener.certificate.clone(), listener.key.clone());
        Ok(Self {
            listener: listener.address,
            current: ArcSwap::from_pointee(read(&chain, &key)?),
            files: Component::default(),
            chain,
            key,
        })
    }

    /// Reads the files again; on error the one in use stays. Returns whether the certificate differs from before.
    ///
    /// # Errors
    /// As [`Certificate::read`].
    pub fn read_again(&self) -> Result<bool, CertificateError> {
        let new = read(&self.chain, &self.key)?;
        let is_new = new.cert != self.current.load().cert;
        self.current.store(Arc::new(new));
        Ok(is_new)
    }

    /// The file of the chain, for messages.
    pub fn path(&self) -> &Path {
        &self.chain
    }

    /// Reports until when the certificate in use is valid: in the log, as a warning where it is invalid or ends soon,
    /// and as a metric.
    pub(super) fn tell(&self, metrics: &Metrics) {
        let path = self.chain.display();
        let Some(validity) = Validity::of(&self.current.load()) else {
            tracing::info!(%path, "certificate loaded; its dates cannot be read");
            // The date in the metric is the former certificate's.
            metrics.certificate_expires.set(self.listener, None);
            return;
        };
        if let Some(problem) = validity.problem(Utc::now()) {
            tracing::warn!(%path, "certificate loaded: it {problem}");
        } else {
            tracing::info!(%path, "certificate loaded: it {validity}");
        }
        metrics
            .certificate_expires
            .set(self.listener, Some(validity.until.timestamp()));
    }

    /// Watches its files.
    pub(super) fn watch(&self) -> Watch {
        let files = [self.chain.clone(), self.key.clone()];
        let folder = self
            .chain
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        Watch::new(folder.unwrap_or(Path::new(".")), move || Ok(files.to_vec()))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _client: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn read(chain: &Path, key: &Path) -> Result<CertifiedKey, CertificateError> {
    read_key_pair(chain, key).map_err(CertificateError)
}
