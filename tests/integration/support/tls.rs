//! Certificates that nobody but the tests believes.

use std::path::{Path, PathBuf};
use std::process::Command;

use headcount::config;
use tempfile::TempDir;

/// A certificate with its key, in files.
pub struct Certificate {
    directory: TempDir,
}

impl Certificate {
    /// Made by openssl, valid for a day.
    pub fn of(name: &str) -> Self {
        let made = Self {
            directory: super::cleaner::folder(),
        };
        let alternative = format!("subjectAltName=DNS:{name}");
        openssl(
            name,
            &made.path(),
            &made.key(),
            &["-addext", &alternative, "-addext", NO_AUTHORITY],
        );
        made
    }

    /// The same with other dates, as `YYYYMMDD`.
    pub fn valid(name: &str, from: &str, until: &str) -> Self {
        let made = Self::of(name);
        let configuration = made.file("ca.conf");
        let text = "[ca]\ndefault_ca = own\n[own]\ndatabase = index\nnew_certs_dir = .\ndefault_md = sha256\n\
                    policy = any\ncopy_extensions = copy\nrand_serial = yes\n[any]\ncommonName = supplied\n";
        std::fs::write(configuration, text).expect("a file");
        std::fs::write(made.file("index"), "").expect("a file");
        let midnight = |day: &str| format!("{day}000000Z");
        for arguments in [
            &[
                "x509",
                "-x509toreq",
                "-copy_extensions",
                "copy",
                "-in",
                "site.pem",
                "-signkey",
                "site.key",
                "-out",
                "request",
            ][..],
            &[
                "ca",
                "-config",
                "ca.conf",
                "-selfsign",
                "-batch",
                "-notext",
                "-keyfile",
                "site.key",
                "-in",
                "request",
                "-startdate",
                &midnight(from),
                "-enddate",
                &midnight(until),
                "-out",
                "site.pem",
            ],
        ] {
            let mut command = Command::new("openssl");
            run(command.args(arguments).current_dir(made.directory.path()));
        }
        made
    }

    /// The certificate's file.
    pub fn path(&self) -> PathBuf {
        self.file("site.pem")
    }

    /// The private key's file.
    pub fn key(&self) -> PathBuf {
        self.file("site.key")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A listener with it, as a section of the configuration.
    pub fn listener(&self, port: u16) -> String {
        format!(
            "[[listen.https]]\naddress = \"127.0.0.1:{port}\"\ncertificate = \"{}\"\nkey = \"{}\"\n",
            self.path().display(),
            self.key().display()
        )
    }
}

/// An authority, with a certificate for the servers and one for the clients at the loopback address.
pub struct Authority {
    directory: TempDir,
}

impl Authority {
    /// A new one, which nobody knows.
    pub fn new() -> Self {
        let made = Self {
            directory: super::cleaner::folder(),
        };
        let authority = ["ca.pem", "ca.key"].map(|name| made.file(name));
        openssl("An authority", &authority[0], &authority[1], &[]);
        let authority = authority.map(|path| path.to_str().expect("UTF-8").to_owned());
        for name in ["server", "client"] {
            openssl(
                name,
                &made.file(&format!("{name}.pem")),
                &made.file(&format!("{name}.key")),
                &[
                    "-CA",
                    &authority[0],
                    "-CAkey",
                    &authority[1],
                    "-addext",
                    "subjectAltName=IP:127.0.0.1",
                    "-addext",
                    NO_AUTHORITY,
                ],
            );
        }
        made
    }

    /// One of `ca.pem`, `server.pem`, `server.key`, `client.pem`, `client.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A configuration that believes this authority and nobody else, and shows a certificate of its.
    pub fn trusted(&self, config: config::Redis) -> config::Redis {
        config::Redis {
            tls: config.url.is_none(),
            tls_ca_file: Some(self.file("ca.pem")),
            tls_cert_file: Some(self.file("client.pem")),
            tls_key_file: Some(self.file("client.key")),
            ..config
        }
    }
}

/// An authority may not be a server at the same time.
const NO_AUTHORITY: &str = "basicConstraints=critical,CA:FALSE";

fn openssl(name: &str, certificate: &Path, key: &Path, arguments: &[&str]) {
    run(Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
        ])
        .args(["-nodes", "-days", "1", "-subj", &format!("/CN={name}")])
        .args(arguments)
        .arg("-out")
        .arg(certificate)
        .arg("-keyout")
        .arg(key));
}

fn run(openssl: &mut Command) {
    let output = openssl.output().expect("openssl runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
