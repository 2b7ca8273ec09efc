//! Certificates of the site's TLS listeners are renewed while the sidecar runs.

use std::fs;
use std::process::Command;

use crate::reloading::lonely;
use crate::support::process;
use crate::support::service::{free_port, in_time, wait_until};
use crate::support::sidecar::Sidecar;
use crate::support::tls::Certificate;

const OK: &str = "headcount_certificates_last_reload_successful";

struct Site {
    sidecar: Sidecar,
    certificate: Certificate,
    port: u16,
}

impl Site {
    fn start(more: &str) -> Self {
        Self::with(Certificate::of("site.test"), more)
    }

    fn with(certificate: Certificate, more: &str) -> Self {
        let port = free_port();
        let sidecar = lonely(&format!("{more}\n{}", certificate.listener(port)));
        Self {
            sidecar,
            certificate,
            port,
        }
    }

    /// Whether a client that trusts `certificate` alone gets through a handshake.
    fn serves(&self, certificate: &Certificate) -> bool {
        let output = Command::new("curl")
            .args(["--silent", "--noproxy", "*", "--cacert"])
            .arg(certificate.path())
            .args(["--resolve", &format!("site.test:{}:127.0.0.1", self.port)])
            .arg(format!("https://site.test:{}/", self.port))
            .output()
            .expect("curl runs");
        // 60: the certificate is not believed.
        assert!(matches!(output.status.code(), Some(0 | 60)), "{output:?}");
        output.status.success()
    }

    fn expiry(&self) -> String {
        format!(
            "headcount_certificate_expires_seconds{{listener=\"127.0.0.1:{}\"}}",
            self.port
        )
    }

    fn renew(&self, new: &Certificate) {
        fs::copy(new.key(), self.certificate.key()).unwrap();
        fs::copy(new.path(), self.certificate.path()).unwrap();
    }
}

#[tokio::test]
async fn c3_a_renewed_certificate_is_used_by_the_next_handshake() {
    // Where nothing is watched, the signal has it read.
    for watched in [true, false] {
        let site = Site::start(&format!("[routes]\nwatch = {watched}"));
        let new = Certificate::of("site.test");
        assert!(!site.serves(&new));
        site.renew(&new);
        if !watched {
            site.sidecar.signal("HUP");
        }
        in_time("the new certificate", async {
            while !site.serves(&new) {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(site.sidecar.metric(OK).await, 1.0);
    }
}

#[tokio::test]
async fn c3_a_faulty_certificate_keeps_the_last_good_one_and_is_told() {
    let site = Site::start("");
    let (old, new) = (Certificate::of("site.test"), Certificate::of("site.test"));
    fs::copy(site.certificate.path(), old.path()).unwrap();
    // The certificate without its key.
    fs::copy(new.path(), site.certificate.path()).unwrap();
    site.sidecar.wait_for_metric(OK, |ok| ok == 0.0).await;
    assert!(site.serves(&old));
    let answer = reqwest::get(site.sidecar.admin_url("/readyz")).await.unwrap();
    let text = answer.text().await.unwrap();
    assert!(
        text.contains("degraded: a certificate of listen.https is faulty"),
        "{text}"
    );
    site.sidecar.says("cannot be used together");

    fs::copy(new.key(), site.certificate.key()).unwrap();
    site.sidecar.wait_for_metric(OK, |ok| ok == 1.0).await;
    assert!(site.serves(&new));
}

#[tokio::test]
async fn c30_when_a_certificate_expires_is_told_and_what_is_wrong_with_it() {
    for (from, until, said) in [
        ("20200101", "20210101", "expired on 2021-01-01T00:00:00Z"),
        ("20900101", "20910101", "is not valid before 2090-01-01T00:00:00Z"),
        ("20200101", "20910101", "is valid until 2091-01-01T00:00:00Z"),
    ] {
        let site = Site::with(Certificate::valid("site.test", from, until), "");
        let is_warned_of = !said.starts_with("is valid until");
        let log = site.sidecar.log();
        let line = log
            .lines()
            .find(|line| line.contains(&format!("certificate loaded: it {said}")));
        assert_eq!(
            line.unwrap_or_else(|| panic!("{log}")).contains("WARN"),
            is_warned_of
        );
        let told = process::run(&["check", "--offline", "--config", &site.sidecar.config()], &[]);
        let warning = if is_warned_of { "warning: " } else { "" };
        let line = format!(
            "{warning}{}: the certificate {said}",
            site.certificate.path().display()
        );
        assert!(told.code == Some(0) && told.out.contains(&line), "{told:?}");
        let until = if until == "20210101" {
            1_609_459_200.0
        } else {
            3_818_448_000.0
        };
        assert_eq!(site.sidecar.metric(&site.expiry()).await, until);
        // Renewed.
        let new = Certificate::valid("site.test", "20200101", "20910101");
        if until < 3_000_000_000.0 {
            site.renew(&new);
            site.sidecar
                .wait_for_metric(&site.expiry(), |until| until == 3_818_448_000.0)
                .await;
            wait_until("its end in the log", || {
                let log = site.sidecar.log();
                log.contains("certificate loaded: it is valid until 2091-01-01T00:00:00Z")
            });
        }
    }
}
