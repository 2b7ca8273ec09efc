//! What the app's tables say in the end, compared with what was seen.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{PgPool, SqlitePool};

use super::crowd::{Crowd, Visit};

/// The app's tables, read past everything else.
pub enum Tables {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

impl Tables {
    pub fn sqlite(url: &str) -> Self {
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_lazy(url)
            .expect("a URL");
        Self::Sqlite(pool)
    }

    /// How many rows each address has that the sidecar wrote.
    async fn rows(&self) -> HashMap<String, i64> {
        let sql = "SELECT metadata ->> 'url', count(*) FROM accounts_userevent
                   WHERE metadata ->> 'source' = 'headcount' GROUP BY 1";
        let rows: Vec<(String, i64)> = match self {
            Self::Postgres(pool) => sqlx::query_as(sql).fetch_all(pool).await,
            Self::Sqlite(pool) => sqlx::query_as(sql).fetch_all(pool).await,
        }
        .expect("rows");
        rows.into_iter().collect()
    }

    /// `pages_visited` by token.
    async fn pages(&self) -> HashMap<String, i64> {
        let sql = "SELECT session_id, CAST(pages_visited AS bigint) FROM accounts_usersession";
        let rows: Vec<(String, i64)> = match self {
            Self::Postgres(pool) => sqlx::query_as(sql).fetch_all(pool).await,
            Self::Sqlite(pool) => sqlx::query_as(sql).fetch_all(pool).await,
        }
        .expect("rows");
        rows.into_iter().collect()
    }
}

/// What became of the views.
pub struct Verdict {
    /// Requests sent.
    pub sent: usize,
    /// Of those, answered whole and with 200: views that must be there.
    pub answered: usize,
    /// Answered otherwise, by status.
    pub wrong: BTreeMap<u16, usize>,
    /// Without a whole answer: their view may be there or not.
    pub unanswered: usize,
    /// Of those, there.
    pub unanswered_there: usize,
    /// Answered and not there.
    pub lost: Vec<Visit>,
    /// There more than once.
    pub twice: Vec<String>,
    /// There, though nobody asked for it.
    pub foreign: Vec<String>,
    /// Sessions whose `pages_visited` is not the number of their rows: with what it is more.
    pub drift: BTreeMap<usize, i64>,
}

impl Verdict {
    /// Compares visits with tables that nothing is on its way to any more.
    pub async fn of(crowd: &Crowd, visits: &[Visit], tables: &Tables) -> Self {
        let (rows, pages) = (tables.rows().await, tables.pages().await);
        let mut verdict = Self {
            sent: visits.len(),
            answered: 0,
            wrong: BTreeMap::new(),
            unanswered: 0,
            unanswered_there: 0,
            lost: Vec::new(),
            twice: Vec::new(),
            foreign: Vec::new(),
            drift: BTreeMap::new(),
        };
        let mut unexplained = rows.clone();
        for visit in visits {
            let there = unexplained.remove(&visit.path);
            if there.is_some_and(|rows| rows > 1) {
                verdict.twice.push(visit.path.clone());
            }
            match (visit.status, there) {
                (Some(200), there) => {
                    verdict.answered += 1;
                    if there.is_none() {
                        verdict.lost.push(visit.clone());
                    }
                }
                (Some(other), _) => *verdict.wrong.entry(other).or_default() += 1,
                (None, there) => {
                    verdict.unanswered += 1;
                    verdict.unanswered_there += usize::from(there.is_some());
                }
            }
        }
        verdict.foreign = unexplained.into_keys().collect();
        for (place, token) in crowd.tokens().enumerate() {
            let of_session = rows
                .iter()
                .filter(|(path, _)| crowd.whose(path) == Some(place))
                .map(|(_, rows)| rows)
                .sum::<i64>();
            let drift = pages[token] - of_session;
            if drift != 0 {
                verdict.drift.insert(place, drift);
            }
        }
        verdict
    }

    /// Every answer was right.
    pub fn the_site_never_failed(&self) {
        assert!(self.wrong.is_empty() && self.unanswered == 0, "{self}");
    }

    /// Nothing is there twice, or was made up, and the counters are what the rows are.
    pub fn nothing_counts_twice(&self) {
        assert!(self.twice.is_empty(), "twice: {:?}\n{self}", self.twice);
        assert!(self.foreign.is_empty(), "foreign: {:?}\n{self}", self.foreign);
        assert!(self.drift.is_empty(), "{self}");
    }

    /// Every view that was answered is there, once, and every answer was right.
    pub fn is_perfect(&self) {
        self.the_site_never_failed();
        self.nothing_counts_twice();
        let paths = self.lost.iter().map(|visit| &visit.path);
        assert!(
            self.lost.is_empty(),
            "lost: {:?}\n{self}",
            paths.collect::<Vec<_>>()
        );
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} views sent, {} answered, wrong answers {:?}, {} unanswered ({} of them recorded), {} lost, \
             {} twice, {} foreign, pages_visited beyond the rows {:?}",
            self.sent,
            self.answered,
            self.wrong,
            self.unanswered,
            self.unanswered_there,
            self.lost.len(),
            self.twice.len(),
            self.foreign.len(),
            self.drift
        )
    }
}
