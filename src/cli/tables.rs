//! `headcount migrate` and `headcount grants`: what the sidecar needs in the app's database.

use std::path::Path;

use super::{Failure, block_on, print_line};
use crate::config::Config;
use crate::printable::counted;
use crate::store::{self, GrantsError, MigrateError};

pub(super) fn migrate(path: &Path, config: &Config, dry_run: bool) -> Result<(), Failure> {
    let outcome = block_on(store::migrate(config, dry_run))?;
    let done = match &outcome {
        Ok(steps) => &**steps,
        Err(MigrateError::Incomplete(incomplete)) => &incomplete.done,
        Err(_) => &[],
    };
    for step in done {
        print_line(step);
    }
    // In a dry run a comment: all that is printed is SQL. What records the steps is not printed; migrate, run afterwards, takes
    // what it finds as it should be, and records it.
    match (done.len(), dry_run) {
        (0, _) => {}
        (_, true) => print_line("-- nothing has been changed: headcount migrate without --dry-run runs this"),
        (steps, false) => print_line(format_args!("done: {}", counted(steps, "step", "steps"))),
    }
    match outcome {
        Ok(steps) if steps.is_empty() => print_line("nothing to do"),
        Ok(_) => {}
        Err(error) => return Err(Failure::of_database(path, config, error)),
    }
    Ok(())
}

pub(super) fn grants(path: &Path, config: &Config, role: &str) -> Result<(), Failure> {
    let sql = block_on(store::grants(config, role))?.map_err(|error| match error {
        GrantsError::Database(error) => Failure::of_store(path, config, &error),
        GrantsError::NoRoles | GrantsError::Schema(_) => {
            Failure::Usage(format!("{}: database: {error}", path.display()))
        }
    })?;
    print_line(sql.trim_end());
    Ok(())
}
