//! Route files: lists and reads their folder.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::routes::{RouteError, RouteFile, RouteNames, RouteTable};

/// How often the folder is listed again when a file disappears between listing and reading, as while it is replaced.
const TRIES: usize = 3;

/// Why the route files could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    /// The folder or a file could not be read.
    #[error("{}: cannot be read ({reason}); routes.dir names the folder of the route files", path.display())]
    Read {
        /// Folder or file.
        path: PathBuf,
        /// The kind of the system's error.
        kind: ErrorKind,
        /// The system's reason.
        reason: String,
    },
    /// The folder holds no route file: more likely a wrong folder than a site without communities.
    #[error(
        "{}: holds no route file (*.toml); routes.dir names the folder of the route files; for a site without \
         routes, add an empty file",
        path.display()
    )]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// A file is wrong.
    #[error(transparent)]
    Routes(#[from] RouteError),
    /// The files are right, and something that they write is not taken; in words, with places.
    #[error("{0}")]
    NotTaken(String),
}

/// Whether a name in the folder is a route file's. Names that start with a dot are not: editors' lock, swap and
/// metadata files (`.#site.toml`, `.site.toml.swp`, `._site.toml`), files that rsync still writes, and the folders of a
/// Kubernetes volume (`..data`). Backups and autosaves (`site.toml~`, `#site.toml#`) do not end in `.toml`.
pub(super) fn is_route_file(name: &OsStr) -> bool {
    !name.as_encoded_bytes().starts_with(b".")
        && Path::new(name)
            .extension()
            .is_some_and(|extension| extension == "toml")
}

/// The route files of a folder, in file-name order.
///
/// # Errors
/// The folder cannot be listed.
pub(super) fn list(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        // Reading a folder would fail, and a pipe without a writer would block; a dangling link is reported when it is
        // read.
        let is_file = || std::fs::metadata(entry.path()).map_or(true, |found| found.is_file());
        if is_route_file(&entry.file_name()) && is_file() {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// Reads every route file of a folder, in file-name order.
///
/// # Errors
/// Folder or file cannot be read, or there is no route file.
pub fn read_route_files(dir: &Path) -> Result<Vec<RouteFile>, ReloadError> {
    let mut tries = 1;
    loop {
        match read_once(dir) {
            Err(ReloadError::Read { path, kind, .. })
                if kind == ErrorKind::NotFound && path != dir && tries < TRIES =>
            {
                tries += 1;
            }
            result => return result,
        }
    }
}

fn read_once(dir: &Path) -> Result<Vec<RouteFile>, ReloadError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error: std::io::Error| ReloadError::Read {
            path,
            kind: error.kind(),
            reason: error.to_string(),
        }
    };
    let paths = list(dir).map_err(failed(dir))?;
    if paths.is_empty() {
        return Err(ReloadError::Empty { path: dir.into() });
    }
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).map_err(failed(&path))?;
        Ok(RouteFile { path, text })
    };
    paths.into_iter().map(read).collect()
}

/// Route files with nothing in them, where others or, as read `before`, they themselves had something: more likely an
/// interrupted write than what is meant.
pub fn blank_files<'a>(files: &'a [RouteFile], before: &[RouteFile]) -> Vec<&'a Path> {
    let is_blank = |file: &RouteFile| file.text.trim().is_empty();
    let all_are = files.iter().all(is_blank);
    let had = |path: &Path| before.iter().any(|file| file.path == path && !is_blank(file));
    let blank = files.iter().filter(|file| is_blank(file));
    blank
        .filter(|file| !all_are || had(&file.path))
        .map(|file| file.path.as_path())
        .collect()
}

/// Reads and compiles the route files of a folder.
///
/// # Errors
/// As [`read_route_files`], or a file is wrong.
pub fn load_routes(dir: &Path, names: &RouteNames) -> Result<RouteTable, ReloadError> {
    Ok(RouteTable::compile_with(&read_route_files(dir)?, names)?)
}
