//! Classifies a failure by the server's code. Codes about the server, or about our view of its tables, are worth
//! another try (W9); codes about the data are not.

use crate::metrics::label_values;

label_values! {
    /// Coarse reason of a failure; a metric label.
    pub enum Class as "class" {
        /// The server cannot be reached, or does not answer.
        Connection => "connection",
        /// Other transactions are in the way.
        Contention => "contention",
        /// The server takes no writes.
        ReadOnly => "read_only",
        /// The server lacks memory, disk or connections.
        Resources => "resources",
        /// Anything else.
        Other => "other",
    }
}

/// Remedy for a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Nothing: the data is at fault.
    None,
    /// Time.
    Wait,
    /// Another connection.
    Reconnect,
    /// Reading the schema again: the tables may have changed.
    Reread,
    /// The same; but single rows may be the reason.
    Privilege,
    /// The same, and new connections: statements are prepared for tables that have certainly changed.
    Prepare,
}

/// Class and remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Classification {
    pub class: Class,
    pub remedy: Remedy,
}

impl Classification {
    pub(super) const REFUSED: Self = Self::new(Class::Other, Remedy::None);
    pub(super) const LOST: Self = Self::new(Class::Connection, Remedy::Reconnect);
    pub(super) const UNREACHABLE: Self = Self::new(Class::Connection, Remedy::Wait);
    pub(super) const READ_ONLY: Self = Self::wait(Class::ReadOnly);
    pub(super) const SCHEMA: Self = Self::new(Class::Other, Remedy::Reread);
    pub(super) const PRIVILEGE: Self = Self::new(Class::Other, Remedy::Privilege);
    pub(super) const STALE: Self = Self::new(Class::Other, Remedy::Prepare);

    const fn new(class: Class, remedy: Remedy) -> Self {
        Self { class, remedy }
    }

    pub(super) const fn wait(class: Class) -> Self {
        Self::new(class, Remedy::Wait)
    }

    /// Whether trying again can help.
    pub(super) fn retriable(self) -> bool {
        self.remedy != Remedy::None
    }

    /// Whether it may concern some rows and not others.
    pub(super) fn may_be_the_rows(self) -> bool {
        matches!(self.remedy, Remedy::None | Remedy::Wait | Remedy::Privilege)
            && matches!(self.class, Class::Contention | Class::Other)
    }

    /// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
    pub(super) fn of_sqlstate(code: &str) -> Self {
        match code {
            // admin shutdown, crash shutdown, cannot connect now, idle session and idle transaction timeout
            "57P01" | "57P02" | "57P03" | "57P05" | "25P03" => Self::LOST,
            // read-only transaction: a standby after a failover
            "25006" => Self::READ_ONLY,
            // lock not available, query cancelled (statement timeout), object in use
            "55P03" | "57014" | "55006" => Self::wait(Class::Contention),
            // undefined table, column, function, schema; wrong type; cached plan
            "42P01" | "42703" | "42883" | "3F000" | "42804" | "0A000" => Self::STALE,
            // NOT NULL (W10: never the row's fault; a column that nothing fills was added); a view that takes no changes, and
            // other objects that are not what a statement needs
            "23502" | "55000" | "42809" => Self::SCHEMA,
            // privilege, of a table, or by row-level security of a row; a parameter, of the configuration (a time zone
            // that the server does not know) or of a function that a trigger calls for a row
            "42501" | "22023" => Self::PRIVILEGE,
            // an integrity violation reported as a rollback
            "40002" => Self::REFUSED,
            _ => match code.get(..2) {
                Some("08") => Self::LOST,
                // wrong password, no such database
                Some("28" | "3D") => Self::UNREACHABLE,
                Some("40") => Self::wait(Class::Contention),
                Some("53" | "58") => Self::wait(Class::Resources),
                // the data, a constraint, what a trigger raises, a view's check
                Some("22" | "23" | "P0" | "44") => Self::REFUSED,
                // Any other code, of a server or of a pooler in front of it, does not concern the row.
                _ => Self::wait(Class::Other),
            },
        }
    }

    /// <https://www.sqlite.org/rescode.html>; the low byte is the primary code.
    pub(super) fn of_sqlite(code: i32, message: &str) -> Self {
        const NOT_NULL: i32 = 1299;
        let is_view = message.contains("cannot modify") && message.contains("is a view");
        match (code, code & 0xff) {
            (_, 1) if is_view => Self::SCHEMA,
            // W10; PERM, CORRUPT, SCHEMA, AUTH, NOTADB
            (NOT_NULL, _) | (_, 3 | 11 | 17 | 23 | 26) => Self::SCHEMA,
            // ERROR has many meanings; only missing names are classified
            (_, 1) if message.contains("no such") || message.contains("has no column") => Self::STALE,
            // BUSY, LOCKED, INTERRUPT
            (_, 5 | 6 | 9) => Self::wait(Class::Contention),
            // READONLY
            (_, 8) => Self::READ_ONLY,
            // NOMEM, IOERR, FULL
            (_, 7 | 10 | 13) => Self::wait(Class::Resources),
            // CANTOPEN
            (_, 14) => Self::UNREACHABLE,
            // TOOBIG, CONSTRAINT, MISMATCH, RANGE
            (_, 18 | 19 | 20 | 25) => Self::REFUSED,
            _ => Self::wait(Class::Other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::LabelValue as _;

    #[test]
    fn w9_a_server_that_is_away_busy_or_read_only_is_worth_another_try() {
        for (code, class) in [
            ("40P01", "contention"),
            ("40001", "contention"),
            ("55P03", "contention"),
            ("57014", "contention"),
            ("57P01", "connection"),
            ("57P03", "connection"),
            ("08006", "connection"),
            ("08P01", "connection"),
            ("28P01", "connection"),
            ("25006", "read_only"),
            ("53300", "resources"),
            ("53100", "resources"),
            ("42703", "other"),
            ("23502", "other"),
            ("25P03", "connection"),
            ("26000", "other"),
            ("22023", "other"),
            ("55000", "other"),
            ("42809", "other"),
        ] {
            let verdict = Classification::of_sqlstate(code);
            assert!(verdict.retriable(), "{code}");
            assert_eq!(verdict.class.label(), class, "{code}");
        }
        for code in [4, 5, 6, 8, 10, 13, 14, 15, 261, 517, 1299] {
            assert!(Classification::of_sqlite(code, "").retriable(), "{code}");
        }
    }

    #[test]
    fn w9_a_row_that_breaks_a_constraint_is_refused_for_good() {
        for code in [
            "23503", "23505", "23514", "22001", "22003", "22P02", "P0001", "40002",
        ] {
            assert!(!Classification::of_sqlstate(code).retriable(), "{code}");
        }
        for code in [19, 275, 787, 2067] {
            assert!(!Classification::of_sqlite(code, "").retriable(), "{code}");
        }
    }
}
