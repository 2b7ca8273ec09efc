//! Rows of the app's tables, as the app writes and reads them.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use headcount::browser_session::BrowserSession;
use headcount::config::ProfileColumn;
use headcount::ids::{BrowserSessionId, CommunityId, UserId};
use uuid::Uuid;

use super::{Site, at, key_of};

/// A session as the app writes it.
#[derive(Debug, Clone)]
pub struct SessionRow {
    pub started_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
    pub expires_at: DateTime<Utc>,
    pub is_active: bool,
    pub is_ended: bool,
    pub pages_visited: i64,
}

impl Default for SessionRow {
    fn default() -> Self {
        Self {
            started_at: at("2024-03-01T09:00:00Z"),
            ended_at: None,
            expires_at: at("2999-01-01T00:00:00Z"),
            is_active: true,
            is_ended: false,
            pages_visited: 0,
        }
    }
}

/// An event as it stands in the database.
#[derive(Debug, Clone)]
pub struct EventRow {
    pub id: String,
    pub user_id: String,
    pub event_type: String,
    pub description: String,
    pub metadata: serde_json::Value,
    pub ip_address: Option<String>,
    pub user_agent: String,
    pub device_info: serde_json::Value,
    pub location_data: serde_json::Value,
    /// As SQLite holds it and Django compares it; Postgres' prints the same with `+00`.
    pub timestamp: String,
}

impl Site {
    /// Somebody signs up.
    pub async fn member(&self, name: &str) -> UserId {
        self.member_with_avatar(name, "").await
    }

    pub async fn member_with_avatar(&self, name: &str, avatar: &str) -> UserId {
        // As the variant has them, wherever the sidecar is told to look.
        let columns = self.variant.config().schema.profile.columns;
        let (id_column, id) = self.new_key(&columns.id);
        let sql = format!(
            r#"INSERT INTO {table} ({id_column} "{username}", "{avatar_column}", "{last_active}")
               VALUES ({id} '{name}', '{avatar}', '2024-01-01 00:00:00') RETURNING CAST("{key}" AS TEXT)"#,
            table = self.table(&self.config.schema.profile.table),
            username = own_name(&columns.username),
            avatar_column = own_name(&columns.avatar),
            last_active = columns.last_active,
            key = columns.id,
        );
        UserId::new(printed(self.text(&sql).await))
    }

    /// Somebody founds a community.
    pub async fn community(&self, slug: &str) -> CommunityId {
        let columns = &self.config.schema.community.columns;
        let (id_column, id) = self.new_key(&columns.id);
        let (name_column, name) = if self.variant.is_renamed() {
            ("", "")
        } else {
            (r#", "name""#, ", 'A name'")
        };
        let sql = format!(
            r#"INSERT INTO {table} ({id_column} "{slug_column}"{name_column}) VALUES ({id} '{slug}'{name})
               RETURNING CAST("{key}" AS TEXT)"#,
            table = self.table(&self.config.schema.community.table),
            slug_column = columns.slug,
            key = columns.id,
        );
        CommunityId::new(printed(self.text(&sql).await))
    }

    /// Somebody signs in.
    pub async fn session(&self, user: &UserId, token: &str, row: SessionRow) -> Arc<BrowserSession> {
        let columns = &self.config.schema.session.columns;
        // Default names: the model of the analysis, whose key is a uuid; renamed: a bigint.
        let (further, values) = if self.variant.is_renamed() {
            ("", String::new())
        } else {
            (
                r#", "id", "ip_address", "user_agent", "device_info", "location_data", "device_fingerprint",
                   "fast_fingerprint", "persistent", "termination_reason""#,
                format!(
                    ", '{}', '203.0.113.9', '', '{{}}', '{{}}', '', '', false, ''",
                    Uuid::new_v4().simple()
                ),
            )
        };
        let sql = format!(
            r#"INSERT INTO {table} ("{user_id}", "{token_column}", "{pages}", "{started}", "{ended_at}",
                                    "{expires}", "{active}", "{ended}" {further})
               VALUES ('{user}', '{token}', {pages_visited}, {started_at}, {closed}, {expires_at},
                       {is_active}, {is_ended} {values})
               RETURNING CAST("{key}" AS TEXT)"#,
            table = self.table(&self.config.schema.session.table),
            user_id = columns.user_id,
            token_column = columns.session_id,
            pages = columns.pages_visited,
            started = columns.started_at,
            ended_at = columns.ended_at,
            expires = columns.expires_at,
            active = columns.is_active,
            ended = columns.is_ended,
            user = stored_key(user.as_str()),
            pages_visited = row.pages_visited,
            started_at = literal(&moment(row.started_at)),
            closed = row.ended_at.map_or("NULL".into(), |end| literal(&moment(end))),
            expires_at = literal(&moment(row.expires_at)),
            is_active = row.is_active,
            is_ended = row.is_ended,
            key = columns.id,
        );
        Arc::new(BrowserSession {
            id: Some(BrowserSessionId::new(printed(self.text(&sql).await))),
            user_id: user.clone(),
            expires_at: row.expires_at,
            is_active: row.is_active,
            is_ended: row.is_ended,
            ended_at: row.ended_at,
            visibility: headcount::browser_session::Visibility::Shown,
        })
    }

    /// The app writes an event of its own.
    pub async fn app_event(&self, user: &UserId, event_type: &str, metadata: &str, when: &str) {
        self.app_event_at(user, event_type, metadata, &moment(at(when)))
            .await;
    }

    /// The same at a moment as the app writes it.
    pub async fn app_event_at(&self, user: &UserId, event_type: &str, metadata: &str, written: &str) {
        let columns = &self.config.schema.event.columns;
        let (id_column, id) = self.new_key(&columns.id);
        let (tenant_column, tenant) = if self.variant.is_renamed() {
            (r#", "tenant""#, ", 7")
        } else {
            ("", "")
        };
        self.execute(&format!(
            r#"INSERT INTO {table} ({id_column} "{user_id}", "{event_type_column}", "{description}",
                   "{metadata_column}", "{ip_address}", "{user_agent}", "{device_info}", "{location_data}",
                   "{timestamp}"{tenant_column})
               VALUES ({id} '{user}', '{event_type}', 'x', '{metadata}', '203.0.113.9', '', '{{}}', '{{}}',
                       '{written}'{tenant})"#,
            table = self.table(&self.config.schema.event.table),
            user_id = columns.user_id,
            event_type_column = columns.event_type,
            description = columns.description,
            metadata_column = columns.metadata,
            ip_address = columns.ip_address,
            user_agent = columns.user_agent,
            device_info = columns.device_info,
            location_data = columns.location_data,
            timestamp = columns.timestamp,
            user = stored_key(user.as_str()),
        ))
        .await;
    }

    /// All events, oldest first.
    pub async fn events(&self) -> Vec<EventRow> {
        let columns = &self.config.schema.event.columns;
        let names = [
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
        let list = names.map(|name| {
            if name == &columns.ip_address && self.variant.is_postgres() {
                format!("host(\"{name}\")")
            } else {
                format!("CAST(\"{name}\" AS TEXT)")
            }
        });
        let sql = format!(
            "SELECT {} FROM {} ORDER BY \"{}\"",
            list.join(", "),
            self.table(&self.config.schema.event.table),
            columns.timestamp
        );
        let text = |cell: &Option<String>| cell.clone().expect("not null");
        let json = |cell: &Option<String>| serde_json::from_str(cell.as_ref().unwrap()).expect("JSON");
        self.rows(&sql)
            .await
            .iter()
            .map(|row| EventRow {
                id: printed(text(&row[0])),
                user_id: printed(text(&row[1])),
                event_type: text(&row[2]),
                description: text(&row[3]),
                metadata: json(&row[4]),
                ip_address: row[5].clone(),
                user_agent: text(&row[6]),
                device_info: json(&row[7]),
                location_data: json(&row[8]),
                timestamp: text(&row[9]),
            })
            .collect()
    }

    /// A session's page counter.
    pub async fn pages_visited(&self, session: &BrowserSession) -> i64 {
        let names = &self.config.schema.session;
        let sql = format!(
            r#"SELECT CAST("{}" AS TEXT) FROM {} WHERE "{}" = '{}'"#,
            names.columns.pages_visited,
            self.table(&names.table),
            names.columns.id,
            stored_key(key_of(session).as_str())
        );
        self.text(&sql).await.parse().expect("a number")
    }

    /// The app changes when a session began, ended and expires; moments are as it writes them.
    pub async fn session_lasts(
        &self,
        session: &BrowserSession,
        started: &str,
        ended: Option<&str>,
        expires: &str,
    ) {
        let names = &self.config.schema.session;
        self.execute(&format!(
            r#"UPDATE {table} SET "{started_at}" = '{started}', "{ended_at}" = {ended}, "{expires_at}" = '{expires}'
               WHERE "{id}" = '{session}'"#,
            table = self.table(&names.table),
            started_at = names.columns.started_at,
            ended_at = names.columns.ended_at,
            expires_at = names.columns.expires_at,
            ended = ended.map_or("NULL".into(), literal),
            id = names.columns.id,
            session = stored_key(key_of(session).as_str()),
        ))
        .await;
    }

    /// The app writes when a user was last active.
    pub async fn was_active(&self, user: &UserId, written: &str) {
        let names = &self.config.schema.profile;
        self.execute(&format!(
            r#"UPDATE {} SET "{}" = '{written}' WHERE "{}" = '{}'"#,
            self.table(&names.table),
            names.columns.last_active,
            names.columns.id,
            stored_key(user.as_str())
        ))
        .await;
    }

    /// A profile's `last_active`, as SQLite holds it (on Postgres without the `+00`).
    pub async fn last_active(&self, user: &UserId) -> String {
        let names = &self.config.schema.profile;
        let sql = format!(
            r#"SELECT CAST("{}" AS TEXT) FROM {} WHERE "{}" = '{}'"#,
            names.columns.last_active,
            self.table(&names.table),
            names.columns.id,
            stored_key(user.as_str())
        );
        self.text(&sql).await.trim_end_matches("+00").to_owned()
    }

    /// A configured table name, quoted.
    pub fn table(&self, name: &str) -> String {
        match name.split_once('.') {
            Some((schema, name)) if self.variant.is_postgres() => format!("\"{schema}\".\"{name}\""),
            _ => format!("\"{name}\""),
        }
    }

    fn new_key(&self, column: &str) -> (String, String) {
        if self.variant.is_renamed() {
            (
                format!("\"{column}\","),
                format!("'{}',", Uuid::new_v4().simple()),
            )
        } else {
            (String::new(), String::new())
        }
    }
}

/// The name of a column of the profile table itself.
fn own_name(column: &ProfileColumn) -> &str {
    match column {
        ProfileColumn::Own(name) => name,
        ProfileColumn::Joined(joined) => panic!("{joined:?} is of another table"),
    }
}

/// A key as Django prints it.
fn printed(key: String) -> String {
    match Uuid::try_parse(&key) {
        Ok(id) => id.hyphenated().to_string(),
        Err(_) => key,
    }
}

/// A key as either database takes it in a literal.
pub fn stored_key(key: &str) -> String {
    match Uuid::try_parse(key) {
        Ok(id) => id.simple().to_string(),
        Err(_) => key.to_owned(),
    }
}

/// A moment as Django writes it; Postgres' session is in UTC.
fn moment(at: DateTime<Utc>) -> String {
    let text = at.format("%Y-%m-%d %H:%M:%S%.6f").to_string();
    text.trim_end_matches(".000000").to_owned()
}

fn literal(text: &str) -> String {
    format!("'{text}'")
}
