//! Certificates of the site's TLS listeners are renewed while the sidecar runs.

use std::fs;
use std::process::Command;

use crate::reloading::lonely;
use crate::support::service::{free_port, in_time};
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
        let certificate = Certificate::of("site.test");
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
    assert!(
        site.sidecar.log().contains("cannot be used together"),
        "{}",
        site.sidecar.log()
    );

    fs::copy(new.key(), site.certificate.key()).unwrap();
    site.sidecar.wait_for_metric(OK, |ok| ok == 1.0).await;
    assert!(site.serves(&new));
}
