//! The command line: `run`, `upgrade`, `init`, `check`, `routes test`, `migrate`, `grants`,
//! `counters`, `dead-letters`, `api-key`, `demo`.
//!
//! Exit codes: 0 fine, 64 wrong configuration or usage (one readable message on standard error), 1 anything
//! else.

mod api_key;
mod counters;
mod dead_letters;
mod init;

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::app::{self, App, StartError, TakeOver};
use crate::config::{Access, Config, ConfigError, TlsListener, Validity, misspelt, read_key_pair, variables};
use crate::handover::{self, UpgradeError};
use crate::page_view::Policy;
use crate::routes::RouteNames;
use crate::store::{GrantsError, MigrateError, StoreError};
use crate::writer::spool::Directory;
use crate::{demo, explain, presence, reload, store, telemetry};
use api_key::ApiKeyCommand;
use counters::CountersCommand;
use dead_letters::DeadLettersCommand;

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
        #[arg(long)]
        pid: u32,
    },
    /// Write a configuration and routes that fit the live database, and a Django site's own settings and URL patterns.
    #[command(after_help = "What it can find: config/README.md, Does my site fit?")]
    Init(init::InitArguments),
    /// Validate configuration and routes, and, unless --offline, the app's live schema, and whether sidecars that share
    /// Redis have the same settings.
    #[command(after_help = "Every key: config/headcount.toml; how it is read: config/README.md")]
    Check {
        #[command(flatten)]
        config: ConfigFile,
        /// Ask neither the database nor Redis.
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
    /// where it is configured, the trigger that notifies of sessions that end.
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

/// Why a command failed, by exit code.
#[derive(Debug)]
enum Failure {
    /// 64
    Usage(String),
    /// 1
    Other(anyhow::Error),
}

impl Failure {
    /// An error of the database, which is configured in `file`.
    fn of_database(
        file: &Path,
        config: &Config,
        error: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        let place = store::place(&config.database);
        Self::Other(anyhow::Error::new(error).context(format!("{}: database: {place}", file.display())))
    }

    /// The same, with the remedy.
    fn of_store(file: &Path, config: &Config, error: &StoreError) -> Self {
        let place = store::place(&config.database);
        let remedy = error
            .remedy()
            .map_or_else(String::new, |remedy| format!("; {remedy}"));
        let file = file.display();
        Self::Other(anyhow::anyhow!(
            "{file}: database: {place}: {}{remedy}",
            error.chain()
        ))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<reload::ReloadError> for Failure {
    fn from(error: reload::ReloadError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<UpgradeError> for Failure {
    fn from(error: UpgradeError) -> Self {
        match error {
            UpgradeError::Ended { code: Some(64) } => Self::Usage(error.to_string()),
            error => Self::Other(error.into()),
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Configuration(message) => Self::Usage(message),
            StartError::Other(error) => Self::Other(error),
        }
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
            check(&config.config, &loaded, offline)?;
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
        Command::Migrate { config, dry_run } => migrate(&config.config, &config.load()?, dry_run),
        Command::Grants { config, role } => grants(&config.config, &config.load()?, &role),
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

fn check(path: &Path, config: &Config, offline: bool) -> Result<(), Failure> {
    print_line(format_args!("{}: the configuration is valid", path.display()));
    let table = reload::load_routes(&config.routes.dir, &RouteNames::of(config))?;
    let folder = config.routes.dir.display();
    print_line(format_args!("{folder}: {} routes are valid", table.len()));
    if let Some(route) = table.by_slug().filter(|_| !config.schema.has_slugs()) {
        print_line(format_args!(
            "warning: route {} names communities by slugs, which they do not have, so that its pages have no community: name \
             the column in schema.community.columns.slug, or use (?P<community>…)",
            route.name
        ));
    }
    for file in reload::blank_files(&reload::read_route_files(&config.routes.dir)?, &[]) {
        print_line(format_args!(
            "warning: {}: the route file is empty: it has no routes",
            file.display()
        ));
    }
    for listener in &config.listen.https {
        print_line(certificate(listener));
    }
    app::open_geoip(config)?;
    if config.record.writes() {
        Directory::check(&config.spool.dir).map_err(|error| Failure::Usage(error.to_string()))?;
    }
    if config.api.enabled && config.api.identities && config.api.access == Access::Session {
        print_line(
            "warning: api.access = \"session\" shows who is in a community to every signed-in visitor, also where the \
             community is private: leave it out, so that only those see it to whom the app has shown the community, \
             or set api.identities = false",
        );
    }
    api_key::check(&config.api);
    if offline {
        print_line("the database was not asked");
        return Ok(());
    }
    let problems =
        block_on(store::check(config))?.map_err(|error| Failure::of_store(path, config, &error))?;
    let (warnings, problems): (Vec<_>, Vec<_>) = problems.iter().partition(|problem| problem.is_a_warning());
    if !problems.is_empty() {
        let list: Vec<String> = problems.iter().map(|problem| format!("\n  {problem}")).collect();
        return Err(Failure::Usage(format!(
            "{}: the database's tables are not as configured:{}",
            path.display(),
            list.concat()
        )));
    }
    block_on(api_key::check_communities(config))??;
    print_line("the database has the tables that the configuration names");
    for warning in warnings {
        print_line(format_args!("warning: {warning}"));
    }
    let remarks =
        block_on(store::remarks(config))?.map_err(|error| Failure::of_store(path, config, &error))?;
    for remark in remarks {
        print_line(format_args!("note: {remark}"));
    }
    let (refused, notes) = block_on(store::events_of_routes(config, &table))?
        .map_err(|error| Failure::of_store(path, config, &error))?;
    if !refused.is_empty() {
        return Err(Failure::Usage(refused.join("\n")));
    }
    for note in notes {
        print_line(format_args!("note: {note}"));
    }
    if config.record.writes() {
        let ledger = block_on(store::check_ledger(config))?;
        if let Some(problem) = ledger.map_err(|error| Failure::of_store(path, config, &error))? {
            return Err(Failure::Usage(format!("{}: database: {problem}", path.display())));
        }
        print_line("the database has the ledger of applied batches");
    }
    let remarks = block_on(presence::remarks(&config.redis, &config.record))?;
    for remark in remarks.map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))? {
        print_line(format_args!("note: {remark}"));
    }
    Ok(())
}

/// The line about a listener's certificate, which is known to be readable.
fn certificate(listener: &TlsListener) -> String {
    let path = listener.certificate.display();
    let pair = read_key_pair(&listener.certificate, &listener.key).ok();
    let Some(validity) = pair.and_then(|pair| Validity::of(&pair)) else {
        return format!("note: {path}: the dates of the certificate cannot be read");
    };
    match validity.problem(chrono::Utc::now()) {
        Some(problem) => format!("warning: {path}: the certificate {problem}"),
        None => format!("{path}: the certificate {validity}"),
    }
}

fn test_route(config: &Config, url: &str, method: &str) -> Result<(), Failure> {
    let table = reload::load_routes(&config.routes.dir, &RouteNames::of(config))?;
    let policy = Policy::new(&config.record, &config.privacy);
    let text = explain::explain(&table, &policy, &config.api, url, method)
        .map_err(|problem| Failure::Usage(problem.to_string()))?;
    print_line(text.trim_end());
    Ok(())
}

fn migrate(path: &Path, config: &Config, dry_run: bool) -> Result<(), Failure> {
    let outcome = block_on(store::migrate(config, dry_run))?;
    let done = match &outcome {
        Ok(steps) => &**steps,
        Err(MigrateError::Incomplete(incomplete)) => &incomplete.done,
        Err(_) => &[],
    };
    for step in done {
        print_line(step);
    }
    // In a dry run a comment, so that the whole output can be run as it is.
    match (done.len(), dry_run) {
        (0, _) => {}
        (_, true) => print_line("-- nothing has been changed: headcount migrate without --dry-run runs this"),
        (1, false) => print_line("done: 1 step"),
        (steps, false) => print_line(format_args!("done: {steps} steps")),
    }
    match outcome {
        Ok(steps) if steps.is_empty() => print_line("nothing to do"),
        Ok(_) => {}
        Err(error) => return Err(Failure::of_database(path, config, error)),
    }
    Ok(())
}

fn grants(path: &Path, config: &Config, role: &str) -> Result<(), Failure> {
    let sql = block_on(store::grants(config, role))?.map_err(|error| match error {
        GrantsError::Database(error) => Failure::of_store(path, config, &error),
        GrantsError::NoRoles | GrantsError::Schema(_) => {
            Failure::Usage(format!("{}: database: {error}", path.display()))
        }
    })?;
    print_line(sql.trim_end());
    Ok(())
}

/// Runs one asynchronous command to its end.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::new)?;
    Ok(runtime.block_on(work))
}
