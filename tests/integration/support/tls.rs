//! A certificate that nobody but the tests believes.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// A certificate with its key, in files.
pub struct Certificate {
    directory: TempDir,
}

impl Certificate {
    /// Made by openssl, valid for a day.
    pub fn of(name: &str) -> Self {
        let made = Self {
            directory: tempfile::tempdir().expect("a directory"),
        };
        let output = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
            ])
            .args(["-nodes", "-days", "1", "-subj", &format!("/CN={name}")])
            .args(["-addext", &format!("subjectAltName=DNS:{name}")])
            // An authority may not be a server at the same time.
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-out")
            .arg(made.path())
            .arg("-keyout")
            .arg(made.key())
            .output()
            .expect("openssl runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        made
    }

    /// The certificate's file.
    pub fn path(&self) -> PathBuf {
        self.file("site.pem")
    }

    fn key(&self) -> PathBuf {
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
