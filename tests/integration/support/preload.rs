//! Libraries that are preloaded into a server, so that the system fails or lies when a test says so; compiled when they
//! are first wanted.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles `source`, a file of this folder, into `home`; returns the library's path.
pub(super) fn compiled(source: &str, home: &Path) -> PathBuf {
    let library = home.join("library.so");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/support");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
        .arg(&library)
        .arg(folder.join(source))
        .arg("-ldl")
        .status();
    assert!(compiled.expect("cc runs").success());
    library
}
