//! A real `PgBouncer`, from the package of the system, in front of a Postgres server.

use tempfile::TempDir;

use super::postgres::{self, give_to_postgres, not_as_root};
use super::service::{Service, free_port, wait_for_port};

/// A pooler that lends its connections as its mode has it.
pub struct PgBouncer {
    _service: Service,
    port: u16,
    _directory: TempDir,
}

impl PgBouncer {
    /// Starts it in front of the server on `server`. `mode` is its `pool_mode`; everything else but the size
    /// of its pools is as the program has it by itself.
    pub fn start(server: u16, mode: &str, pool_size: u16) -> Self {
        let port = free_port();
        let directory = super::cleaner::folder();
        let config = format!(
            "[databases]\n* = host=127.0.0.1 port={server} user=postgres\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = {mode}\ndefault_pool_size = {pool_size}\n"
        );
        let path = directory.path().join("pgbouncer.ini");
        std::fs::write(&path, config).expect("a file is written");
        give_to_postgres(directory.path());
        let (program, mut arguments) = not_as_root("/usr/sbin/pgbouncer".into());
        arguments.push(path.into_os_string());
        let program = program.into_string().expect("a path in UTF-8");
        let service = Service::start(directory.path(), &program, arguments, &[]);
        wait_for_port("PgBouncer", port);
        Self {
            _service: service,
            port,
            _directory: directory,
        }
    }

    /// Port on the loopback interface.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// URL of a database behind it.
    pub fn url(&self, database: &str) -> String {
        postgres::url(self.port, database)
    }
}
