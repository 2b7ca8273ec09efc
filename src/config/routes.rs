//! `[routes]`: the folder of the route files.

use std::path::PathBuf;

use serde::Deserialize;

use super::files::ConfigFolder;
use super::rules::{Checked, Section};

/// Location of the route files.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Routes {
    /// Folder of `*.toml` route files, read in file-name order. Relative to the configuration file.
    pub dir: PathBuf,
    /// Whether a change in the folder is noticed without SIGHUP.
    pub watch: bool,
}

impl Default for Routes {
    fn default() -> Self {
        Self {
            dir: "routes.d".into(),
            watch: true,
        }
    }
}

impl Section for Routes {
    fn resolve(&mut self, files: &ConfigFolder) -> Checked {
        files.locate(&mut self.dir);
        Ok(())
    }
}
