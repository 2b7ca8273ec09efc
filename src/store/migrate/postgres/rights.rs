//! What the role that migrates lacks: whose tables they are, and what could be granted instead.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use crate::config::Config;
use crate::from_row::from_row;
use crate::printable::joined;
use crate::store::operations::Backend as _;
use crate::store::postgres::introspect::{in_schema, split};
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
    remedy(connection, tables, foreign).await
}

/// The same, where `foreign` is what belongs to other roles.
async fn remedy(
    connection: &mut PgConnection,
    tables: [&String; 2],
    foreign: Vec<Foreign>,
) -> Result<Vec<String>, sqlx::Error> {
    let owners = by_owner(foreign);
    if let [(owner, objects)] = &*owners
        && objects.iter().all(|object| is_part(object))
    {
        // Their schema, or the table that they are partitions of, is this role's, or would be among them.
        let membership = membership(connection, owner).await?;
        let is_one = objects.len() == 1 && !objects[0].starts_with(PARTITIONS);
        let verb = if is_one { "belongs" } else { "belong" };
        return Ok(vec![format!(
            "{} {verb} to role {}, and the rest to this one; as a superuser run: {membership}",
            objects.join(" and "),
            quoted(owner)
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

/// How partitions of one of the app's tables are, however many there are.
const PARTITIONS: &str = "partitions of table ";

/// Whether whoever has it may have nothing of what it is a part of.
fn is_part(object: &str) -> bool {
    object.starts_with(OWN_TABLE) || object.starts_with(PARTITIONS)
}

/// Why the role may not change the app's tables, as [`lacking`]; `None` where they are its own.
pub(super) async fn refusal(
    connection: &mut PgConnection,
    config: &Config,
) -> Result<Option<String>, sqlx::Error> {
    let names = Requirements::new(config, Postgres::OWN_EVENTS).names;
    let tables = [&names.event.table, &names.session.table];
    let foreign = foreign(connection, tables).await?;
    if foreign.is_empty() {
        return Ok(None);
    }
    Ok(Some(joined(&remedy(connection, tables, foreign).await?)))
}

/// The statements after which the connection's role has the rights of `owner`, without SET ROLE.
async fn membership(connection: &mut PgConnection, owner: &str) -> Result<String, sqlx::Error> {
    // Since version 16 the membership says whether rights are inherited, before that the role does.
    let (user, inherits, has_option): (String, bool, bool) = sqlx::query_as(
        "SELECT rolname::text, rolinherit, current_setting('server_version_num')::int >= 160000
         FROM pg_catalog.pg_roles WHERE rolname = current_user",
    )
    .fetch_one(connection)
    .await?;
    let (owner, user) = (quoted(owner), quoted(&user));
    Ok(match (has_option, inherits) {
        (true, _) => format!("GRANT {owner} TO {user} WITH INHERIT TRUE;"),
        (false, true) => format!("GRANT {owner} TO {user};"),
        (false, false) => format!("ALTER ROLE {user} INHERIT; GRANT {owner} TO {user};"),
    })
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
    let in_schema = in_schema("$1");
    for name in tables {
        let (schema, name) = split(name);
        let sql = format!(
            "SELECT format('table %I.%I', n.nspname, c.relname) AS object, pg_get_userbyid(c.relowner)::text AS owner
             {OF_TABLE} AND {in_schema} AND NOT pg_has_role(c.relowner, 'USAGE')"
        );
        // Indexes are made on each partition.
        let of_partitions = format!(
            "SELECT DISTINCT '{PARTITIONS}' || named.title AS object, pg_get_userbyid(part.relowner)::text AS owner
             FROM (SELECT c.oid, c.relowner, format('%I.%I', n.nspname, c.relname) AS title {OF_TABLE} AND {in_schema}) AS named,
                  LATERAL pg_partition_tree(named.oid) AS tree JOIN pg_catalog.pg_class AS part ON part.oid = tree.relid
             WHERE part.relkind IN ('r', 'p') AND part.relowner <> named.relowner AND NOT pg_has_role(part.relowner, 'USAGE')
             ORDER BY 1, 2"
        );
        for sql in [sql, of_partitions] {
            let owner = sqlx::query_as(AssertSqlSafe(sql)).bind(schema).bind(name);
            foreign.extend(owner.fetch_all(&mut *connection).await?);
        }
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
        "SELECT format('GRANT CREATE ON DATABASE %I TO %I;', current_database(), role.name)
         FROM (SELECT coalesce($1::name, current_user) AS name) AS role
         WHERE to_regnamespace('headcount') IS NULL
           AND NOT has_database_privilege(role.name, current_database()::text, 'CREATE')",
    )
    .bind(role)
    .fetch_all(&mut *connection)
    .await?;
    let in_schema = in_schema("$1");
    for name in tables {
        let (schema, name) = split(name);
        // An index is made in its table's schema.
        let sql = format!(
            "SELECT format('GRANT USAGE, CREATE ON SCHEMA %I TO %I;', found.nspname, role.name)
             FROM (SELECT n.oid, n.nspname {OF_TABLE} AND {in_schema}) AS found,
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
            "run headcount migrate as role {}, the owner of {}",
            quoted(owner),
            objects.join(" and ")
        )),
        several => {
            let of = |(owner, objects): &(String, Vec<String>)| {
                format!("{} (owner of {})", quoted(owner), objects.join(" and "))
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
