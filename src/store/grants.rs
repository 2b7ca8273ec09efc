//! `headcount grants`: the SQL that gives a role the rights which the configuration needs, and no others.
//!
//! The rights on the app's tables are those that `schema::resolve` asks for, so that `check` misses each of them; those on
//! the sidecar's own tables are listed here.

use std::fmt::Write as _;

use super::ledger::RIGHTS;
use super::schema::right::{
    OF_COUNTERS, connecting, grant, making_partitions, on_columns, on_own_tables, one_line, policy, quoted,
    usage_of_schema, usage_of_sequence,
};
use super::schema::{Privilege, ResolvedSchema, Right, TableName};

/// The SQL. `counts`: counters are kept. `writes`: the configuration writes to the database, for which the ledger is needed.
pub(super) fn sql(resolved: &ResolvedSchema, role: &str, writes: bool, counts: bool) -> String {
    let role = quoted(role);
    let mut sql = format!(
        "-- The rights that the sidecar's role needs with this configuration. Run it as a superuser, or as the owner of the\n\
         -- tables, after `headcount migrate`, which the owner runs. The role itself:\n\
         --   CREATE ROLE {role} LOGIN PASSWORD '…';\n"
    );
    let mut give = |right: &str| {
        let _ = writeln!(sql, "{};", grant(right, &role));
    };
    give(&connecting(&resolved.database));
    let tables = by_table(&resolved.rights);
    for schema in schemas(&tables) {
        give(&usage_of_schema(&schema));
    }
    for table in &tables {
        give(&on_columns(table.privileges(), &table.name));
        for sequence in &table.sequences {
            give(&usage_of_sequence(sequence));
        }
    }
    if writes {
        for right in RIGHTS {
            give(right);
        }
    }
    if counts {
        if !writes {
            give(RIGHTS[0]);
            give(RIGHTS[2]);
        }
        for (privileges, tables) in OF_COUNTERS {
            give(&on_own_tables(privileges, tables));
        }
    }
    if resolved.has_own_partitions {
        sql.push_str(
            "-- Partitions of headcount.page_view are made by `headcount migrate`, to be run each month. Or the sidecar makes\n\
             -- them itself, after:\n",
        );
        for statement in making_partitions(&role) {
            let _ = writeln!(sql, "--   {statement};");
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
    /// Those of which there are columns.
    fn privileges(&self) -> impl Iterator<Item = (Privilege, &[String])> {
        let columns = self.columns.iter().map(Vec::as_slice);
        let named = PRIVILEGES.into_iter().zip(columns);
        named.filter(|(_, columns)| !columns.is_empty())
    }

    /// Row-level security hides rows from a role that has all rights.
    fn policies(&self, role: &str, sql: &mut String) {
        let _ = writeln!(
            sql,
            "-- Row-level security of {} is on. Where no policy of the app covers the role:",
            one_line(&self.name.to_string())
        );
        let table = self.name.to_string();
        for (privilege, _) in self.privileges() {
            let _ = writeln!(sql, "--   {};", policy(privilege.sql(), &table, role));
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
    use crate::store::schema::Dialect;

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
    fn d19_control_characters_of_names_stay_within_their_line() {
        let odd = "hidden\nDROP TABLE site;--\r\u{1b}[2J\u{2028}\u{202e}\\";
        let mut named = right(odd, Privilege::Select, &["id\n\"x"]);
        named.row_security = true;
        let resolved = ResolvedSchema {
            app: None,
            lacks_events: false,
            unindexed: Vec::new(),
            problems: Vec::new(),
            rights: vec![named],
            has_own_partitions: false,
            user: String::new(),
            database: "site\nDROP DATABASE site;--".into(),
            read_only: false,
            session_trigger: false,
        };
        let text = sql(
            &resolved,
            "headcount\nALTER ROLE mallory SUPERUSER;--",
            false,
            false,
        );
        for line in text.lines() {
            assert!(line.starts_with("-- ") || line.starts_with("GRANT "), "{line:?}");
            assert!(
                !line.contains(|c: char| c.is_control() || "\u{2028}\u{202e}".contains(c)),
                "{line:?}"
            );
        }
        assert!(
            text.contains(
                r#"SELECT (U&"id\+00000A""x") ON TABLE U&"public".U&"hidden\+00000ADROP TABLE site;--"#
            ),
            "{text}"
        );
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
            user: "owner".into(),
            database: "site".into(),
            read_only: false,
            has_own_partitions: false,
            session_trigger: false,
        };
        let text = sql(&resolved, "the \"role\"", false, false);
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
