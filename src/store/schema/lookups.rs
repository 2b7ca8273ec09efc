//! Resolves `[schema.lookup]`: tables by which a community is found through something that belongs to it. Pure.

use std::collections::BTreeMap;

use super::check::{Check, Holds};
use super::right::Effect;
use super::{
    Column, CommunityTable, Dialect, Kind, LiveTable, LookupFault, Privilege, SchemaProblem, TableName,
};
use crate::config;

/// A table that leads to a community.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupTable {
    /// The table.
    pub table: TableName,
    /// What paths name its rows by.
    pub key: Column,
    /// Reference to the community.
    pub community: Column,
}

/// The same as the catalogue has it.
#[derive(Debug, Clone)]
pub(in crate::store) struct LiveLookup {
    /// None if there is no such table.
    pub(in crate::store) table: Option<LiveTable>,
    /// Whether an index finds a row by its key; true where that cannot be told, as of a view.
    pub(in crate::store) has_index: bool,
}

impl Check<'_> {
    /// All lookups; none if one of them cannot be used.
    pub(super) fn lookups(
        &mut self,
        names: &BTreeMap<String, config::Lookup>,
        community: Option<&CommunityTable>,
    ) -> Option<BTreeMap<String, LookupTable>> {
        let found = names.iter().map(|(name, lookup)| {
            let table = self.lookup(lookup, self.live.lookups.get(name), community);
            match table {
                Ok(table) => Some((name.clone(), table)),
                Err(fault) => {
                    let lookup = name.clone();
                    self.problems.push(SchemaProblem::Lookup { lookup, fault });
                    None
                }
            }
        });
        // All are looked at, so that each has its problem.
        let found: Vec<_> = found.collect();
        found.into_iter().collect()
    }

    fn lookup(
        &mut self,
        names: &config::Lookup,
        live: Option<&LiveLookup>,
        communities: Option<&CommunityTable>,
    ) -> Result<LookupTable, LookupFault> {
        let table = live.and_then(|live| live.table.as_ref());
        let table = table.ok_or_else(|| LookupFault::MissingTable(names.table.clone()))?;
        self.schema_usage(table, Effect::Other);
        let dialect = self.live.dialect;
        let key = column(table, &names.key, "key", dialect)?;
        let community = column(table, &names.community, "community", dialect)?;
        if let Some(communities) = communities
            && !agree(community.kind, communities.id.kind)
        {
            return Err(LookupFault::KeysDisagree {
                table: table.name.to_string(),
                column: community.name,
                found: community.type_name,
                community_key: communities.id.type_name.clone(),
            });
        }
        self.may(table, Privilege::Select, &[&key, &community]);
        Ok(LookupTable {
            table: table.name.clone(),
            key,
            community,
        })
    }
}

fn agree(from: Kind, to: Kind) -> bool {
    let integer = |kind| matches!(kind, Kind::SmallInt | Kind::Integer | Kind::BigInt);
    from == to || integer(from) && integer(to)
}

fn column(table: &LiveTable, name: &str, key: &'static str, dialect: Dialect) -> Result<Column, LookupFault> {
    let live = table.find(name).ok_or_else(|| LookupFault::MissingColumn {
        table: table.name.to_string(),
        column: name.to_owned(),
        key,
    })?;
    if Holds::Key.accepts(live.column.kind, dialect) {
        Ok(live.column.clone())
    } else {
        Err(LookupFault::WrongType {
            table: table.name.to_string(),
            column: name.to_owned(),
            found: live.column.type_name.clone(),
            key,
        })
    }
}
