//! What the role that migrates lacks: whose tables they are, and what could be granted instead.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use crate::config::Config;
use crate::from_row::from_row;
use crate::store::operations::Backend as _;
use crate::store::postgres::introspect::{NAMED, split};
use crate::store::schema::Requirements;
use crate::store::schema::right::quoted;

/// Something that is changed, of another role.
struct Foreign {
    object: String,
    owner: String,
}

from_row!(PgRow => Foreign { object, owner });

/// One remedy, in the order in which it is done: what is granted to the role that is to migrate, then, where that is another
/// than the connection's, which it is. None where the role has every right that migrating needs.
pub(super) async fn lacking(
    connection: &mut PgConnection,
    config: &Config,
) -> Result<Vec<String>, sqlx::Error> {
    let names = Requirements::new(config, Postgres::OWN_EVENTS).names;
    let tables = [&names.event.table, &names.session.table];
    let foreign = foreign(connection, tables).await?;
    let owners = by_owner(foreign);
    if let [(owner, objects)] = &*owners
        && objects.iter().all(|object| object.starts_with(OWN_TABLE))
    {
        // The schema is this role's, or would be among them.
        let user: String = sqlx::query_scalar("SELECT current_user::text")
            .fetch_one(&mut *connection)
            .await?;
        let membership = format!("GRANT {} TO {}", quoted(owner), quoted(&user));
        let objects = objects.join(" and ");
        return Ok(vec![format!(
            "as a superuser run {membership}: {objects} belongs to that role, and schema headcount to this one"
        )]);
    }
    let mut sentences = match &*owners {
        [] => lacking_of(connection, tables, None).await?,
        [(owner, _)] => lacking_of(connection, tables, Some(owner)).await?,
        // Who migrates then is for the operator to choose.
        _ => Vec::new(),
    };
    sentences.extend(as_owner(&owners));
    Ok(sentences)
}

/// How the sidecar's own tables are named among what is changed.
const OWN_TABLE: &str = "table headcount.";

/// Why the role may not change the app's tables, as [`lacking`]; `None` where they are its own.
pub(super) async fn refusal(
    connection: &mut PgConnection,
    config: &Config,
) -> Result<Option<String>, sqlx::Error> {
    let names = Requirements::new(config, Postgres::OWN_EVENTS).names;
    let foreign = foreign(connection, [&names.event.table, &names.session.table]).await?;
    if foreign.is_empty() {
        return Ok(None);
    }
    Ok(Some(lacking(connection, config).await?.join("; ")))
}

/// What of that which is changed belongs to roles of which the connection's is no member.
async fn foreign(connection: &mut PgConnection, tables: [&String; 2]) -> Result<Vec<Foreign>, sqlx::Error> {
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
    for name in tables {
        let (schema, name) = split(name);
        let sql = format!(
            "SELECT format('table %I.%I', n.nspname, c.relname) AS object, pg_get_userbyid(c.relowner)::text AS owner
             {OF_TABLE} AND {NAMED} AND NOT pg_has_role(c.relowner, 'USAGE')"
        );
        let owner = sqlx::query_as(AssertSqlSafe(sql)).bind(schema).bind(name);
        foreign.extend(owner.fetch_all(&mut *connection).await?);
    }
    Ok(foreign)
}

/// SQL: the app's table with the name $2.
const OF_TABLE: &str = "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relname = $2 AND c.relkind IN ('r', 'p') AND n.nspname <> 'headcount'";

/// The GRANTs without which a role cannot migrate, though the tables are its own; `None` is the connection's role.
async fn lacking_of(
    connection: &mut PgConnection,
    tables: [&String; 2],
    role: Option<&str>,
) -> Result<Vec<String>, sqlx::Error> {
    let mut grants: Vec<String> = sqlx::query_scalar(
        "SELECT format('GRANT CREATE ON DATABASE %I TO %I', current_database(), role.name)
         FROM (SELECT coalesce($1::name, current_user) AS name) AS role
         WHERE to_regnamespace('headcount') IS NULL
           AND NOT has_database_privilege(role.name, current_database()::text, 'CREATE')",
    )
    .bind(role)
    .fetch_all(&mut *connection)
    .await?;
    for name in tables {
        let (schema, name) = split(name);
        // An index is made in its table's schema.
        let sql = format!(
            "SELECT format('GRANT USAGE, CREATE ON SCHEMA %I TO %I', found.nspname, role.name)
             FROM (SELECT n.oid, n.nspname {OF_TABLE} AND {NAMED}) AS found,
                  (SELECT coalesce($3::name, current_user) AS name) AS role
             WHERE NOT (has_schema_privilege(role.name, found.oid, 'USAGE')
                        AND has_schema_privilege(role.name, found.oid, 'CREATE'))"
        );
        let usage = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(schema)
            .bind(name)
            .bind(role);
        grants.extend(usage.fetch_all(&mut *connection).await?);
    }
    grants.dedup();
    Ok(grants)
}

/// The objects of each owner.
fn by_owner(foreign: Vec<Foreign>) -> Vec<(String, Vec<String>)> {
    let mut owners: Vec<(String, Vec<String>)> = Vec::new();
    for Foreign { object, owner } in foreign {
        match owners.iter_mut().find(|(known, _)| *known == owner) {
            Some((_, objects)) if objects.contains(&object) => {}
            Some((_, objects)) => objects.push(object),
            None => owners.push((owner, vec![object])),
        }
    }
    owners
}

/// Who may do it.
fn as_owner(owners: &[(String, Vec<String>)]) -> Option<String> {
    match owners {
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
        let as_owner = |foreign| as_owner(&by_owner(foreign));
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
