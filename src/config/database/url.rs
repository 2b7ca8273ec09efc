//! URL of the database: checked, and reduced to what the driver can take. Pure.
//!
//! The Postgres driver takes one host, reads a raw `#` or `/` in a password as the end of the host's name, and logs unknown
//! parameters with their values: so the URL is checked before the driver sees it.

use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

/// Parameters that the driver knows.
const KNOWN: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// The URL for the driver, and the names of the parameters that are kept from it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DriverUrl {
    pub url: String,
    pub ignored: Vec<String>,
}

/// Splits the URL of a Postgres database. The error says how to write it, without quoting it.
pub(crate) fn for_driver(url: &str) -> Result<DriverUrl, &'static str> {
    let (before, query) = match url.split_once('?') {
        Some((before, query)) => (before, Some(query)),
        None => (url, None),
    };
    let after_scheme = before.split_once("://").map_or(before, |(_, rest)| rest);
    let (authority, path) = after_scheme.split_once('/').unwrap_or((after_scheme, ""));
    let query = query.unwrap_or_default();
    // An @ in a parameter's value is fine where the user or the host came before.
    let query_has_host =
        query.contains('@') && !authority.contains('@') && authority.contains(':') && path.is_empty();
    if url.contains('#') || path.contains('@') || query_has_host {
        return Err(
            "has a raw #, /, ? or @ in its password (another host would be meant): write # as %23, / as %2F, \
             ? as %3F and @ as %40",
        );
    }
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let mut ignored = Vec::new();
    let mut kept = Vec::new();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        // Without a value it may be the end of one that has a raw & in it, such as a password.
        let (name, value) = parameter.split_once('=').unwrap_or(("(without a value)", ""));
        if name == "host" && value.contains(',') {
            return Err(SEVERAL);
        }
        if KNOWN.contains(&name) || name.starts_with("options[") || name.starts_with("options%5B") {
            kept.push(parameter);
        } else if !ignored.iter().any(|known| known == name) {
            ignored.push(name.to_owned());
        }
    }
    if host.contains(',') {
        return Err(SEVERAL);
    }
    let url = if kept.is_empty() {
        before.to_owned()
    } else {
        format!("{before}?{}", kept.join("&"))
    };
    Ok(DriverUrl { url, ignored })
}

const SEVERAL: &str = "names several hosts; name one that always leads to the primary, such as a pooler's or a \
                       failover address (target_session_attrs is not known here)";

pub(super) fn is_sqlite(url: &str) -> bool {
    url.starts_with("sqlite:")
}

/// Checks that the driver can use a URL. The error says how to write it, without quoting it.
pub(super) fn check(url: &str) -> Result<(), String> {
    let parsed = if is_sqlite(url) {
        url.parse::<SqliteConnectOptions>().map(drop)
    } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        for_driver(url)?.url.parse::<PgConnectOptions>().map(drop)
    } else {
        return Err("must start with postgres:// or sqlite:".into());
    };
    parsed.map_err(|error| {
        let reason = match error {
            sqlx::Error::Configuration(reason) => reason.to_string(),
            other => other.to_string(),
        };
        format!(
            "is not a URL of a database ({reason}); special characters must be escaped, as %40 for @ in a password"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn driver(url: &str) -> (String, Vec<String>) {
        let DriverUrl { url, ignored } = for_driver(url).expect("a URL");
        (url, ignored)
    }

    #[test]
    fn c20_the_driver_sees_no_parameter_that_it_would_log() {
        let bare = "postgres://app@db/site";
        assert_eq!(driver(bare), (bare.into(), vec![]));
        assert_eq!(
            driver("postgres://app@db/site?passwort=hunter2&sslmode=require&connect_timeout=5&passwort=x"),
            (
                "postgres://app@db/site?sslmode=require".into(),
                vec!["passwort".into(), "connect_timeout".into()]
            )
        );
        let (_, ignored) = driver("postgres://app@db/site?password=hun&ter2");
        assert_eq!(ignored, ["(without a value)"]);
        let options = "postgres:///site?host=/run/postgresql&options[search_path]=a@b&user=a@b";
        assert_eq!(driver(options), (options.into(), vec![]));
    }

    #[test]
    fn c21_a_password_that_ends_the_hosts_name_is_told_of_and_not_shown() {
        for url in [
            "postgres://app:12#4@db/site",
            "postgres://app:p@ss/word@db/site",
            "postgres://app:pa/ss@db/site",
            "postgres://app:pa?ss@db/site",
        ] {
            let problem = for_driver(url).expect_err(url);
            assert!(problem.contains("%23"), "{problem}");
        }
        // The last @ ends the password, for the driver too.
        driver("postgres://app:p@ss@db/site");
    }

    #[test]
    fn c22_several_hosts_are_refused_with_what_to_do() {
        for url in [
            "postgres://app@a,b/site",
            "postgres://a:1,b:2/site",
            "postgres:///site?host=a,b",
        ] {
            assert!(for_driver(url).expect_err(url).contains("several hosts"));
        }
    }
}
