//! The command line: `run`, `upgrade`, `init`, `check`, `routes test`, `migrate`, `grants`,
//! `counters`, `dead-letters`, `api-key`, `demo`.
//!
//! Exit codes: 0 fine, 64 wrong configuration or usage (one readable message on standard error), 1 anything
//! else.

mod api_key;
mod check;
mod counters;
mod dead_letters;
mod failure;
mod init;
mod tables;

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::app::{App, TakeOver};
use crate::config::{Config, ConfigError, misspelt, variables};
use crate::page_view::Policy;
use crate::routes::RouteNames;
use crate::{demo, explain, handover, reload, telemetry};
use api_key::ApiKeyCommand;
use counters::CountersCommand;
use dead_letters::DeadLettersCommand;
use failure::Failure;

/// The manuals, listed below the help.
const MANUALS: &str = "Manuals, in the source tree:
  deploy/README.md   install, upgrade, operate; metrics and failures
  config/README.md   configuration and routes; every key: config/headcount.toml
  src/api/README.md  visitors API, live counts, widget";

/// Reverse-proxy sidecar that knows who is in which community right now.
#[derive(Debug, Parser)]
#[command(name = "headcount", version, after_help = MANUALS)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the sidecar.
    Run {
        #[command(flatten)]
        config: ConfigFile,
        /// Take over the listening sockets of a running sidecar, without a failed request: prepares everything,
        /// says that it is ready, and waits for SIGQUIT to the running one. If anything fails, that one goes
        /// on serving.
        #[arg(long)]
        upgrade: bool,
        /// Once the sockets are taken over, log where the running sidecar logs, whatever standard error is. `headcount
        /// upgrade` starts the new process like this.
        #[arg(long, requires = "upgrade")]
        take_over_log: bool,
    },
    /// Replace a running sidecar by this binary and configuration, without a failed request.
    ///
    /// Starts `run --upgrade`, sends SIGQUIT to the running sidecar once the new one is ready, and returns when
    /// the new one serves; the old one ends when its connections have, within `limits.grace_period`. The new one
    /// logs where the old one did. When it fails, the old one goes on serving, the reason is on standard
    /// error, and the exit code is that of the new one.
    Upgrade {
        #[command(flatten)]
        config: ConfigFile,
        /// Process id of the running sidecar.
        #[arg(long, value_parser = process_id)]
        pid: u32,
    },
    /// Write a configuration and routes that fit the live database, and a Django site's own settings and URL patterns.
    #[command(after_help = "What it can find: config/README.md, Does my site fit?")]
    Init(init::InitArguments),
    /// Validate configuration and routes, and, unless --offline, the app's live schema, whether its servers take connections, and
    /// whether sidecars that share Redis have the same settings.
    #[command(after_help = "Every key: config/headcount.toml; how it is read: config/README.md")]
    Check {
        #[command(flatten)]
        config: ConfigFile,
        /// Ask neither the app nor the database nor Redis.
        #[arg(long)]
        offline: bool,
        /// Also ask the site itself, by the manage.py of this folder: settings that break behind a proxy.
        #[arg(long, value_name = "FOLDER")]
        django: Option<PathBuf>,
        /// The site's Python; by default that of its virtual environment.
        #[arg(long, value_name = "FILE", requires = "django")]
        python: Option<PathBuf>,
    },
    /// Explain what the route files make of a URL.
    #[command(after_help = "How routes are written: config/README.md, Routes")]
    Routes {
        #[command(flatten)]
        config: ConfigFile,
        #[command(subcommand)]
        command: RoutesCommand,
    },
    /// Create the schema `headcount`, whose ledger prevents double writes, the indexes that the statistics need, and,
    /// where it is configured, the trigger that notifies of ended sessions.
    #[command(after_help = "Who may run it: deploy/README.md, Migrate and check")]
    Migrate {
        #[command(flatten)]
        config: ConfigFile,
        /// Print what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// Print the SQL that gives a role of Postgres the rights which the configuration needs, and no others.
    #[command(after_help = "How to use it: deploy/README.md, Privileges")]
    Grants {
        #[command(flatten)]
        config: ConfigFile,
        /// The role that the sidecar connects as.
        #[arg(long, default_value = "headcount")]
        role: String,
    },
    /// Compare the counters of communities with the events, or count them anew.
    #[command(after_help = "What they are: deploy/README.md, Counters")]
    Counters {
        #[command(flatten)]
        config: ConfigFile,
        #[command(subcommand)]
        command: CountersCommand,
    },
    /// List, retry or drop the page views that the database refused.
    #[command(after_help = "When a row becomes one: deploy/README.md, Rows that the database refuses")]
    DeadLetters {
        #[command(flatten)]
        config: ConfigFile,
        #[command(subcommand)]
        command: DeadLettersCommand,
    },
    /// Make keys with which servers ask the visitors API.
    #[command(after_help = "How servers use them: deploy/README.md, The backend asks")]
    ApiKey {
        #[command(subcommand)]
        command: ApiKeyCommand,
    },
    /// Show everything at work: a sample community site, simulated visitors, nothing to install.
    Demo {
        /// Port of the site on 127.0.0.1; 0 lets the system choose.
        #[arg(long, default_value_t = 8080)]
        port: u16,
    },
}

#[derive(Debug, Subcommand)]
enum RoutesCommand {
    /// Explain what a URL matches: which route, which community, counted or why not.
    Test {
        /// A path, or a whole URL.
        url: String,
        /// Request method.
        #[arg(long, default_value = "GET")]
        method: String,
    },
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// Configuration file.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "config/headcount.toml",
        global = true
    )]
    config: PathBuf,
}

impl ConfigFile {
    fn load(&self) -> Result<Config, ConfigError> {
        for sentence in misspelt(std::env::vars_os()) {
            // The process starts even when standard error is closed.
            let _ = writeln!(std::io::stderr(), "headcount: warning: {sentence}");
        }
        Config::load(&self.config, variables(std::env::vars_os())?)
    }
}

/// Parses the process' arguments and runs the command.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(64)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match dispatch(cli.command) {
        Ok(()) => {
            telemetry::flush();
            ExitCode::SUCCESS
        }
        Err(failure) => {
            let (message, code) = match failure {
                Failure::Usage(message) => (message, 64),
                Failure::Other(error) => (telemetry::chain(error.as_ref()), 1),
            };
            telemetry::write_last_line(&format!("headcount: {message}"));
            ExitCode::from(code)
        }
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run {
            config,
            upgrade,
            take_over_log,
        } => {
            let take_over = TakeOver {
                tell: print_line_detached,
                log: take_over_log,
            };
            run(config.load()?, upgrade.then_some(take_over))
        }
        Command::Upgrade { config, pid } => upgrade(pid, &config.config),
        Command::Check {
            config,
            offline,
            django,
            python,
        } => {
            let loaded = config.load()?;
            check::run(&config.config, &loaded, offline)?;
            match django {
                Some(project) => init::check(&loaded, &project, python.as_deref()),
                None => Ok(()),
            }
        }
        Command::Init(arguments) => init::run(arguments),
        Command::Routes {
            config,
            command: RoutesCommand::Test { url, method },
        } => test_route(&config.load()?, &url, &method),
        Command::Migrate { config, dry_run } => tables::migrate(&config.config, &config.load()?, dry_run),
        Command::Grants { config, role } => tables::grants(&config.config, &config.load()?, &role),
        Command::Counters { config, command } => counters::run(&config.config, &config.load()?, command),
        Command::DeadLetters { config, command } => dead_letters::run(&config.load()?, command),
        Command::ApiKey { command } => {
            api_key::run(command);
            Ok(())
        }
        Command::Demo { port } => Ok(demo::run(demo::Options { port }, |config, folder| {
            telemetry::init(&config.log, std::io::stderr().is_terminal())?;
            Ok(App::build(config)?.of_a_terminal(folder).run()?)
        })?),
    }
}

/// Prints a line. A closed standard output is no failure: the reader may have seen enough.
fn print_line(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints a line without waiting for the reader of standard output.
fn print_line_detached(line: impl Display + Send + 'static) {
    let print = move || print_line(line);
    // If no thread can be started, the line is not printed.
    let _ = std::thread::Builder::new().name("print".into()).spawn(print);
}

fn run(config: Config, take_over: Option<TakeOver>) -> Result<(), Failure> {
    // The running sidecar's log may be no terminal.
    let elsewhere = take_over.as_ref().is_some_and(|how| how.log);
    let coloured = std::io::stderr().is_terminal() && !elsewhere;
    telemetry::init(&config.log, coloured).map_err(anyhow::Error::new)?;
    let app = match take_over {
        Some(how) => App::build_to_take_over(config, how)?,
        None => App::build(config)?,
    };
    Ok(app.run()?)
}

fn upgrade(pid: u32, config: &Path) -> Result<(), Failure> {
    let new = handover::upgrade(pid, config)?;
    print_line(format_args!(
        "process {new} serves; process {pid} ends when its connections have"
    ));
    Ok(())
}

fn test_route(config: &Config, url: &str, method: &str) -> Result<(), Failure> {
    let table = reload::load_routes(&config.routes.dir, &RouteNames::of(config))?;
    let policy = Policy::new(&config.record, &config.privacy);
    let text = explain::explain(&table, &policy, &config.api, url, method)
        .map_err(|problem| Failure::Usage(problem.to_string()))?;
    print_line(text.trim_end());
    Ok(())
}

/// A process id; 0 and what is beyond those of the system would mean others.
fn process_id(text: &str) -> Result<u32, String> {
    let id = text
        .parse()
        .ok()
        .filter(|&id| i32::try_from(id).is_ok_and(|id| id > 0));
    id.ok_or_else(|| {
        "is not the id of a process; `systemctl show --property MainPID headcount` or `pgrep headcount` tells that of the \
         running sidecar"
            .to_owned()
    })
}

/// Runs one asynchronous command to its end.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::new)?;
    Ok(runtime.block_on(work))
}
