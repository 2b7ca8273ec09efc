//! The sidecar's own tables: its numbered migrations, which sqlx applies and records.

use std::borrow::Cow;

use sqlx::SqlStr;
use sqlx::migrate::{AppliedMigration, Migrate, Migration, MigrationType, Migrator};

use super::{MigrateError, Step};

/// One file of `migrations/`: version, what it makes, its statements. Listed by hand: sqlx's macro that reads the
/// folder compiles both database drivers a second time.
pub(super) type Own = (i64, &'static str, &'static str);

/// The migrations of the sidecar's own tables; `applied` is the table in which sqlx keeps what was applied.
pub(super) fn migrator(own: &[Own], applied: &'static str) -> Migrator {
    let own = own.iter().map(|&(version, description, sql)| {
        let sql = SqlStr::from_static(sql);
        Migration::new(version, description.into(), MigrationType::Simple, sql, false)
    });
    Migrator {
        ignore_missing: true, // of a newer version, after going back to this one
        table_name: Cow::Borrowed(applied),
        ..Migrator::with_migrations(own.collect())
    }
}

/// Applies pending migrations. `begun`: the table that records them exists.
pub(super) async fn own_migrations<C: Migrate>(
    connection: &mut C,
    migrator: &Migrator,
    begun: bool,
    dry_run: bool,
) -> Result<Vec<Step>, MigrateError> {
    let applied = if begun {
        connection
            .list_applied_migrations(&migrator.table_name)
            .await
            .map_err(MigrateError::of_own_tables)?
    } else {
        Vec::new()
    };
    let pending = pending(migrator, &applied)?;
    if !dry_run && !pending.is_empty() {
        migrator
            .run_direct(None, connection, false)
            .await
            .map_err(MigrateError::of_own_tables)?;
    }
    Ok(pending)
}

/// The pending migrations; an error if an applied one has changed since.
fn pending(migrator: &Migrator, applied: &[AppliedMigration]) -> Result<Vec<Step>, MigrateError> {
    let mut steps = Vec::new();
    for migration in migrator.iter() {
        match applied
            .iter()
            .find(|applied| applied.version == migration.version)
        {
            Some(applied) if applied.checksum != migration.checksum => {
                return Err(MigrateError::Changed(migration.version));
            }
            Some(_) => {}
            None => steps.push(Step::new(
                format!("migration {} ({})", migration.version, migration.description),
                migration.sql.as_str(),
            )),
        }
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Own;
    use crate::store::migrate::{postgres, sqlite};

    #[test]
    fn every_file_of_the_folder_is_listed() {
        for (folder, own) in [("postgres", postgres::OWN), ("sqlite", sqlite::OWN)] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("migrations")
                .join(folder);
            let mut files: Vec<_> = std::fs::read_dir(path)
                .expect("the folder")
                .map(|file| file.expect("a file").file_name().into_string().expect("UTF-8"))
                .collect();
            files.sort();
            let listed: Vec<_> = own
                .iter()
                .map(|(version, description, _): &Own| format!("{version:04}_{description}.sql"))
                .collect();
            assert_eq!(files, listed, "{folder}");
        }
    }
}
