//! The columns of the community table that counters are written to, and the sidecar's own tables of counters. Pure.

use super::check::{Check, ColumnUnusable, Holds};
use super::counter_fault::{CounterFault, Why};
use super::{Column, Kind, LiveTable, OwnTables, Privilege, SchemaProblem};
use crate::config::Counters;

/// The app's columns for counts; those that are `None` are not wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in config::Counters")]
pub struct CounterColumns {
    pub current_visitors: Option<Column>,
    pub total_visitors: Option<Column>,
    pub page_views: Option<Column>,
    pub updated_at: Option<Column>,
}

impl Check<'_> {
    /// The columns, if each that is wanted can be written, and the tables of counters can be used. `None` also where not, with
    /// a problem that says why.
    /// `keys`: the columns that communities are known by.
    pub(super) fn counters(
        &mut self,
        table: &LiveTable,
        wanted: &Counters,
        keys: [&str; 2],
    ) -> Option<CounterColumns> {
        if self.live.counter_tables == OwnTables::Missing {
            self.problems.push(SchemaProblem::NoCounterTables);
        }
        let [current_visitors, total_visitors, page_views, updated_at] =
            wanted.columns().map(|(key, name)| {
                if name.is_empty() {
                    return Ok(None);
                }
                let holds = match key {
                    "updated_at" => Holds::Moment,
                    _ => Holds::Count,
                };
                self.counter(table, wanted.place(key), name, holds, keys)
                    .map(Some)
            });
        let columns = CounterColumns {
            current_visitors: current_visitors.ok()?,
            total_visitors: total_visitors.ok()?,
            page_views: page_views.ok()?,
            updated_at: updated_at.ok()?,
        };
        let all: Vec<&Column> = [
            &columns.current_visitors,
            &columns.total_visitors,
            &columns.page_views,
            &columns.updated_at,
        ]
        .into_iter()
        .flatten()
        .collect();
        let mut may = |privilege| self.of_counters(|check| check.may(table, privilege, &all));
        let (may_read, may_write) = (may(Privilege::Select), may(Privilege::Update));
        let are_tables_usable = self.live.counter_tables == OwnTables::Usable;
        (may_read && may_write && are_tables_usable).then_some(columns)
    }

    /// Looks for problems that keep counters from being written, and nothing else.
    fn of_counters<T>(&mut self, look: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.problems.len();
        self.is_of_counters = true;
        let found = look(self);
        self.is_of_counters = false;
        let found_now = self.problems.split_off(before);
        let of_counters = found_now
            .into_iter()
            .map(|problem| SchemaProblem::OfCounters(Box::new(problem)));
        self.problems.extend(of_counters);
        found
    }

    fn counter(
        &mut self,
        table: &LiveTable,
        place: String,
        name: &str,
        holds: Holds,
        keys: [&str; 2],
    ) -> Result<Column, ColumnUnusable> {
        let dialect = self.live.dialect;
        let live = table.find(name);
        let why = match live {
            None if table.fixed.is_view => Some(Why::View),
            None => Some(Why::Missing),
            Some(live) if live.generated => Some(Why::Generated),
            Some(live) if !holds.accepts(live.column.kind, dialect) => Some(Why::Type {
                found: live.column.type_name.clone(),
                expected: holds.name(),
            }),
            // A count there would make another community of it.
            Some(live) if live.is_unique || live.sequence.is_some() || keys.contains(&name) => {
                Some(Why::Taken)
            }
            // A view's columns have no defaults of their own.
            Some(live) if !live.column.nullable && !live.has_default && !table.fixed.is_view => {
                Some(Why::NoDefault(dialect))
            }
            Some(_) => None,
        };
        match (live, why) {
            (Some(live), None) => {
                let mut column = live.column.clone();
                if column.kind == Kind::Timestamp {
                    column.zone = self.zone;
                    self.without_zone.push(format!("{}.{column}", table.name));
                }
                Ok(column)
            }
            (_, why) => {
                self.problems.push(SchemaProblem::Counter(CounterFault {
                    place,
                    table: table.name.to_string(),
                    column: dialect.quoted(name),
                    why: why.unwrap_or(Why::Missing),
                }));
                Err(ColumnUnusable)
            }
        }
    }
}
