//! `headcount init`, and `headcount check --django`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Failure, block_on, print_line};
use crate::config::{Config, Secret};
use crate::init::{self, InitError, InitOptions};
use crate::printable::one_line;
use crate::reload;
use crate::routes::RouteNames;

#[derive(Debug, Args)]
pub(super) struct InitArguments {
    /// The app's database; by default that of `HEADCOUNT__DATABASE__URL`, or the one that the site's settings name.
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// Where the app listens, as `host:port` or `unix:PATH`.
    #[arg(long, value_name = "ADDRESS")]
    upstream: Option<String>,
    /// Redis, for several sidecars.
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// Folder of the Django project: its manage.py is asked for settings, models and URL patterns.
    #[arg(long, value_name = "FOLDER")]
    django: Option<PathBuf>,
    /// The site's Python; by default that of its virtual environment.
    #[arg(long, value_name = "FILE", requires = "django")]
    python: Option<PathBuf>,
    /// The table of communities, or its model as `app_label.Model`, where init does not find it.
    #[arg(long, value_name = "TABLE")]
    community: Option<String>,
    /// Where the files go.
    #[arg(value_name = "FOLDER", default_value = "config")]
    folder: PathBuf,
}

pub(super) fn run(arguments: InitArguments) -> Result<(), Failure> {
    let wanted = InitOptions {
        // Arguments are seen by every user of the machine, the environment is not.
        database: arguments
            .database
            .or_else(|| std::env::var("HEADCOUNT__DATABASE__URL").ok())
            .map(Secret::new),
        upstream: arguments.upstream,
        redis: arguments.redis,
        django: arguments.django,
        python: arguments.python,
        community: arguments.community,
        folder: arguments.folder,
    };
    let written = block_on(init::init(&wanted))?.map_err(|error| match error {
        InitError::Database(_) | InitError::Write(_) => Failure::Other(anyhow::Error::new(error)),
        error => Failure::Usage(error.to_string()),
    })?;
    for line in &written.found {
        print_line(format_args!("found: {}", one_line(line)));
    }
    print_line(format_args!(
        "{}: written, with the reason for each guess",
        written.config.display()
    ));
    for line in &written.open {
        print_line(format_args!("to decide: {}", one_line(line)));
    }
    // What is wrong yet is part of what is told: the files are there to be edited.
    let checked = Config::load(&written.config, [])
        .map_err(Failure::from)
        .and_then(|config| super::check::run(&written.config, &config, false));
    match checked {
        Ok(()) => {}
        Err(Failure::Usage(message)) => print_line(format_args!("headcount check: {message}")),
        Err(Failure::Other(error)) => print_line(format_args!("headcount check: {error:#}")),
    }
    Ok(())
}

/// What `check` adds with a site to ask. Settings with which no visitor is recognised are a failure.
pub(super) fn check(config: &Config, project: &Path, python: Option<&Path>) -> Result<(), Failure> {
    let site = init::ask(project, python).map_err(|error| Failure::Usage(format!("--django: {error}")))?;
    let mut warnings = init::warnings(&site, config);
    let routes = reload::load_routes(&config.routes.dir, &RouteNames::of(config))?;
    warnings.extend(init::unlisted_types(&site, config, &routes));
    let files = reload::read_route_files(&config.routes.dir)?;
    warnings.extend(init::mounted(&site, files.iter().map(|file| &*file.text)));
    for warning in &warnings {
        print_line(format_args!("warning: {}", one_line(warning)));
    }
    let faults = init::unrecognised(&site, config);
    if !faults.is_empty() {
        return Err(Failure::Usage(faults.join("\n")));
    }
    if warnings.is_empty() {
        print_line("the site's settings go with the configuration");
    }
    Ok(())
}
