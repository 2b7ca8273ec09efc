//! `headcount grants`: the SQL that gives a role the rights which the configuration needs, and no others; and what of it a
//! role lacks.
//!
//! The rights are those that `schema::resolve` asks for, so that `check` misses each of them, in the same words and order.

use std::fmt::{self, Write as _};

use super::schema::right::{connecting, grant, making_partitions, one_line, policy, quoted};
use super::schema::{Effect, GrantedRight, ResolvedSchema, TableRights};

/// The SQL.
pub(super) fn sql(resolved: &ResolvedSchema, role: &str) -> String {
    let role = quoted(role);
    let mut sql = format!(
        "-- The rights that the sidecar's role needs with this configuration. Run it as a superuser, or as the owner of the\n\
         -- tables, after `headcount migrate`, which the owner runs. The role itself is made by a superuser, or by a role with\n\
         -- CREATEROLE:\n\
         --   CREATE ROLE {role} LOGIN PASSWORD '…';\n"
    );
    let statements = resolved.needed.statements().into_iter();
    let rights = statements.map(|statement| statement.right);
    for right in [connecting(&resolved.database)].into_iter().chain(rights) {
        let _ = writeln!(sql, "{}", grant(&right, &role));
    }
    if resolved.has_own_partitions {
        sql.push_str(
            "-- Partitions of headcount.page_view are made by `headcount migrate`, to be run each month. Or the sidecar makes\n\
             -- them itself, after:\n",
        );
        for statement in making_partitions(&role) {
            let _ = writeln!(sql, "--   {statement}");
        }
        let _ = writeln!(
            sql,
            "-- as a superuser, who then also runs GRANT {role} TO the role that runs `headcount migrate`."
        );
    }
    let tables = resolved.needed.by_table();
    for table in tables.iter().filter(|table| table.row_security) {
        policies(table, &role, &mut sql);
    }
    sql
}

/// Row-level security hides rows from a role that has all rights.
fn policies(table: &TableRights, role: &str, sql: &mut String) {
    let name = table.name.to_string();
    let _ = writeln!(
        sql,
        "-- Row-level security of {} is on. Where no policy of the app covers the role:",
        one_line(&name)
    );
    for (privilege, _) in table.privileges() {
        let _ = writeln!(sql, "--   {}", policy(privilege.sql(), &name, role));
    }
}

/// Rights that the connection's role lacks: all of them, each once, in the order of `headcount grants`. Prints as what is
/// to be pasted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LackingRights {
    /// The role, quoted as SQL.
    role: String,
    /// Whole statements.
    grants: Vec<String>,
    /// Counters cannot be written without some of them.
    of_counters: bool,
}

impl LackingRights {
    pub(super) fn of(resolved: &ResolvedSchema) -> Self {
        let role = quoted(&resolved.user);
        let lacking = resolved.lacking.statements();
        let is_of_counters = |statement: &GrantedRight| statement.effects.contains(&Effect::Counters);
        Self {
            of_counters: lacking.iter().any(is_of_counters),
            grants: lacking
                .iter()
                .map(|statement| grant(&statement.right, &role))
                .collect(),
            role,
        }
    }

    /// Whether counters cannot be written without some of them, whatever else cannot be done.
    pub(super) fn keep_from_counting(&self) -> bool {
        self.of_counters
    }

    /// The same on one line, which ends with the statements; `None` where none is lacking.
    pub(super) fn sentence(&self) -> Option<String> {
        (!self.is_empty()).then(|| {
            let Self { role, grants, .. } = self;
            format!(
                "the database role {role} lacks rights; as a superuser, or as the owner of the tables, run: {}",
                grants.join(" ")
            )
        })
    }

    /// Whether none is lacking.
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty()
    }
}

impl fmt::Display for LackingRights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the database role {} lacks rights: as a superuser, or as the owner of the tables, run",
            self.role
        )?;
        self.grants.iter().try_for_each(|grant| write!(f, "\n{grant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema::right::{Effects, OWN};
    use crate::store::schema::{Dialect, Privilege, Right, Rights, TableName};

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
            effect: Effect::Other,
        }
    }

    fn needing(tables: Vec<Right>) -> ResolvedSchema {
        let schemas = tables
            .iter()
            .filter_map(|right| Some((right.table.schema.clone()?, Effects::from([Effect::Other]))));
        let needed = Rights {
            schemas: schemas.collect(),
            tables,
            own: Vec::new(),
        };
        ResolvedSchema {
            app: None,
            lacks_events: false,
            unindexed: Vec::new(),
            problems: Vec::new(),
            lacking: needed.clone(),
            ledger: None,
            needed,
            user: "owner".into(),
            database: "site".into(),
            read_only: false,
            has_own_partitions: false,
            session_trigger: false,
            site: None,
        }
    }

    #[test]
    fn d19_control_characters_of_names_stay_within_their_line() {
        let odd = "hidden\nDROP TABLE site;--\r\u{1b}[2J\u{2028}\u{202e}\\";
        let mut named = right(odd, Privilege::Select, &["id\n\"x"]);
        named.row_security = true;
        let resolved = ResolvedSchema {
            database: "site
DROP DATABASE site;--"
                .into(),
            ..needing(vec![named])
        };
        let text = sql(&resolved, "headcount\nALTER ROLE mallory SUPERUSER;--");
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
        let resolved = needing(vec![
            right("session", Privilege::Select, &["id", "user"]),
            right("hidden", Privilege::Select, &["id"]),
            right("session", Privilege::Update, &["pages"]),
            right("session", Privilege::Select, &["user", "pages"]),
        ]);
        let text = sql(&resolved, "the \"role\"");
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

    /// What several things need is one statement, and each of them knows that it lacks that.
    #[test]
    fn d20_each_part_knows_what_it_lacks_though_others_lack_it_too() {
        let of_counters = Right {
            effect: Effect::Counters,
            ..right("community", Privilege::Update, &["page_views"])
        };
        let mut resolved = needing(vec![right("community", Privilege::Select, &["slug"])]);
        assert!(!LackingRights::of(&resolved).keep_from_counting());
        resolved = needing(vec![
            of_counters.clone(),
            right("community", Privilege::Select, &["slug"]),
        ]);
        assert!(LackingRights::of(&resolved).keep_from_counting());
        let of_ledger = |resolved: &ResolvedSchema| resolved.lacking.of_ledger("\"sidecar\"");
        assert_eq!(of_ledger(&resolved), None);
        resolved
            .lacking
            .schemas
            .insert(OWN.into(), Effects::from([Effect::Ledger, Effect::Counters]));
        let ledger = of_ledger(&resolved).expect("it cannot be used").to_string();
        assert!(ledger.contains("USAGE ON SCHEMA"), "{ledger}");
        assert_eq!(resolved.lacking.statements().len(), 3, "two schemas, one table");
    }

    #[test]
    fn d20_what_is_lacking_is_printed_as_what_is_needed_and_prints_within_its_lines() {
        let mut resolved = needing(vec![right("session", Privilege::Select, &["id", "user"])]);
        resolved.user = "sidecar\nDROP".into();
        let lacking = LackingRights::of(&resolved).to_string();
        let (_, lacking) = lacking.split_once(" run\n").expect("statements");
        let printed = sql(&resolved, &resolved.user);
        let printed: Vec<_> = printed.lines().filter(|line| line.starts_with("GRANT")).collect();
        assert_eq!(
            lacking.lines().collect::<Vec<_>>(),
            printed[1..],
            "all but CONNECT"
        );
    }
}
