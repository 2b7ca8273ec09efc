//! Additions to the app's tables: indexes and a trigger, from the templates in `migrations/app`. Pure.

use super::Step;
use crate::store::operations::EVENT_INDEXES;
use crate::store::schema::{AppSchema, TableName};

/// An index or a trigger on one of the app's tables.
pub(super) struct Addition {
    pub(super) name: &'static str,
    /// Its table, as in SQL.
    pub(super) table: String,
    /// The whole statement.
    pub(super) create: String,
    /// For an index: the part after the table's name.
    pub(super) columns: String,
}

impl Addition {
    /// `more`: placeholders of this template alone.
    pub(super) fn new(
        name: &'static str,
        table: &TableName,
        template: &str,
        app: &AppSchema,
        more: &[(&'static str, String)],
    ) -> Self {
        let session = &app.session;
        let event = app.event.iter().flat_map(|event| {
            [
                ("{event.table}", event.table.to_string()),
                ("{event.user_id}", event.user_id.to_string()),
                ("{event.metadata}", event.metadata.to_string()),
                ("{event.timestamp}", event.timestamp.to_string()),
                ("{event.event_type}", event.event_type.to_string()),
            ]
        });
        let names = [("{session.table}", session.table.to_string())];
        let names = event.chain(names).chain(more.iter().cloned());
        let create = names.fold(template.trim_end().to_owned(), |sql, (placeholder, name)| {
            sql.replace(placeholder, &name)
        });
        let table = table.to_string();
        let columns = create.split_once(&format!(" ON {table} "));
        let columns = columns.map(|(_, columns)| columns.to_owned());
        Self {
            name,
            columns: columns.unwrap_or_default(),
            table,
            create,
        }
    }

    pub(super) fn step(&self, what: &str) -> Step {
        Step::new(format!("{what} {}", self.name), self.create.as_str())
    }
}

/// The additions that both databases have: those of which the app has the columns.
pub(super) fn additions(
    app: &AppSchema,
    event_community: &str,
    event_visitor: &str,
    session_user: &str,
) -> Vec<Addition> {
    // A view has no indexes: those of the table under it are the app's.
    let event = app.event.as_ref().filter(|event| !event.is_view);
    let of_events = |name, template| event.map(|event| Addition::new(name, &event.table, template, app, &[]));
    let event_community = of_events(EVENT_INDEXES[0], event_community);
    let event_visitor = of_events(EVENT_INDEXES[1], event_visitor);
    let session_user = app.session.latest(app.referred()).map(|latest| {
        let names = [
            ("{session.user_id}", latest.user.to_string()),
            ("{session.started_at}", latest.order.to_string()),
        ];
        let table = &app.session.table;
        Addition::new("headcount_session_user", table, session_user, app, &names)
    });
    [event_community, event_visitor, session_user]
        .into_iter()
        .flatten()
        .collect()
}
