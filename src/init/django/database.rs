//! The URL of a site's database.

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

use super::DjangoDatabase;
use crate::config::Secret;

/// Escaped everywhere: all but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// Escaped in a query, where a slash needs no escape.
const IN_QUERY: &AsciiSet = &RESERVED.remove(b'/');
/// Escaped in a file's name: what would end it, or be read as an escape.
const IN_FILE: &AsciiSet = &CONTROLS.add(b'%').add(b'?').add(b'#');

impl DjangoDatabase {
    /// The URL of the database, which may hold a password; none if it is neither Postgres nor SQLite.
    pub(in crate::init) fn url(&self) -> Option<Secret> {
        let engine = self.engine.to_ascii_lowercase();
        let encoded = |text: &str| utf8_percent_encode(text, RESERVED).to_string();
        if engine.contains("sqlite") || engine.contains("spatialite") {
            let file = utf8_percent_encode(&self.name, IN_FILE);
            return Some(Secret::new(format!("sqlite://{file}")));
        }
        if !engine.contains("postg") {
            return None;
        }
        let password = self
            .password
            .as_ref()
            .map(|password| format!(":{}", encoded(password.expose())));
        let user = match (&*self.user, password) {
            ("", _) => String::new(),
            (user, password) => format!("{}{}@", encoded(user), password.unwrap_or_default()),
        };
        let path = |text: &str| utf8_percent_encode(text, IN_QUERY).to_string();
        let (host, name) = (&self.host, encoded(&self.name));
        let port = match &*self.port {
            "" => String::new(),
            port => format!(":{port}"),
        };
        let socket = match &**host {
            "" => Some("/var/run/postgresql"),
            socket => socket.starts_with('/').then_some(socket),
        };
        let mut parameters: Vec<_> = socket
            .map(|socket| format!("host={}", path(socket)))
            .into_iter()
            .collect();
        let options = self
            .options
            .iter()
            .map(|(name, value)| format!("{name}={}", path(value)));
        parameters.extend(options);
        let query = match &*parameters {
            [] => String::new(),
            parameters => format!("?{}", parameters.join("&")),
        };
        let host = if socket.is_some() { "localhost" } else { host };
        Some(Secret::new(format!(
            "postgres://{user}{host}{port}/{name}{query}"
        )))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn d5_no_more_of_a_url_is_escaped_than_has_to_be() {
        let database = DjangoDatabase {
            engine: "django.db.backends.postgresql".into(),
            name: "my_site-1.x~".into(),
            user: "site_owner".into(),
            password: Some(Secret::new("a_b.c")),
            host: "/run/my_sockets".into(),
            port: String::new(),
            options: BTreeMap::new(),
        };
        assert_eq!(
            database.url().expect("a URL").expose(),
            "postgres://site_owner:a_b.c@localhost/my_site-1.x~?host=/run/my_sockets"
        );
    }

    #[test]
    fn urls_of_databases_are_those_that_the_sidecar_reads() {
        let of = |engine: &str, host: &str, password: Option<&str>| {
            let database = DjangoDatabase {
                engine: format!("django.db.backends.{engine}"),
                name: "site".into(),
                user: "app".into(),
                password: password.map(Secret::new),
                host: host.into(),
                port: "5432".into(),
                options: BTreeMap::new(),
            };
            database.url().map(|url| url.expose().to_owned())
        };
        assert_eq!(
            of("postgresql", "db", Some("p@ss/")).as_deref(),
            Some("postgres://app:p%40ss%2F@db:5432/site")
        );
        assert_eq!(
            of("postgresql", "", None).as_deref(),
            Some("postgres://app@localhost:5432/site?host=/var/run/postgresql")
        );
        assert_eq!(of("sqlite3", "", None).as_deref(), Some("sqlite://site"));
        assert_eq!(of("mysql", "db", None), None);
    }
}
