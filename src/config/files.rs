//! Files that the configuration names, relative to its own folder.

use std::path::{Path, PathBuf};

use super::Secret;

/// The folder of the configuration file.
pub(super) struct ConfigFolder<'a> {
    pub folder: &'a Path,
}

impl ConfigFolder<'_> {
    /// Makes a path relative to the configuration file's folder; an absolute one stays.
    pub(super) fn locate(&self, path: &mut PathBuf) {
        *path = self.folder.join(&*path);
    }

    /// Reads the secret for `key` from the file that `key` with `_file` names.
    pub(super) fn read_secret(
        &self,
        key: &str,
        secret: &mut Option<Secret>,
        file: Option<&Path>,
    ) -> Result<(), (String, String)> {
        let Some(file) = file else { return Ok(()) };
        let refused = |problem| Err((format!("{key}_file"), problem));
        if secret.is_some() {
            return refused(format!("{key} is set too; keep one of the two"));
        }
        let path = self.folder.join(file);
        let shown = path.display();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => return refused(format!("{shown} cannot be read ({error})")),
        };
        if text.trim().is_empty() {
            let what = key.rsplit(['.', '_']).next().unwrap_or(key);
            let what = if what == "url" { "URL" } else { what };
            return refused(format!("{shown} is empty; it must hold the {what}"));
        }
        *secret = Some(Secret::new(text.trim()));
        Ok(())
    }
}
