//! Resolves the event table's columns, and what fills those of an inserted event.

use chrono_tz::Tz;

use super::{Check, Holds};
use crate::config;
use crate::store::schema::{
    Column, EventInsert, EventTable, Kind, LiveTable, Needs, Privilege, SchemaProblem,
};

impl Check<'_> {
    pub(super) fn event(
        &mut self,
        table: &LiveTable,
        names: &config::EventTable,
        needs: Needs,
    ) -> Option<EventTable> {
        let columns = &names.columns;
        let mut column = |wanted| self.column(table, "event", wanted);
        let user_id = column(("user_id", &columns.user_id, Holds::Key));
        let event_type = column(("event_type", &columns.event_type, Holds::Text));
        let metadata = column(("metadata", &columns.metadata, Holds::Json));
        let timestamp = column(("timestamp", &columns.timestamp, Holds::Moment));
        let insert = needs.events.then(|| self.event_insert(table, names));
        let mut event = EventTable {
            table: table.name.clone(),
            is_view: table.fixed.is_view,
            takes_copy: table.takes_copy,
            user_id: user_id?,
            event_type: event_type?,
            metadata: metadata?,
            timestamp: timestamp?,
            insert: None,
        };
        let read = [
            &event.user_id,
            &event.event_type,
            &event.metadata,
            &event.timestamp,
        ];
        self.may(table, Privilege::Select, &read);
        if let Some(insert) = insert {
            let insert = insert?;
            let mut written = read.to_vec();
            let optional = [
                &insert.description,
                &insert.ip_address,
                &insert.user_agent,
                &insert.device_info,
                &insert.location_data,
                &insert.id,
            ];
            written.extend(optional.into_iter().flatten());
            written.extend(insert.constants.iter().map(|(column, _)| column));
            self.may(table, Privilege::Insert, &written);
            self.everything_filled(table, &columns.id, &written);
            // The server converts to its own zones, with its own data.
            event.takes_copy &= event.timestamp.kind != Kind::Timestamp || event.timestamp.zone == Tz::UTC;
            event.insert = Some(insert);
        }
        Some(event)
    }

    fn event_insert(&mut self, table: &LiveTable, names: &config::EventTable) -> Option<EventInsert> {
        let columns = &names.columns;
        let mut column = |wanted| self.optional(table, "event", wanted);
        let id = column(("id", &columns.id, Holds::Key));
        let description = column(("description", &columns.description, Holds::Text));
        let ip_address = column(("ip_address", &columns.ip_address, Holds::Address));
        let user_agent = column(("user_agent", &columns.user_agent, Holds::Text));
        let device_info = column(("device_info", &columns.device_info, Holds::JsonOrText));
        let location_data = column(("location_data", &columns.location_data, Holds::JsonOrText));
        let constants = self.constants(table, names);
        let id = id.ok()?.filter(|id| {
            let is_made = table.find(&id.name).is_some_and(|live| live.has_default);
            // A view's columns have no defaults of their own; those of the table under it are used.
            let is_left_to_it = table.fixed.is_view && id.kind != Kind::Uuid;
            !is_made && !is_left_to_it
        });
        if let Some(id) = &id
            && id.kind != Kind::Uuid
        {
            self.problems.push(SchemaProblem::NoKey {
                table: table.name.to_string(),
                column: id.name.clone(),
                type_name: id.type_name.clone(),
            });
        }
        Some(EventInsert {
            id: id.filter(|id| id.kind == Kind::Uuid),
            description: description.ok()?,
            ip_address: ip_address.ok()?,
            user_agent: user_agent.ok()?,
            device_info: device_info.ok()?,
            location_data: location_data.ok()?,
            constants,
        })
    }

    fn constants(&mut self, table: &LiveTable, names: &config::EventTable) -> Vec<(Column, String)> {
        let columns = &names.columns;
        let ours = [
            &columns.id,
            &columns.user_id,
            &columns.event_type,
            &columns.description,
            &columns.metadata,
            &columns.ip_address,
            &columns.user_agent,
            &columns.device_info,
            &columns.location_data,
            &columns.timestamp,
        ];
        let mut constants = Vec::new();
        for (name, value) in &names.constants {
            let table_name = table.name.to_string();
            let column = name.clone();
            let Some(live) = table.find(name) else {
                self.problems.push(SchemaProblem::UnknownConstant {
                    table: table_name,
                    column,
                });
                continue;
            };
            if live.generated || ours.contains(&name) {
                self.problems.push(SchemaProblem::NeedlessConstant {
                    table: table_name,
                    column,
                });
            } else if self.live.bad_constants.contains(name) || live.column.cuts(value) {
                self.problems.push(SchemaProblem::BadConstant {
                    table: table_name,
                    column,
                    type_name: live.column.type_name.clone(),
                    value: value.clone(),
                });
            } else {
                constants.push((live.column.clone(), value.clone()));
            }
        }
        constants
    }

    /// W10: Django puts no defaults into the database, so a NOT NULL column that is not written makes every
    /// insert fail.
    fn everything_filled(&mut self, table: &LiveTable, key: &str, written: &[&Column]) {
        for live in &table.columns {
            let column = &live.column;
            let fills_itself = column.nullable || live.has_default || live.generated || column.name == key;
            let is_wrong = |problem: &SchemaProblem| matches!(problem, SchemaProblem::BadConstant { column: named, .. } if *named == column.name);
            // A wrong constant is a problem of its own.
            let named = written.iter().any(|written| written.name == column.name)
                || self.problems.iter().any(is_wrong);
            if !fills_itself && !named {
                self.problems.push(SchemaProblem::Unfilled {
                    table: table.name.to_string(),
                    column: column.name.clone(),
                    type_name: column.type_name.clone(),
                });
            }
        }
    }
}
