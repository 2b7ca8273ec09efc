//! What the role that migrates lacks: whose tables they are, and what could be granted instead.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use crate::config::Config;
use crate::from_row::from_row;
use crate::store::operations::Backend as _;
use crate::store::postgres::introspect::{NAMED, split};
use crate::store::schema::Requirements;

/// Something that is changed, of another role.
struct Foreign {
    object: String,
    owner: String,
}

from_row!(PgRow => Foreign { object, owner });

/// Sentences with what to do; none where the role has every right that migrating needs.
pub(super) async fn lacking(
    connection: &mut PgConnection,
    config: &Config,
) -> Result<Vec<String>, sqlx::Error> {
    let names = Requirements::new(config, Postgres::OWN_EVENTS).names;
    let mut foreign: Vec<Foreign> = sqlx::query_as(
        "SELECT 'schema headcount' AS object, pg_get_userbyid(nspowner)::text AS owner
         FROM pg_catalog.pg_namespace WHERE nspname = 'headcount' AND NOT pg_has_role(nspowner, 'USAGE')
         UNION ALL
         SELECT format('table %I.%I', n.nspname, c.relname), pg_get_userbyid(c.relowner)::text
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'headcount' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
           AND c.relowner <> n.nspowner AND NOT pg_has_role(c.relowner, 'USAGE')",
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut sentences: Vec<String> = sqlx::query_scalar(
        "SELECT format('GRANT CREATE ON DATABASE %I TO %I', current_database(), current_user)
         WHERE to_regnamespace('headcount') IS NULL AND NOT has_database_privilege(current_database(), 'CREATE')",
    )
    .fetch_all(&mut *connection)
    .await?;
    for name in [&names.event.table, &names.session.table] {
        let (schema, name) = split(name);
        let of_table = format!(
            "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relname = $2 AND c.relkind IN ('r', 'p') AND n.nspname <> 'headcount' AND {NAMED}"
        );
        let owner = format!(
            "SELECT format('table %I.%I', n.nspname, c.relname) AS object, pg_get_userbyid(c.relowner)::text AS owner
             {of_table} AND NOT pg_has_role(c.relowner, 'USAGE')"
        );
        let owner = sqlx::query_as(AssertSqlSafe(owner)).bind(schema).bind(name);
        foreign.extend(owner.fetch_all(&mut *connection).await?);
        // An index is made in its table's schema.
        let usage = format!(
            "SELECT format('GRANT USAGE, CREATE ON SCHEMA %I TO %I', n.nspname, current_user) {of_table}
             AND pg_has_role(c.relowner, 'USAGE')
             AND NOT (has_schema_privilege(n.oid, 'USAGE') AND has_schema_privilege(n.oid, 'CREATE'))"
        );
        let usage = sqlx::query_scalar(AssertSqlSafe(usage)).bind(schema).bind(name);
        sentences.extend(usage.fetch_all(&mut *connection).await?);
    }
    sentences.dedup();
    sentences.extend(as_owner(foreign));
    Ok(sentences)
}

/// Who may do it.
fn as_owner(foreign: Vec<Foreign>) -> Option<String> {
    let mut owners: Vec<(String, Vec<String>)> = Vec::new();
    for Foreign { object, owner } in foreign {
        match owners.iter_mut().find(|(known, _)| *known == owner) {
            Some((_, objects)) if objects.contains(&object) => {}
            Some((_, objects)) => objects.push(object),
            None => owners.push((owner, vec![object])),
        }
    }
    match &*owners {
        [] => None,
        [(owner, objects)] => Some(format!(
            "run headcount migrate as role \"{owner}\", the owner of {}",
            objects.join(" and ")
        )),
        several => {
            let of = |(owner, objects): &(String, Vec<String>)| {
                format!("\"{owner}\" (owner of {})", objects.join(" and "))
            };
            let owners: Vec<_> = several.iter().map(of).collect();
            Some(format!(
                "run headcount migrate as a superuser, or as a role that is a member of {}",
                owners.join(" and ")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d8_the_owner_of_each_object_is_named_once() {
        let foreign = |object: &str, owner: &str| Foreign {
            object: object.into(),
            owner: owner.into(),
        };
        assert_eq!(as_owner(Vec::new()), None);
        let of_one = vec![
            foreign("table a", "site"),
            foreign("table a", "site"),
            foreign("table b", "site"),
        ];
        assert_eq!(
            as_owner(of_one).as_deref(),
            Some("run headcount migrate as role \"site\", the owner of table a and table b")
        );
        let of_two = vec![foreign("schema headcount", "admin"), foreign("table a", "site")];
        assert_eq!(
            as_owner(of_two).as_deref(),
            Some(
                "run headcount migrate as a superuser, or as a role that is a member of \"admin\" (owner of schema \
                 headcount) and \"site\" (owner of table a)"
            )
        );
    }
}
