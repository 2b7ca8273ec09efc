//! `headcount grants`: the SQL that gives a role the rights which the configuration needs, and no others.
//!
//! The rights on the app's tables are those that `schema::resolve` asks for, so that `check` misses each of them; those on
//! the sidecar's own tables are listed here.

use std::fmt::Write as _;

use super::schema::{Dialect, Privilege, ResolvedSchema, Right, TableName};

/// Rights on the ledger.
const LEDGER: &[&str] = &[
    "USAGE ON SCHEMA headcount",
    "SELECT, INSERT, DELETE ON TABLE headcount.applied_batch",
    "SELECT ON TABLE headcount.format",
];

/// The SQL. `writes`: the configuration writes to the database, for which the ledger is needed.
pub(super) fn sql(resolved: &ResolvedSchema, role: &str, writes: bool) -> String {
    let quoted = |name: &str| Dialect::Postgres.quoted(name);
    let role = quoted(role);
    let mut sql = format!(
        "-- The rights that the sidecar's role needs with this configuration. Run it as a superuser, or as the owner of the\n\
         -- tables, after `headcount migrate`, which the owner runs. The role itself:\n\
         --   CREATE ROLE {role} LOGIN PASSWORD '…';\n"
    );
    let mut grant = |right: &str| {
        let _ = writeln!(sql, "GRANT {right} TO {role};");
    };
    grant(&format!("CONNECT ON DATABASE {}", quoted(&resolved.database)));
    let tables = by_table(&resolved.rights);
    for schema in schemas(&tables) {
        grant(&format!("USAGE ON SCHEMA {}", quoted(&schema)));
    }
    for table in &tables {
        let privileges: Vec<String> = table.privileges().collect();
        grant(&format!("{} ON TABLE {}", privileges.join(", "), table.name));
        for sequence in &table.sequences {
            grant(&format!("USAGE ON SEQUENCE {sequence}"));
        }
    }
    if writes {
        for right in LEDGER {
            grant(right);
        }
    }
    for table in tables.iter().filter(|table| table.row_security) {
        table.policies(&role, &mut sql);
    }
    sql
}

/// The rights on one table.
struct TableRights {
    name: TableName,
    /// In the order of [`PRIVILEGES`]; each with its columns.
    columns: [Vec<String>; 3],
    sequences: Vec<String>,
    row_security: bool,
}

const PRIVILEGES: [Privilege; 3] = [Privilege::Select, Privilege::Insert, Privilege::Update];

impl TableRights {
    /// Each as in a GRANT: `SELECT ("id", "slug")`.
    fn privileges(&self) -> impl Iterator<Item = String> {
        let named = PRIVILEGES.iter().zip(&self.columns);
        named
            .filter(|(_, columns)| !columns.is_empty())
            .map(|(privilege, columns)| {
                let columns: Vec<_> = columns
                    .iter()
                    .map(|column| Dialect::Postgres.quoted(column))
                    .collect();
                format!("{} ({})", privilege.sql(), columns.join(", "))
            })
    }

    /// Row-level security hides rows from a role that has all rights.
    fn policies(&self, role: &str, sql: &mut String) {
        let _ = writeln!(
            sql,
            "-- Row-level security of {} is on. Where no policy of the app covers the role:",
            self.name
        );
        for (privilege, _) in PRIVILEGES
            .iter()
            .zip(&self.columns)
            .filter(|(_, columns)| !columns.is_empty())
        {
            let (command, condition) = match privilege {
                Privilege::Insert => ("INSERT", "WITH CHECK"),
                Privilege::Select => ("SELECT", "USING"),
                Privilege::Update => ("UPDATE", "USING"),
            };
            let _ = writeln!(
                sql,
                "--   CREATE POLICY headcount_{} ON {} FOR {command} TO {role} {condition} (true);",
                command.to_lowercase(),
                self.name
            );
        }
    }
}

/// The rights by table, in the order in which tables come first.
fn by_table(rights: &[Right]) -> Vec<TableRights> {
    let mut tables: Vec<TableRights> = Vec::new();
    for right in rights {
        let known = tables.iter().position(|table| table.name == right.table);
        let place = known.unwrap_or(tables.len());
        if known.is_none() {
            tables.push(TableRights {
                name: right.table.clone(),
                columns: Default::default(),
                sequences: Vec::new(),
                row_security: right.row_security,
            });
        }
        let table = &mut tables[place];
        let kind = match right.privilege {
            Privilege::Select => 0,
            Privilege::Insert => 1,
            Privilege::Update => 2,
        };
        add(&mut table.columns[kind], &right.columns);
        add(&mut table.sequences, &right.sequences);
    }
    tables
}

fn add(to: &mut Vec<String>, names: &[String]) {
    for name in names {
        if !to.contains(name) {
            to.push(name.clone());
        }
    }
}

fn schemas(tables: &[TableRights]) -> Vec<String> {
    let mut schemas: Vec<String> = tables
        .iter()
        .filter_map(|table| table.name.schema.clone())
        .collect();
    schemas.sort();
    schemas.dedup();
    schemas
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(table: &str, privilege: Privilege, columns: &[&str]) -> Right {
        Right {
            table: TableName {
                dialect: Dialect::Postgres,
                schema: Some("public".into()),
                name: table.into(),
            },
            privilege,
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
            sequences: Vec::new(),
            row_security: table == "hidden",
        }
    }

    #[test]
    fn each_table_has_one_grant_of_columns() {
        let resolved = ResolvedSchema {
            app: None,
            lacks_events: false,
            unindexed: Vec::new(),
            problems: Vec::new(),
            rights: vec![
                right("session", Privilege::Select, &["id", "user"]),
                right("hidden", Privilege::Select, &["id"]),
                right("session", Privilege::Update, &["pages"]),
                right("session", Privilege::Select, &["user", "pages"]),
            ],
            database: "site".into(),
            read_only: false,
            session_trigger: false,
        };
        let text = sql(&resolved, "the \"role\"", false);
        let grants: Vec<_> = text.lines().filter(|line| line.starts_with("GRANT")).collect();
        assert_eq!(
            grants,
            [
                r#"GRANT CONNECT ON DATABASE "site" TO "the ""role""";"#,
                r#"GRANT USAGE ON SCHEMA "public" TO "the ""role""";"#,
                r#"GRANT SELECT ("id", "user", "pages"), UPDATE ("pages") ON TABLE "public"."session" TO "the ""role""";"#,
                r#"GRANT SELECT ("id") ON TABLE "public"."hidden" TO "the ""role""";"#,
            ]
        );
        assert!(text.contains(
            r#"--   CREATE POLICY headcount_select ON "public"."hidden" FOR SELECT TO "the ""role""" USING (true);"#
        ));
    }
}
