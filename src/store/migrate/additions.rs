//! Additions to the app's tables: indexes and a trigger, from the templates in `migrations/app`. Pure.

use super::Step;
use crate::store::event_indexes::{self, NAMES};
use crate::store::schema::{AppSchema, TableName};

/// An index or a trigger on one of the app's tables.
pub(super) struct Addition {
    pub(super) name: &'static str,
    /// Its table, as in SQL.
    pub(super) table: String,
    /// The table's name alone, as it is.
    pub(super) table_name: String,
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
        let template = match &app.event {
            Some(event) => event_indexes::named(template, event),
            None => template.trim_end().to_owned(),
        };
        let names = [("{session.table}", session.table.to_string())];
        let names = names.into_iter().chain(more.iter().cloned());
        let create = names.fold(template, |sql, (placeholder, name)| {
            sql.replace(placeholder, &name)
        });
        let table_name = table.name.clone();
        let table = table.to_string();
        Self {
            table_name,
            name,
            columns: event_indexes::columns(&create, &table).to_owned(),
            table,
            create,
        }
    }

    pub(super) fn step(&self, what: &str) -> Step {
        Step::new(format!("{what} {}", self.name), self.create.as_str())
    }
}

/// The additions that both databases have: those of which the app has the columns.
pub(super) fn additions(app: &AppSchema, of_events: [&str; 2], session_user: &str) -> Vec<Addition> {
    // A view has no indexes: those of the table under it are the app's.
    let event = app.event.as_ref().filter(|event| !event.is_view);
    let of_events = event.into_iter().flat_map(|event| {
        let statements = NAMES.into_iter().zip(of_events);
        statements.map(|(name, template)| Addition::new(name, &event.table, template, app, &[]))
    });
    let session_user = app.session.latest(app.referred()).map(|latest| {
        let names = [
            ("{session.user_id}", latest.user.to_string()),
            ("{session.started_at}", latest.order.to_string()),
        ];
        let table = &app.session.table;
        Addition::new("headcount_session_user", table, session_user, app, &names)
    });
    of_events.chain(session_user).collect()
}
