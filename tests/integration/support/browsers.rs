//! Today's browsers as Debian has them, opened at an address without a driver: what they then do is up to the pages.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::chromium;
use super::service::{Service, wait_until};
use super::tls::Certificate;

/// The name that the browsers find at the loopback address, and do not take for the own machine: where such a site has
/// no TLS, they tell it less. `WebKit` knows no such name.
pub const ELSEWHERE: &str = "site.test";

/// A browser's engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Chromium,
    Firefox,
    WebKit,
}

/// A running browser. Dropping it ends it.
pub struct Browser {
    _process: Service,
    _display: Option<Service>,
    directory: TempDir,
}

impl Engine {
    /// Opens a fresh browser at an address; it takes the certificate for `localhost` at this port.
    pub fn open(self, url: &str, certificate: &Certificate, port: u16) -> Browser {
        let directory = super::cleaner::folder();
        let path = directory.path();
        let [home, temporary] =
            ["HOME", "TMPDIR"].map(|name| (name, path.to_str().expect("UTF-8").to_owned()));
        let mut display = None;
        let process = match self {
            Self::Chromium => {
                let rules = format!("--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1");
                let more = ["--ignore-certificate-errors", &rules];
                chromium::start_browser(path, &more, url)
            }
            Self::Firefox => {
                let profile = path.join("profile");
                std::fs::create_dir(&profile).expect("a folder");
                std::fs::write(profile.join("user.js"), preferences()).expect("a file");
                let exception = format!(
                    "localhost:{port}:\tOID.2.16.840.1.101.3.4.2.1\t{}\t\n",
                    fingerprint(&certificate.path())
                );
                std::fs::write(profile.join("cert_override.txt"), exception).expect("a file");
                let arguments = ["--headless", "--no-remote", "--profile", "profile", url];
                Service::start(path, "firefox-esr", arguments, &[home, temporary])
            }
            Self::WebKit => {
                let folder = path.join("display");
                std::fs::create_dir(&folder).expect("a folder");
                // It chooses a number that is free, and says which.
                let arguments = [
                    "-displayfd",
                    "1",
                    "-nolisten",
                    "tcp",
                    "-screen",
                    "0",
                    "1280x1024x24",
                ];
                display = Some(Service::start(&folder, "Xvfb", arguments, &[]));
                let number = display_number(&folder.join("log"));
                let environment = [home, temporary, ("DISPLAY", format!(":{number}"))];
                Service::start(path, &mini_browser(), ["--ignore-tls-errors", url], &environment)
            }
        };
        Browser {
            _process: process,
            _display: display,
            directory,
        }
    }

    /// As it stands in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chromium => "chromium",
            Self::Firefox => "firefox",
            Self::WebKit => "webkit",
        }
    }
}

impl Browser {
    /// What the browser has printed.
    pub fn log(&self) -> String {
        let log = std::fs::read(self.directory.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }
}

/// Firefox asks nobody, neither its user nor the world.
fn preferences() -> String {
    let off = [
        "app.normandy.enabled",
        "browser.aboutwelcome.enabled",
        "browser.shell.checkDefaultBrowser",
        "datareporting.policy.dataSubmissionEnabled",
        "dom.security.https_first",
        "network.captive-portal-service.enabled",
        "network.connectivity-service.enabled",
    ];
    let off = off
        .map(|name| format!("user_pref(\"{name}\", false);\n"))
        .concat();
    format!("{off}user_pref(\"network.dns.localDomains\", \"{ELSEWHERE}\");\n")
}

fn fingerprint(certificate: &Path) -> String {
    let output = Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
        .arg(certificate)
        .output()
        .expect("openssl runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let (_, fingerprint) = text.trim().split_once('=').expect("a fingerprint");
    fingerprint.to_owned()
}

fn display_number(log: &Path) -> u32 {
    let mut number = None;
    wait_until("a display", || {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        number = text
            .split_inclusive('\n')
            .find_map(|line| line.strip_suffix('\n')?.parse().ok());
        number.is_some()
    });
    number.expect("a number")
}

/// `WebKit`'s small browser, which is not in the path.
fn mini_browser() -> String {
    let libraries = std::fs::read_dir("/usr/lib").expect("a folder");
    let found = libraries
        .filter_map(|entry| std::fs::read_dir(entry.ok()?.path()).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("MiniBrowser")))
        .find(|path| path.exists());
    let found = found.expect("MiniBrowser; tests/run installs it");
    found.to_str().expect("UTF-8").to_owned()
}
