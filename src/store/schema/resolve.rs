//! Resolves the configuration against the live schema. Pure.
//! Every used column is found and of a usable type, or there is a problem for each that is not.

mod events;
mod profile;

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono_tz::Tz;

use super::check::{Check, Holds};
use super::right::{Effect, OF_COUNTERS, OF_LEDGER, OWN, OwnRight, OwnTables};
use super::{
    AppSchema, Column, CommunityTable, CounterColumns, Dialect, EventTable, LeftOut, LiveSchema, LiveTable,
    LookupTable, Needs, Privilege, ProfileTable, Requirements, ResolvedSchema, Rights, SchemaProblem,
    SessionTable, SessionUser,
};
use crate::config::{self, Schema, SessionKind};
use crate::store::ledger::LedgerProblem;

/// Checks the live schema against what the sidecar does with it.
pub(in crate::store) fn resolve(wanted: &Requirements, live: &LiveSchema) -> ResolvedSchema {
    let names = &wanted.names;
    let mut check = Check::new(live, wanted.time_zone.unwrap_or(Tz::UTC));
    let found = check.tables(wanted);
    let usable = check.usable(wanted, &found);
    check.partition(wanted);
    let lookups = check.lookups(&names.lookup, usable.community.as_ref());
    if let Some(profile) = &usable.profile {
        check.references(profile, usable.session.as_ref(), usable.event.as_ref());
    }
    check.account(wanted, live);

    check.zone_of_moments(wanted.time_zone);
    check.own_tables(wanted);
    let user = live.dialect.quoted(&live.user);
    check.problems.extend(check.lacking.problems(&user));
    let ledger = match &live.ledger_tables {
        OwnTables::Missing => Some(LedgerProblem::Missing),
        OwnTables::Usable | OwnTables::Forbidden { .. } => check.lacking.of_ledger(&user),
    };
    let can_be_used = check.keys_agree() && !usable.lacks_configured(wanted);
    ResolvedSchema {
        lacks_events: wanted.needs.events && usable.event.as_ref().is_none_or(|event| event.insert.is_none()),
        app: if can_be_used {
            usable.app(wanted, live, lookups).map(Arc::new)
        } else {
            None
        },
        problems: check.problems,
        needed: check.needed,
        lacking: check.lacking,
        ledger,
        has_own_partitions: live.has_own_partitions,
        user: live.user.clone(),
        database: live.database.clone(),
        unindexed: unindexed(names, live),
        read_only: live.read_only,
        session_trigger: live.session_trigger,
        site: live.site.clone(),
    }
}

/// The app's tables that are used, as far as they are there.
struct FoundTables<'t> {
    session: Option<&'t LiveTable>,
    event: Option<&'t LiveTable>,
    profile: Option<&'t LiveTable>,
    community: Option<&'t LiveTable>,
}

/// The same with their columns, as far as these can be used.
struct UsableTables {
    session: Option<SessionTable>,
    /// Whether page views can be counted in the sessions.
    adds_pages: bool,
    event: Option<EventTable>,
    profile: Option<ProfileTable>,
    community: Option<CommunityTable>,
    counters: Option<CounterColumns>,
}

impl UsableTables {
    /// Whether there is a table in the configuration beside sessions and events that cannot be used.
    fn lacks_configured(&self, wanted: &Requirements) -> bool {
        let Requirements { names, needs, .. } = wanted;
        (needs.profiles(names) && self.profile.is_none())
            || (!names.community.table.is_empty() && self.community.is_none())
    }

    /// What the sidecar works with; none without sessions, or without all lookups.
    fn app(
        self,
        wanted: &Requirements,
        live: &LiveSchema,
        lookups: Option<BTreeMap<String, LookupTable>>,
    ) -> Option<AppSchema> {
        Some(AppSchema {
            session: self.session?,
            adds_pages: self.adds_pages,
            event: self.event,
            profile: self.profile,
            community: self.community,
            lookups: lookups?,
            left_out: LeftOut::default(),
            adds_deltas: wanted.counters.is_some() && live.counter_tables.take_deltas(),
            counters: self.counters,
        })
    }
}

impl<'a> Check<'a> {
    /// Nothing is checked yet.
    fn new(live: &'a LiveSchema, zone: Tz) -> Self {
        Self {
            live,
            zone,
            without_zone: Vec::new(),
            problems: Vec::new(),
            needed: Rights::default(),
            lacking: Rights::default(),
            is_of_counters: false,
        }
    }

    /// Which of the tables that are used are there.
    fn tables(&mut self, wanted: &Requirements) -> FoundTables<'a> {
        let (live, names) = (self.live, &wanted.names);
        let session = self.session_table(live.session.as_ref(), &names.session.table, wanted.kind);
        let event = self.event_table(live.event.as_ref(), &names.event.table, wanted.needs);
        let has_profiles = wanted.needs.profiles(names);
        let profile =
            has_profiles.then(|| self.table(live.profile.as_ref(), "profile", &names.profile.table));
        let table = &names.community.table;
        let has_communities = !table.is_empty();
        let community = has_communities.then(|| self.table(live.community.as_ref(), "community", table));
        FoundTables {
            session,
            event,
            profile: profile.flatten(),
            community: community.flatten(),
        }
    }

    /// Which of their columns can be used.
    fn usable(&mut self, wanted: &Requirements, found: &FoundTables<'_>) -> UsableTables {
        let Requirements { names, needs, .. } = wanted;
        let needs = *needs;
        let mut adds_pages = needs.pages_visited;
        let session = found.session.and_then(|table| {
            let session = self.session(table, wanted)?;
            adds_pages &= self.adds_pages(table, &session, needs);
            Some(session)
        });
        let event = found
            .event
            .and_then(|table| self.event(table, &names.event, needs));
        let profile = found
            .profile
            .and_then(|table| self.profile(table, &names.profile.columns, needs));
        let community = found
            .community
            .and_then(|table| self.community(table, &names.community.columns));
        let counters = match (&wanted.counters, &self.live.community, &community) {
            (Some(counters), Some(table), Some(_)) => {
                let keys = &names.community.columns;
                self.counters(table, counters, [&keys.id, &keys.slug])
            }
            _ => None,
        };
        UsableTables {
            session,
            adds_pages,
            event,
            profile,
            community,
            counters,
        }
    }
}

impl Check<'_> {
    /// The rights on the sidecar's own tables.
    fn own_tables(&mut self, wanted: &Requirements) {
        let live = self.live;
        let ledger = (wanted.writes, OF_LEDGER, &live.ledger_tables, Effect::Ledger);
        let counters = (
            wanted.counters.is_some(),
            OF_COUNTERS,
            &live.counter_tables,
            Effect::Counters,
        );
        for (are_wanted, tables, found, effect) in [ledger, counters] {
            if are_wanted {
                self.needed.use_of(OWN, effect);
                self.needed.on_own(OwnRight::of(tables), effect);
                self.lacking.of_own(found, effect);
            }
        }
    }

    /// Our own event table has partitions where these are wanted, and one for the next month.
    fn partition(&mut self, wanted: &Requirements) {
        let is_one = self.live.event.as_ref().is_some_and(LiveTable::is_own) && !self.live.has_own_partitions;
        if wanted.by_month && is_one {
            self.problems.push(SchemaProblem::NotPartitioned);
        }
        if let Some(partition) = &self.live.lacks_partition {
            let (partition, user) = (partition.clone(), self.live.dialect.quoted(&self.live.user));
            self.problems.push(SchemaProblem::NoPartition { partition, user });
        }
    }

    /// What sessions and events refer to must be the profile's key.
    fn references(
        &mut self,
        profile: &ProfileTable,
        session: Option<&SessionTable>,
        event: Option<&EventTable>,
    ) {
        // What is in Django's data is compared as text.
        if let Some(session) = session
            && let SessionUser::Column(user_id) = &session.user
        {
            self.session_refers(&session.table, user_id, profile);
        }
        if let Some(event) = event {
            self.refers("event", &event.table, &event.user_id, profile);
        }
    }

    /// Whether references are of the types of the keys that they refer to.
    fn keys_agree(&self) -> bool {
        !self.problems.iter().any(|problem| {
            matches!(
                problem,
                SchemaProblem::KeysDisagree { .. } | SchemaProblem::AccountsDisagree { .. }
            )
        })
    }

    /// Columns of moments without a zone need one that the database knows.
    fn zone_of_moments(&mut self, time_zone: Option<Tz>) {
        if self.without_zone.is_empty() {
            return;
        }
        let columns = std::mem::take(&mut self.without_zone);
        let problem = match time_zone {
            Some(zone) if self.live.lacks_zone => SchemaProblem::UnknownTimeZone { zone, columns },
            // SQLite has only such moments; Django's are in UTC.
            None if self.live.dialect == Dialect::Postgres => SchemaProblem::NoTimeZone { columns },
            _ => return,
        };
        self.problems.push(problem);
    }
}

/// Lookups whose key no index finds, with table and column.
fn unindexed(names: &Schema, live: &LiveSchema) -> Vec<(String, String, String)> {
    let lookups = names.lookup.iter();
    let unindexed = lookups.filter(|(name, _)| live.lookups.get(*name).is_some_and(|live| !live.has_index));
    unindexed
        .map(|(name, lookup)| (name.clone(), lookup.table.clone(), lookup.key.clone()))
        .collect()
}

impl Check<'_> {
    fn session_table<'t>(
        &mut self,
        found: Option<&'t LiveTable>,
        configured: &str,
        kind: SessionKind,
    ) -> Option<&'t LiveTable> {
        if found.is_none() && kind == SessionKind::Django {
            let table = configured.to_owned();
            self.problems.push(SchemaProblem::NoDjangoSessions { table });
            return None;
        }
        self.table(found, "session", configured)
    }

    fn session(&mut self, table: &LiveTable, wanted: &Requirements) -> Option<SessionTable> {
        let names = &wanted.names.session.columns;
        let section = match wanted.kind {
            SessionKind::Table => "session",
            SessionKind::Django => "django_session",
        };
        let mut column = |wanted| self.column(table, section, wanted);
        let (user, session_id) = match wanted.kind {
            SessionKind::Table => (
                column(("user_id", &names.user_id, Holds::Key)).map(SessionUser::Column),
                column(("session_id", &names.session_id, Holds::Text)),
            ),
            SessionKind::Django => (
                column(("session_data", &names.user_id, Holds::Text)).map(SessionUser::Encoded),
                column(("session_key", &names.session_id, Holds::Text)),
            ),
        };
        let expires_at_key = match wanted.kind {
            SessionKind::Table => "expires_at",
            SessionKind::Django => "expire_date",
        };
        let mut optional = |wanted| self.optional(table, section, wanted);
        let id = optional(("id", &names.id, Holds::Key));
        let pages_visited = optional(("pages_visited", &names.pages_visited, Holds::Count));
        let started_at = optional(("started_at", &names.started_at, Holds::Moment));
        let ended_at = optional(("ended_at", &names.ended_at, Holds::Moment));
        let expires_at = optional((expires_at_key, &names.expires_at, Holds::Moment));
        let is_active = optional(("is_active", &names.is_active, Holds::Flag));
        let is_ended = optional(("is_ended", &names.is_ended, Holds::Flag));
        let is_unique = |column: &Column| table.find(&column.name).is_some_and(|live| live.is_unique);
        let session = SessionTable {
            has_unique_rows: session_id.as_ref().is_some_and(&is_unique)
                && id.as_ref().is_ok_and(|id| id.as_ref().is_none_or(&is_unique)),
            table: table.name.clone(),
            id: id.ok()?,
            user: user?,
            session_id: session_id?,
            token_hash: wanted.token_hash,
            pages_visited: pages_visited.ok()?,
            started_at: started_at.ok()?,
            ended_at: ended_at.ok()?,
            expires_at: expires_at.ok()?,
            is_active: is_active.ok()?,
            is_ended: is_ended.ok()?,
        };
        let mut read = vec![session.user.column(), &session.session_id];
        let optional = [
            &session.id,
            &session.pages_visited,
            &session.started_at,
            &session.ended_at,
            &session.expires_at,
            &session.is_active,
            &session.is_ended,
        ];
        read.extend(optional.into_iter().flatten());
        self.may(table, Privilege::Select, &read);
        // Of a view's columns that cannot be told.
        if !table.fixed.is_view
            && let Some(live) = table.find(&session.session_id.name)
            && !live.is_unique
        {
            self.problems.push(SchemaProblem::LooseToken {
                table: table.name.to_string(),
                column: session.session_id.to_string(),
                is_indexed: live.is_indexed,
            });
        }
        Some(session)
    }

    /// Whether page views can be counted in the sessions.
    fn adds_pages(&mut self, table: &LiveTable, session: &SessionTable, needs: Needs) -> bool {
        let counter = session.page_counter();
        needs.pages_visited
            && counter.is_some_and(|counter| self.may(table, Privilege::Update, &[counter.pages_visited]))
    }

    fn community(&mut self, table: &LiveTable, names: &config::CommunityColumns) -> Option<CommunityTable> {
        let id = self.column(table, "community", ("id", &names.id, Holds::Key));
        let slug = self.optional(table, "community", ("slug", &names.slug, Holds::Text));
        let community = CommunityTable {
            table: table.name.clone(),
            id: id?,
            slug: slug.ok()?,
        };
        let mut read = vec![&community.id];
        read.extend(&community.slug);
        self.may(table, Privilege::Select, &read);
        Some(community)
    }
}
