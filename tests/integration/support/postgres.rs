//! A real Postgres server, from Debian's packages: one for the whole test process, a fresh database for each
//! test.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use tempfile::TempDir;
use uuid::Uuid;

use super::cleaner::Cleaner;
use super::redis::eventually;
use super::service::{Service, free_port, wait_for_port, wait_until};

/// A server of its own, on a free port and a directory that goes with it.
pub struct Postgres {
    service: Option<Service>,
    directory: PathBuf,
    port: u16,
    /// Settings beyond the usual ones, as `name=value`.
    settings: Vec<String>,
    _cleaner: Cleaner,
}

impl Postgres {
    /// The server that all tests share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// A server for one test, which may kill it.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same, with settings of its own.
    pub fn start_with(settings: &[&str]) -> Self {
        let directory = TempDir::with_prefix("headcount-postgres-")
            .expect("a directory")
            .keep();
        let cleaner = Cleaner::of(&directory);
        give_to_postgres(&directory);
        let (program, arguments) = as_postgres("initdb");
        run(Command::new(program)
            .args(arguments)
            .args([
                "--auth=trust",
                "--username=postgres",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
            ])
            .args(["--no-sync", "--pgdata=data"])
            .current_dir(&directory)
            .stdout(Stdio::null()));
        let mut server = Self {
            service: None,
            directory,
            port: free_port(),
            settings: settings.iter().map(ToString::to_string).collect(),
            _cleaner: cleaner,
        };
        server.start_again();
        server
    }

    /// A server on a copy of what the server on `port` has, which follows that one until it is promoted.
    pub fn standby_of(port: u16) -> Self {
        let directory = TempDir::with_prefix("headcount-postgres-")
            .expect("a directory")
            .keep();
        let cleaner = Cleaner::of(&directory);
        give_to_postgres(&directory);
        let (program, arguments) = as_postgres("pg_basebackup");
        run(Command::new(program)
            .args(arguments)
            .args([
                "--pgdata=data",
                "--write-recovery-conf",
                "--checkpoint=fast",
                "--no-sync",
            ])
            .args([
                "--username=postgres",
                "--host=127.0.0.1",
                "--port",
                &port.to_string(),
            ])
            .current_dir(&directory));
        let mut server = Self {
            service: None,
            directory,
            port: free_port(),
            settings: Vec::new(),
            _cleaner: cleaner,
        };
        server.start_again();
        server
    }

    /// Waits until a standby has everything that `primary` has written so far.
    pub async fn has_all_of(&self, primary: &Self) {
        let position = "SELECT pg_current_wal_lsn()::text";
        let pool = primary.pool("postgres");
        let position: String = sqlx::query_scalar(position)
            .fetch_one(&pool)
            .await
            .expect("a position");
        pool.close().await;
        let pool = self.pool("postgres");
        let reached = "SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn";
        eventually(async || {
            let reached = sqlx::query_scalar(reached).bind(&position).fetch_one(&pool).await;
            reached.expect("an answer")
        })
        .await;
        pool.close().await;
    }

    /// Promotes a standby, which then takes the place of a server that was killed: it listens on its port.
    pub async fn take_the_place_of(&mut self, killed: &Self) {
        let mut admin = PgConnection::connect(&self.url("postgres"))
            .await
            .expect("the server answers");
        let promoted: bool = sqlx::query_scalar("SELECT pg_promote()")
            .fetch_one(&mut admin)
            .await
            .expect("an answer");
        assert!(promoted);
        admin.close().await.expect("the connection closes");
        self.kill();
        self.port = killed.port;
        self.start_again();
    }

    /// Starts the server on the data and the port that it had.
    pub fn start_again(&mut self) {
        let (program, mut arguments) = as_postgres("postgres");
        let port = self.port.to_string();
        let settings = [
            "-D",
            "data",
            "-p",
            &port,
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "unix_socket_directories=.",
            "-c",
            "fsync=off",
            "-c",
            "full_page_writes=off",
            "-c",
            "shared_buffers=64MB",
            "-c",
            "max_connections=400",
            "-c",
            "autovacuum=off",
            "-c",
            "lc_messages=C",
        ];
        // `unix_socket_directories` is relative to the data directory, which is short enough for a socket.
        arguments.extend(settings.map(Into::into));
        // Of several for one setting, the last counts.
        for setting in &self.settings {
            arguments.extend(["-c", setting].map(Into::into));
        }
        let program = program.into_string().expect("a path in UTF-8");
        self.service = Some(Service::start(&self.directory, &program, arguments, &[]));
        wait_for_port("Postgres", self.port);
        let ready = ["-q", "-h", "127.0.0.1", "-p", &port];
        wait_until("Postgres to accept connections", || {
            let status = Command::new(binary("pg_isready")).args(ready).status();
            status.is_ok_and(|status| status.success())
        });
    }

    /// Kills the server as a power failure would, and waits until nothing of it is left.
    pub fn kill(&mut self) {
        let service = self.service.take().expect("the server runs");
        // Stopped first, so that it starts no process that would be missed.
        service.signal("STOP");
        let server = service.pid().to_string();
        wait_until("Postgres to stop", || state(&server) == Some('T'));
        let children = Command::new("pgrep")
            .args(["-P", &server])
            .output()
            .expect("pgrep runs");
        let children = String::from_utf8(children.stdout).expect("process ids");
        let killed = Command::new("kill").arg("-KILL").args(children.lines()).status();
        // Some may have ended meanwhile.
        killed.expect("kill runs");
        service.signal("KILL");
        drop(service);
        // What nobody has waited for yet holds neither ports nor files.
        let has_ended = |pid: &str| matches!(state(pid), None | Some('Z' | 'X'));
        wait_until("Postgres' processes to end", || children.lines().all(has_ended));
    }

    /// URL of a database of this server.
    pub fn url(&self, database: &str) -> String {
        url(self.port, database)
    }

    /// Port on the loopback interface.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Makes a fresh, empty database and answers its name.
    pub async fn database(&self) -> String {
        self.database_with("").await
    }

    /// The same, with options of `CREATE DATABASE`.
    pub async fn database_with(&self, options: &str) -> String {
        let name = format!("test_{}", Uuid::new_v4().simple());
        let mut admin = PgConnection::connect(&self.url("postgres"))
            .await
            .expect("the server answers");
        sqlx::query(AssertSqlSafe(format!(
            "CREATE DATABASE {name} TEMPLATE template0 {options}"
        )))
        .execute(&mut admin)
        .await
        .expect("a database is made");
        admin.close().await.expect("the connection closes");
        name
    }

    /// Connections for the test itself. Made when used, and given back to the server at once.
    pub fn pool(&self, database: &str) -> PgPool {
        let options: PgConnectOptions = self.url(database).parse().expect("a URL");
        PgPoolOptions::new()
            .max_connections(4)
            .connect_lazy_with(options.options([("TimeZone", "UTC")]))
    }
}

/// URL of a database of the server that is reached through a port.
pub fn url(port: u16, database: &str) -> String {
    format!("postgres://postgres@127.0.0.1:{port}/{database}")
}

/// Program and first arguments to run one of Postgres' programs.
fn as_postgres(program: &str) -> (OsString, Vec<OsString>) {
    not_as_root(binary(program))
}

/// Program and first arguments to run a program that refuses to run as root.
pub fn not_as_root(program: PathBuf) -> (OsString, Vec<OsString>) {
    let program = program.into_os_string();
    if !root() {
        return (program, Vec::new());
    }
    // `setpriv` becomes the program, so that the process id is the server's.
    let arguments = ["--reuid=postgres", "--regid=postgres", "--init-groups"];
    let arguments = arguments.into_iter().map(OsString::from).chain([program]);
    ("setpriv".into(), arguments.collect())
}

/// Lets a program that was started by [`not_as_root`] write into a directory.
pub fn give_to_postgres(directory: &Path) {
    if root() {
        run(Command::new("chown").arg("-R").arg("postgres:").arg(directory));
    }
}

fn root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id runs");
    id.stdout == b"0\n"
}

/// State of a process, as in `ps`; `None` where there is none.
fn state(pid: &str) -> Option<char> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).ok()?;
    // The name may have anything in it.
    stat.rsplit_once(") ")?.1.chars().next()
}

/// A program of the newest Postgres that is installed.
fn binary(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("Debian's postgresql is installed");
    let newest = versions
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok()?.parse::<u32>().ok())
        .max()
        .expect("a version of Postgres");
    format!("/usr/lib/postgresql/{newest}/bin/{name}").into()
}

fn run(command: &mut Command) {
    let status = command.status();
    assert!(status.is_ok_and(|status| status.success()), "{command:?} failed");
}
