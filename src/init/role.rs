//! Proposes a database role of the sidecar's own, in place of the app's role, which owns the tables. Pure.

use crate::config::Secret;

/// Its name: the default of `headcount grants`.
const ROLE: &str = "headcount";
/// How to create it: a comment in the configuration.
pub(super) const HOW: &str = "a role of the sidecar's own, with the rights that this configuration needs and no others. As \
    the owner: `headcount migrate`. As a superuser or a role with CREATEROLE, which the owner usually is not: \
    CREATE ROLE headcount LOGIN PASSWORD '…'. As the owner again: `headcount grants | psql -v ON_ERROR_STOP=1 \"$OWNER_URL\"` \
    (it prints the rights as SQL, for a role of that name). Then replace the other URL with this one, and keep the password in a file (url_file) or the environment. \
    After an upgrade, too, run `headcount migrate` as the owner: HEADCOUNT__DATABASE__URL=… headcount migrate";
/// The same, in the list of decisions for the operator.
pub(super) const TO_DECIDE: &str = "database.url: it names a role that owns the app's tables; `headcount grants` prints the \
    rights of a role of the sidecar's own (the comment beside it says how)";

/// The database's URL with that role; none for a database without roles (SQLite).
pub(super) fn of_its_own(url: &Secret) -> Option<String> {
    let (scheme, rest) = url
        .expose()
        .split_once("://")
        .filter(|(scheme, _)| scheme.starts_with("postgres"))?;
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let of_the_server = |pair: &&str| !["user=", "password="].iter().any(|who| pair.starts_with(who));
    let query: Vec<_> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .filter(of_the_server)
        .collect();
    let query = if query.is_empty() {
        String::new()
    } else {
        format!("?{}", query.join("&"))
    };
    let host = if host.is_empty() { "localhost" } else { host };
    Some(format!("{scheme}://{ROLE}@{host}{path}{query}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d5_the_url_with_a_role_of_its_own_has_nothing_of_the_owner() {
        for (url, own) in [
            (
                "postgres://site_owner:p%40ss@db:5432/site",
                Some("postgres://headcount@db:5432/site"),
            ),
            (
                "postgres://app@localhost/site?host=/run/pg&sslmode=require",
                Some("postgres://headcount@localhost/site?host=/run/pg&sslmode=require"),
            ),
            (
                "postgresql:///site?user=app&password=secret",
                Some("postgresql://headcount@localhost/site"),
            ),
            ("sqlite:///a@b.db", None),
        ] {
            assert_eq!(of_its_own(&Secret::new(url)).as_deref(), own, "{url}");
        }
    }
}
