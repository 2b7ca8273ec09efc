//! Why a Django site could not be asked. Each message names the remedy.

use std::path::PathBuf;

/// Why the site could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum DjangoError {
    /// No `manage.py`.
    #[error("{0}: there is no manage.py; name the folder of the Django project with --django")]
    NoProject(PathBuf),
    /// The interpreter does not start.
    #[error(
        "{python} cannot be run ({reason}); name the Python of the site's virtual environment, for example: --python \
         {example}"
    )]
    NoPython {
        /// As it was called.
        python: String,
        /// Why.
        reason: String,
        /// One that may be the site's.
        example: String,
    },
    /// The interpreter is not the site's.
    #[error(
        "{python} has no Django, so it is not the site's Python; name that of the site's virtual environment, for \
         example: --python {example}\nOn the machine where the site runs, `ps ax` shows the environment's folder: the path \
         before bin/gunicorn or bin/uvicorn"
    )]
    NoDjango {
        /// As it was called.
        python: String,
        /// One that may be the site's.
        example: String,
    },
    /// It did not answer in time.
    #[error("{0} did not answer within 60 seconds; try `{0} shell` by hand")]
    Slow(String),
    /// The answer is too long.
    #[error("{0} printed more than 16 MiB; remove what prints from the site's settings and models")]
    Long(String),
    /// It failed.
    #[error(
        "{command} failed; it needs the environment in which the site runs{}\n{said}",
        example.as_ref().map_or_else(String::new, |example| {
            format!(", and the site's Python, for example: --python {example}")
        })
    )]
    Failed {
        /// What was run.
        command: String,
        /// One that may be the site's, where none was named.
        example: Option<String>,
        /// The end of what it said.
        said: String,
    },
    /// The answer cannot be read.
    #[error("the answer of {command} cannot be read: {reason}")]
    Answer {
        /// What was run.
        command: String,
        /// Why.
        reason: String,
    },
}
