//! The event table: the columns that are read, and those that an inserted event fills.

use super::{Column, Kind, TableName};

/// Events.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in config::EventColumns")]
pub struct EventTable {
    pub table: TableName,
    /// It is a view.
    pub is_view: bool,
    /// COPY does with its rows what INSERT does.
    pub takes_copy: bool,
    pub user_id: Column,
    pub event_type: Column,
    pub metadata: Column,
    pub timestamp: Column,
    /// Columns of inserted events; `None` if none are inserted.
    pub insert: Option<EventInsert>,
}

/// What an inserted event fills beyond the columns that are also read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in config::EventColumns")]
pub struct EventInsert {
    /// The primary key, where it is a `uuid` that the database does not make itself.
    pub id: Option<Column>,
    pub description: Option<Column>,
    pub ip_address: Option<Column>,
    pub user_agent: Option<Column>,
    pub device_info: Option<Column>,
    pub location_data: Option<Column>,
    /// Configured constants, in the order of their columns' names.
    pub constants: Vec<(Column, String)>,
}

impl EventTable {
    /// Our own, as `migrations/app` makes it; `configured` is its name.
    pub(in crate::store) fn own(configured: &str, user_id: &Column) -> Self {
        let dialect = user_id.dialect;
        let (schema, name) = configured
            .split_once('.')
            .map_or((None, configured), |(schema, name)| {
                (Some(schema.to_owned()), name)
            });
        let named = |name: &str| Column {
            name: name.to_owned(),
            ..user_id.clone()
        };
        // What the indexes have of a column depends on its kind.
        let event_type = Column {
            kind: Kind::Text,
            type_name: "text".to_owned(),
            max_length: None,
            is_loose: false,
            ..named("event_type")
        };
        Self {
            table: TableName {
                dialect,
                schema,
                name: name.to_owned(),
            },
            is_view: false,
            takes_copy: false,
            user_id: named("user_id"),
            event_type,
            metadata: named("metadata"),
            timestamp: named("timestamp"),
            insert: None,
        }
    }
}

impl EventInsert {
    /// The columns that are written beyond [`EventTable`]'s: those of [`EventInsert::optional`] that there are, the
    /// key where we make it, and those of the constants.
    pub(in crate::store) fn more(&self) -> impl Iterator<Item = &Column> {
        let constants = self.constants.iter().map(|(column, _)| column);
        let optional = self.optional().into_iter().flatten();
        optional.chain(&self.id).chain(constants)
    }

    /// The columns that the app may not have, in the order in which they are written.
    pub(in crate::store) fn optional(&self) -> [&Option<Column>; 5] {
        [
            &self.description,
            &self.ip_address,
            &self.user_agent,
            &self.device_info,
            &self.location_data,
        ]
    }
}
