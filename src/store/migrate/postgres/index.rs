//! Builds indexes on the app's tables while the app goes on writing.
//!
//! An index of a partitioned table cannot be built `CONCURRENTLY`. It is made on the parent alone, where it holds no
//! rows, then on each partition concurrently, and these are attached; with the last one it becomes valid. Partitions
//! that are made later get theirs from the parent by themselves. What an interrupted build left is recognised by the
//! catalogue, so running again goes on: an index that is attached stays, one that is not is built anew.
//!
//! An index that takes the place of one of other columns, or built from another statement, is built beside it, under another name. Then both are renamed at
//! once, and the former one goes: there is always one that statements can use. What an interrupted run left of either is
//! dropped by the next.

use std::collections::HashMap;

use sqlx::postgres::PgRow;
use sqlx::postgres::types::Oid;
use sqlx::{AssertSqlSafe, PgConnection};

use super::{execute, execute_briefly, forget, record, recorded};
use crate::from_row::from_row;
use crate::store::event_indexes::is_of;
use crate::store::migrate::{Addition, MigrateError, Step};
use crate::store::postgres::event_index::COLUMNS;

/// A step, and how to run it.
struct Planned {
    step: Step,
    /// It needs a lock that the app's writers would queue behind, so it is given up soon.
    is_brief: bool,
}

/// Builds an index that is missing, that an interrupted build left invalid, or that was built from another
/// statement. Steps done are added to `done`.
pub(super) async fn add(
    connection: &mut PgConnection,
    addition: &Addition,
    dry_run: bool,
    done: &mut Vec<Step>,
) -> Result<(), MigrateError> {
    let recorded = recorded(connection, addition.name).await?;
    let indexes = indexes(connection, &addition.table).await?;
    let tables = tables(connection, &addition.table).await?;
    let root = tables.iter().find(|table| table.parent.is_none());
    let of_root = |name: &str| {
        let is_it =
            |index: &&Index| root.is_some_and(|root| index.table == root.oid) && index.bare_name == name;
        indexes.iter().find(is_it)
    };
    let own = of_root(addition.name);
    let [new, former] = names_meanwhile(addition);
    // What is recorded is not always what is there: whoever built it may not have come to recording it.
    let has_other_words = recorded.as_ref().is_some_and(|words| *words != addition.create)
        || own.is_some_and(|own| !is_of(own.columns.as_deref(), &addition.columns));
    let is_partitioned = root.is_some_and(|root| root.is_partitioned);

    let replaced = own.filter(|own| has_other_words && (own.is_valid || is_partitioned));
    let name = if replaced.is_some() { &*new } else { addition.name };

    let elsewhere = elsewhere(connection, addition).await?;
    let elsewhere = elsewhere
        .iter()
        .map(|(name, is_partitioned)| drop_named(addition, name, *is_partitioned));
    let left = [of_root(&new), of_root(&former)].into_iter().flatten();
    let left = left.map(|left| drop_index(addition, left, is_partitioned));
    let mut plan: Vec<Planned> = elsewhere.chain(left).collect();
    match own {
        Some(own) if own.is_valid && !has_other_words && recorded.is_some() && plan.is_empty() => {
            return Ok(());
        }
        // Built; perhaps the process ended before it was recorded.
        Some(own) if own.is_valid && !has_other_words => {}
        _ if is_partitioned => plan.extend(on_partitions(addition, name, &tables, &indexes, own)),
        own => {
            let invalid = own.filter(|own| !own.is_valid);
            plan.extend(invalid.map(|own| drop_index(addition, own, false)));
            let mut create = addition.step("index");
            // The index is known to be missing; with IF NOT EXISTS, another object of its name would pass for it.
            let of_template = format!(" IF NOT EXISTS {}", addition.name);
            create.sql = create.sql.replacen(&of_template, &format!(" {name}"), 1);
            plan.push(concurrently(create));
        }
    }
    let former = root.zip(replaced).map(|(root, own)| {
        let sql = format!(
            "ALTER INDEX {} RENAME TO {former};\nALTER INDEX {}.{new} RENAME TO {}",
            own.name, root.schema, addition.name
        );
        let title = format!("index {}: the new one in the place of the former", addition.name);
        plan.push(briefly(Step::new(title, sql)));
        drop_named(addition, &format!("{}.{former}", root.schema), is_partitioned)
    });
    run(connection, plan, dry_run, done).await?;
    if !dry_run {
        record(connection, addition).await?;
    }
    run(connection, former, dry_run, done).await
}

/// Drops an index that is no longer wanted, with what an interrupted build of it left, on partitions, too: of these whatever
/// is attached goes with what it is attached to. Steps done are added to `done`.
pub(super) async fn remove(
    connection: &mut PgConnection,
    addition: &Addition,
    dry_run: bool,
    done: &mut Vec<Step>,
) -> Result<(), MigrateError> {
    let tables = tables(connection, &addition.table).await?;
    let [new, former] = names_meanwhile(addition);
    let names = [addition.name, &new, &former];
    let here = indexes(connection, &addition.table).await?;
    let here = here.iter().filter_map(|index| {
        let table = tables.iter().find(|table| table.oid == index.table)?;
        let is_it = match table.parent {
            None => names.contains(&&*index.bare_name),
            Some(_) => {
                index.parent.is_none() && names_of_partition(addition, table).contains(&index.bare_name)
            }
        };
        is_it.then_some((&index.name, table.is_partitioned))
    });
    let elsewhere = elsewhere(connection, addition).await?;
    let elsewhere = elsewhere
        .iter()
        .map(|(name, is_partitioned)| (name, *is_partitioned));
    let dropped = here.chain(elsewhere).map(|(name, is_partitioned)| {
        let mut dropped = drop_named(addition, name, is_partitioned);
        dropped.step.title = format!("index {}: no longer wanted", addition.name);
        dropped
    });
    run(connection, dropped, dry_run, done).await?;
    if !dry_run && recorded(connection, addition.name).await?.is_some() {
        forget(connection, addition.name).await?;
    }
    Ok(())
}

/// Runs what is planned, and adds it to `done`.
async fn run(
    connection: &mut PgConnection,
    plan: impl IntoIterator<Item = Planned>,
    dry_run: bool,
    done: &mut Vec<Step>,
) -> Result<(), MigrateError> {
    for Planned { step, is_brief } in plan {
        match (dry_run, is_brief) {
            (true, _) => {}
            (false, true) => execute_briefly(connection, &step).await?,
            (false, false) => execute(connection, &step).await?,
        }
        done.push(step);
    }
    Ok(())
}

/// The names of an index until it takes the place of another, and of that other from then on.
fn names_meanwhile(addition: &Addition) -> [String; 2] {
    ["new", "former"].map(|which| format!("{}_{which}", addition.name))
}

/// The names of the index of a partition: two, so that one can be built beside the other.
fn names_of_partition(addition: &Addition, table: &Table) -> [String; 2] {
    ["", "_2"].map(|second| format!("{}_{}{second}", addition.name, table.oid.0))
}

/// The steps for a partitioned table, from the parent, whose index has the name `of_root`, to the partitions of partitions.
/// Under another name than that of the index that is there, `own`, all are built beside it.
fn on_partitions(
    addition: &Addition,
    of_root: &str,
    tables: &[Table],
    indexes: &[Index],
    own: Option<&Index>,
) -> Vec<Planned> {
    let mut plan = Vec::new();
    let kept = own.filter(|own| own.bare_name == of_root);
    let is_of_own = |index: &Index| own.is_some_and(|own| is_attached(index, own, indexes));
    // For each partitioned table: its index, in SQL, and the index' id if it existed before.
    let mut parents: HashMap<u32, (String, Option<Oid>)> = HashMap::new();
    for table in tables {
        let title = |what: &str| format!("index {}{what} {}", addition.name, table.name);
        let above = table.parent.and_then(|parent| parents.get(&parent.0).cloned());
        let of_table = || indexes.iter().filter(|index| index.table == table.oid);
        let names = names_of_partition(addition, table);
        let is_taken = |name: &str| of_table().any(|index| index.bare_name == name && is_of_own(index));
        let bare = match &above {
            None => of_root,
            Some(_) if is_taken(&names[0]) => &names[1],
            Some(_) => &names[0],
        };
        let name = format!("{}.{bare}", table.schema);
        let there = match &above {
            None => kept,
            Some((_, parent)) => {
                let attached = |index: &&Index| parent.is_some() && index.parent == *parent;
                of_table().find(attached)
            }
        };
        if let Some(there) = there {
            parents.insert(table.oid.0, (there.name.clone(), Some(there.oid)));
            continue;
        }
        // One that is attached goes with what it is attached to.
        let is_left =
            |index: &&Index| above.is_some() && names.contains(&index.bare_name) && index.parent.is_none();
        let left = of_table().filter(is_left);
        plan.extend(left.map(|left| drop_index(addition, left, table.is_partitioned)));
        let columns = &addition.columns;
        if table.is_partitioned {
            let sql = format!("CREATE INDEX {bare} ON ONLY {} {columns}", table.name);
            plan.push(briefly(Step::new(title(" on the partitioned"), sql)));
            parents.insert(table.oid.0, (name.clone(), None));
        } else {
            let sql = format!("CREATE INDEX CONCURRENTLY {bare} ON {} {columns}", table.name);
            plan.push(concurrently(Step::new(title(" on"), sql)));
        }
        if let Some((parent, _)) = above {
            let sql = format!("ALTER INDEX {parent} ATTACH PARTITION {name}");
            plan.push(briefly(Step::new(title(": attach that on"), sql)));
        }
    }
    plan
}

/// Whether an index is attached to that of the root, directly or not.
fn is_attached(index: &Index, root: &Index, indexes: &[Index]) -> bool {
    let above = |index: &&Index| indexes.iter().find(|other| Some(other.oid) == index.parent);
    std::iter::successors(Some(index), above).any(|index| index.oid == root.oid)
}

fn drop_index(addition: &Addition, index: &Index, is_partitioned: bool) -> Planned {
    drop_named(addition, &index.name, is_partitioned)
}

fn drop_named(addition: &Addition, name: &str, is_partitioned: bool) -> Planned {
    let title = format!("index {}: the former one", addition.name);
    if is_partitioned {
        return briefly(Step::new(title, format!("DROP INDEX IF EXISTS {name}")));
    }
    concurrently(Step::new(
        title,
        format!("DROP INDEX CONCURRENTLY IF EXISTS {name}"),
    ))
}

fn briefly(step: Step) -> Planned {
    let is_brief = true;
    Planned { step, is_brief }
}

fn concurrently(step: Step) -> Planned {
    let is_brief = false;
    Planned { step, is_brief }
}

/// A table, or one of its partitions; names as in SQL.
struct Table {
    oid: Oid,
    /// Within the tree; `None` for its root.
    parent: Option<Oid>,
    schema: String,
    name: String,
    is_partitioned: bool,
}

from_row!(PgRow => Table { oid, parent, schema, name, is_partitioned });

/// The table and its partitions, each after the one it is a partition of. Foreign tables have no indexes.
async fn tables(connection: &mut PgConnection, table: &str) -> Result<Vec<Table>, sqlx::Error> {
    sqlx::query_as(
        "WITH RECURSIVE tree AS (
             SELECT to_regclass($1)::oid AS oid, NULL::oid AS parent, 0 AS level
             UNION ALL
             SELECT i.inhrelid, i.inhparent, tree.level + 1
             FROM tree
             JOIN pg_catalog.pg_class p ON p.oid = tree.oid AND p.relkind = 'p'
             JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid
         )
         SELECT tree.oid, tree.parent, quote_ident(n.nspname) AS schema,
                format('%I.%I', n.nspname, c.relname) AS name, c.relkind = 'p' AS is_partitioned
         FROM tree
         JOIN pg_catalog.pg_class c ON c.oid = tree.oid
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p')
         ORDER BY tree.level, c.oid",
    )
    .bind(table)
    .fetch_all(connection)
    .await
}

/// The indexes of its names on the table that was configured before, and whether that table is partitioned.
async fn elsewhere(
    connection: &mut PgConnection,
    addition: &Addition,
) -> Result<Vec<(String, bool)>, sqlx::Error> {
    let [new, former] = names_meanwhile(addition);
    sqlx::query_as(
        "SELECT format('%I.%I', n.nspname, c.relname), c.relkind = 'I'
         FROM pg_catalog.pg_class t
         JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
         JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = ANY ($2) AND c.relkind IN ('i', 'I')
         JOIN pg_catalog.pg_index x ON x.indexrelid = c.oid AND x.indrelid <> t.oid
         WHERE t.oid = to_regclass($1)",
    )
    .bind(&addition.table)
    .bind([addition.name, &new, &former])
    .fetch_all(connection)
    .await
}

struct Index {
    oid: Oid,
    table: Oid,
    /// The index that it is attached to.
    parent: Option<Oid>,
    bare_name: String,
    /// As in SQL.
    name: String,
    is_valid: bool,
    /// What it is of, in the server's words.
    columns: Option<String>,
}

from_row!(PgRow => Index { oid, table, parent, bare_name, name, is_valid, columns });

/// The indexes of the table and of its partitions.
async fn indexes(connection: &mut PgConnection, table: &str) -> Result<Vec<Index>, sqlx::Error> {
    let sql = format!(
        "WITH RECURSIVE tree AS (
             SELECT to_regclass($1)::oid AS oid
             UNION ALL
             SELECT i.inhrelid
             FROM tree
             JOIN pg_catalog.pg_class p ON p.oid = tree.oid AND p.relkind = 'p'
             JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid
         )
         SELECT c.oid, x.indrelid AS table, h.inhparent AS parent, c.relname::text AS bare_name,
                format('%I.%I', n.nspname, c.relname) AS name, x.indisvalid AS is_valid,
                {COLUMNS} AS columns
         FROM tree
         JOIN pg_catalog.pg_index x ON x.indrelid = tree.oid
         JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         LEFT JOIN pg_catalog.pg_inherits h ON h.inhrelid = c.oid"
    );
    sqlx::query_as(AssertSqlSafe(sql))
        .bind(table)
        .fetch_all(connection)
        .await
}
