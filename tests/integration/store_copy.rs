//! Events are written with COPY where that does what INSERT does, and with INSERT elsewhere: the rows are the same.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use headcount::batch::Batch;
use headcount::page_view::PageView;
use headcount::page_view::device::DeviceInfo;
use headcount::store::{self, StoreError};

use crate::store_site::{SessionRow, Site, Variant, another, as_role, batch, page_view};
use crate::support::redis::eventually;

/// Keeps the words of each statement that a row of the event table comes from.
const HEARD: &str = "
    CREATE TABLE heard (statement text);
    CREATE FUNCTION hear() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
        BEGIN INSERT INTO heard VALUES (substring(current_query() FROM '(COPY|INSERT) ')); RETURN NEW; END $$;";

/// Every row comes by INSERT then.
const A_RULE: &str = "DO ALSO NOTHING";

async fn written(site: &Site, views: Vec<PageView>) -> Batch {
    let alice = site.member("alice").await;
    let session = site
        .session(&alice, "token-of-alice", SessionRow::default())
        .await;
    let gardening = site.community("gardening").await;
    let batch = batch(&session, &gardening, views);
    site.store.apply(&batch).await.expect("it is written");
    batch
}

fn one_view() -> Vec<PageView> {
    vec![page_view("2024-03-01T10:00:00Z")]
}

async fn heard(site: &Site) -> String {
    site.text("SELECT coalesce(string_agg(DISTINCT statement, ' '), '') FROM heard")
        .await
}

fn event_table(site: &Site) -> String {
    site.table(&site.config.schema.event.table)
}

/// Tables, with whatever keys and names, and tables of partitions. Triggers and defaults do what they do for INSERT.
#[tokio::test]
async fn w28_a_table_gets_its_events_with_copy_and_triggers_and_defaults_are_as_ever() {
    for variant in [Variant::PostgresDefault, Variant::PostgresRenamed] {
        let site = Site::new(variant).await;
        let table = event_table(&site);
        site.execute(&format!(
            "{HEARD}
             ALTER TABLE {table} ADD noted text NOT NULL DEFAULT 'by default', ADD length int GENERATED ALWAYS AS (7) STORED;
             CREATE TRIGGER hear BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION hear();
             CREATE TRIGGER hear_after AFTER INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION hear();
             CREATE TRIGGER hear_all AFTER INSERT ON {table} FOR EACH STATEMENT EXECUTE FUNCTION hear();"
        ))
        .await;
        written(
            &site,
            vec![
                page_view("2024-03-01T10:00:00Z"),
                page_view("2024-03-01T10:00:01Z"),
            ],
        )
        .await;
        assert_eq!(heard(&site).await, "COPY", "{variant:?}");
        assert_eq!(
            site.text("SELECT count(*)::text FROM heard").await,
            "5",
            "{variant:?}"
        );
        let filled = format!("SELECT string_agg(noted || length, ', ') FROM {table}");
        assert_eq!(site.text(&filled).await, "by default7, by default7");
    }
    let site = Site::new(Variant::PostgresDefault).await;
    site.execute(&format!(
        "{HEARD}
         ALTER TABLE accounts_userevent RENAME TO before;
         CREATE TABLE accounts_userevent (LIKE before INCLUDING IDENTITY) PARTITION BY RANGE (timestamp);
         CREATE SEQUENCE ids; ALTER TABLE accounts_userevent ALTER id DROP IDENTITY IF EXISTS;
         ALTER TABLE accounts_userevent ALTER id SET DEFAULT nextval('ids');
         CREATE TABLE march PARTITION OF accounts_userevent FOR VALUES FROM ('2024-03-01') TO ('2024-04-01');
         CREATE TRIGGER hear BEFORE INSERT ON accounts_userevent FOR EACH ROW EXECUTE FUNCTION hear();"
    ))
    .await;
    written(&site, one_view()).await;
    assert_eq!(heard(&site).await, "COPY");
    assert_eq!(site.text("SELECT count(*)::text FROM march").await, "1");
}

/// Found out when the schema is read, not by trying.
#[tokio::test]
async fn w28_where_copy_would_do_something_else_than_insert_it_is_insert() {
    let view = "ALTER TABLE accounts_userevent RENAME TO events_of_all;
                CREATE VIEW accounts_userevent AS SELECT * FROM events_of_all;";
    let on = |table: &str| {
        format!("CREATE TRIGGER hear BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION hear();")
    };
    let cases = [
        ("a view", format!("{view} {}", on("events_of_all"))),
        (
            "a view with a trigger in its place",
            format!(
                "{view} {}
                 CREATE FUNCTION instead() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                     INSERT INTO events_of_all (user_id, event_type, description, metadata, ip_address, user_agent,
                                                device_info, location_data, timestamp)
                     VALUES (NEW.user_id, NEW.event_type, NEW.description, NEW.metadata, NEW.ip_address,
                             NEW.user_agent, NEW.device_info, NEW.location_data, NEW.timestamp);
                     RETURN NEW; END $$;
                 CREATE TRIGGER instead INSTEAD OF INSERT ON accounts_userevent
                 FOR EACH ROW EXECUTE FUNCTION instead();",
                on("events_of_all")
            ),
        ),
        (
            "a rule",
            format!(
                "{} CREATE TABLE copies (user_id bigint);
                 CREATE RULE also AS ON INSERT TO accounts_userevent
                 DO ALSO INSERT INTO copies VALUES (NEW.user_id);",
                on("accounts_userevent")
            ),
        ),
        (
            "moments in a zone, which the server converts",
            format!(
                "ALTER TABLE accounts_userevent ALTER timestamp TYPE timestamp
                 USING timestamp AT TIME ZONE 'Europe/Berlin'; {}",
                on("accounts_userevent")
            ),
        ),
    ];
    for (what, sql) in cases {
        let zone = what
            .starts_with("moments")
            .then(|| "Europe/Berlin".parse().expect("a zone"));
        let site = Site::with(Variant::PostgresDefault, |config| {
            config.database.time_zone = zone;
        })
        .await;
        site.execute(&format!("{HEARD} {sql}")).await;
        written(&site, one_view()).await;
        assert_eq!(heard(&site).await, "INSERT", "{what}");
        let events = site.events().await;
        let hour = if zone.is_some() {
            "2024-03-01 11"
        } else {
            "2024-03-01 10"
        };
        assert!(
            events.len() == 1 && events[0].timestamp.starts_with(hour),
            "{what}: {events:?}"
        );
        if what == "a rule" {
            assert_eq!(site.text("SELECT count(*)::text FROM copies").await, "1");
        }
    }
}

#[tokio::test]
async fn w28_behind_row_level_security_it_is_insert() {
    let site = Site::new(Variant::PostgresDefault).await;
    let role = format!("sidecar_{}", uuid::Uuid::new_v4().simple());
    site.execute(&format!(
        "{HEARD}
         CREATE TRIGGER hear BEFORE INSERT ON accounts_userevent FOR EACH ROW EXECUTE FUNCTION hear();
         CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA public, headcount TO {role};
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public, headcount TO {role};
         GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role};
         ALTER TABLE accounts_userevent ENABLE ROW LEVEL SECURITY;
         CREATE POLICY all_of_them ON accounts_userevent TO {role} USING (true) WITH CHECK (true);"
    ))
    .await;
    let batch = written(&site, one_view()).await;
    assert_eq!(heard(&site).await, "COPY", "the owner is above it");
    site.execute("DELETE FROM heard").await;
    let restricted = store::open(&as_role(&site.config, &role)).expect("a store");
    restricted.apply(&another(&batch)).await.expect("it is written");
    assert_eq!(heard(&site).await, "INSERT");
    restricted.close().await;
    site.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .await;
}

/// The sidecar runs, and has read the schema: COPY would go past the rule, and is refused behind row-level security.
#[tokio::test]
async fn w28_what_is_made_while_the_sidecar_runs_gets_each_row() {
    let site = Site::new(Variant::PostgresDefault).await;
    let role = format!("sidecar_{}", uuid::Uuid::new_v4().simple());
    site.execute(&format!(
        "{HEARD} CREATE TABLE copies (user_id bigint);
         CREATE TRIGGER hear BEFORE INSERT ON accounts_userevent FOR EACH ROW EXECUTE FUNCTION hear();
         CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA public, headcount TO {role};
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public, headcount TO {role};
         GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role};"
    ))
    .await;
    let batch = written(&site, one_view()).await;
    let restricted = store::open(&as_role(&site.config, &role)).expect("a store");
    restricted.apply(&another(&batch)).await.expect("it is written");
    assert_eq!(heard(&site).await, "COPY");
    let rewriting = "CREATE RULE also AS ON INSERT TO accounts_userevent
                DO ALSO INSERT INTO copies VALUES (NEW.user_id)";
    let security = format!(
        "DROP RULE also ON accounts_userevent; ALTER TABLE accounts_userevent ENABLE ROW LEVEL SECURITY;
         CREATE POLICY all_of_them ON accounts_userevent TO {role} USING (true) WITH CHECK (true)"
    );
    for (change, store, copies) in [(rewriting, &site.store, "1"), (&*security, &restricted, "1")] {
        site.execute(&format!("DELETE FROM heard; {change}")).await;
        let next = another(&batch);
        let error = store.apply(&next).await.expect_err("not with COPY");
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        assert_eq!(heard(&site).await, "", "nothing is written");
        store.apply(&next).await.expect("it is written");
        assert_eq!(heard(&site).await, "INSERT", "{change}");
        assert_eq!(site.text("SELECT count(*)::text FROM copies").await, copies);
    }
    assert_eq!(site.events().await.len(), 4);
    restricted.close().await;
    site.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .await;
}

/// Texts that mean something to COPY, or to JSON.
fn odd_views() -> Vec<PageView> {
    let odd = [
        "\\N",
        "\\.",
        "a\tb\nc\rd\\e",
        "\\\\",
        "\"quoted\" 'twice'",
        "\u{8}\u{b}\u{c}",
        "ä👩‍🚀",
        "",
        "\u{0}NUL",
    ];
    let view = |odd: &&str| PageView {
        url: format!("/{odd}/"),
        referrer: Some((*odd).into()),
        search_query: Some((*odd).into()),
        user_agent: (*odd).into(),
        client_ip: Some("2001:db8::7".parse().expect("an address")),
        device: Arc::new(DeviceInfo {
            browser: (*odd).into(),
            os: (*odd).into(),
            device: (*odd).into(),
        }),
        ..page_view("2024-03-01T10:00:00.123456789Z")
    };
    let mut views: Vec<PageView> = odd.iter().map(view).collect();
    views.push(PageView {
        client_ip: None,
        ..page_view("2024-02-29T23:59:59.999999Z")
    });
    views
}

/// Every type that a column may have.
#[tokio::test]
async fn w28_copy_and_insert_write_the_same_rows() {
    let types = [
        ("as Django makes them", Variant::PostgresDefault, ""),
        ("with uuids and short texts", Variant::PostgresRenamed, ""),
        (
            "others",
            Variant::PostgresDefault,
            "CREATE DOMAIN agent AS varchar(12); CREATE EXTENSION IF NOT EXISTS citext; CREATE TYPE tone AS ENUM ('low', 'high');
             ALTER TABLE accounts_userevent ALTER user_agent TYPE agent USING user_agent, ALTER device_info TYPE text,
                 ALTER location_data TYPE json, ALTER metadata TYPE json, ALTER event_type TYPE citext,
                 ALTER ip_address TYPE varchar(9) USING host(ip_address), ALTER ip_address DROP NOT NULL,
                 ALTER description TYPE char(8) USING left(description, 8), ALTER timestamp TYPE timestamp(3),
                 ADD tone tone NOT NULL, ADD share numeric(5, 2) NOT NULL, ADD code varchar(3) NOT NULL,
                 ADD odd text NOT NULL, ADD since timestamptz NOT NULL, ADD is_seen bool NOT NULL",
        ),
    ];
    let constants = [
        ("tone", "high"),
        ("share", "1.239"),
        ("code", "abc"),
        ("odd", "a\tb\\N"),
        ("since", "2024-03-01"),
        ("is_seen", "yes"),
    ];
    for (what, variant, sql) in types {
        let site = Site::with(variant, |config| {
            if !sql.is_empty() {
                config.database.time_zone = Some("UTC".parse().expect("a zone"));
                let constants = constants.map(|(column, value)| (column.to_owned(), value.to_owned()));
                config.schema.event.constants.extend(constants);
            }
        })
        .await;
        let (table, key) = (event_table(&site), &site.config.schema.event.columns.id);
        let (at, agent) = (
            &site.config.schema.event.columns.timestamp,
            &site.config.schema.event.columns.user_agent,
        );
        site.execute(&format!(
            "{HEARD} {sql}; CREATE TRIGGER hear BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION hear();"
        ))
        .await;
        let batch = written(&site, odd_views()).await;
        site.execute(&format!("CREATE RULE inserted AS ON INSERT TO {table} {A_RULE}"))
            .await;
        let again = site.reconfigured(|_| {});
        again.apply(&another(&batch)).await.expect("it is written");
        assert_eq!(heard(&site).await, "COPY INSERT", "{what}");
        // Each row twice, but for its key.
        let different = format!(
            "SELECT coalesce(string_agg(entry, E'\\n'), '') FROM (
                 SELECT entry FROM (SELECT (to_jsonb(e) - '{key}')::text || e.\"{agent}\" || e.\"{at}\" AS entry FROM {table} AS e) AS e
                 GROUP BY entry HAVING count(*) % 2 <> 0) AS odd"
        );
        assert_eq!(site.text(&different).await, "", "{what}");
        let rows = site.text(&format!("SELECT count(*)::text FROM {table}")).await;
        assert_eq!(rows, (odd_views().len() * 2).to_string(), "{what}");
    }
}

/// What triggers tell of each row would fill the connection while the rows are still being sent.
#[tokio::test]
async fn w28_triggers_that_tell_much_do_not_stop_the_rows() {
    let site = Site::new(Variant::PostgresDefault).await;
    site.execute(
        "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN RAISE WARNING '%', repeat('a word ', 1000); RETURN NEW; END $$;
         CREATE TRIGGER tell BEFORE INSERT ON accounts_userevent FOR EACH ROW EXECUTE FUNCTION tell();",
    )
    .await;
    let views = (0..3_000).map(|_| page_view("2024-03-01T10:00:00Z")).collect();
    written(&site, views).await;
    assert_eq!(site.events().await.len(), 3_000);
}

/// Of a batch that COPY refuses nothing is there, and the connection is as good as before.
#[tokio::test]
async fn w28_a_batch_that_copy_refuses_leaves_nothing_and_the_next_is_written() {
    let site = Site::new(Variant::PostgresDefault).await;
    let batch = written(&site, one_view()).await;
    site.execute("ALTER TABLE accounts_userevent ADD CHECK (description NOT LIKE '%/bad/')")
        .await;
    let mut bad = another(&batch);
    let views = &mut bad.parts[0].views;
    *views = std::iter::repeat_with(|| views[0].clone()).take(2_000).collect();
    views[5].view.url = "/bad/".into();
    for _ in 0..2 {
        let error = site.store.apply(&bad).await.expect_err("it is refused");
        assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
        assert!(error.summary().starts_with("code 23514"), "{}", error.summary());
        assert!(
            !error.chain().contains("line 6"),
            "no line of the rows: {}",
            error.chain()
        );
        site.store.apply(&another(&batch)).await.expect("it is written");
    }
    assert_eq!(site.events().await.len(), 3);
}

/// While it waits for rows no timeout of the server ends it. Whether the app's own COPY goes on for long is not ours to
/// decide.
#[tokio::test]
async fn w28_a_copy_that_was_abandoned_is_ended_and_no_other() {
    let site = Site::with(Variant::PostgresDefault, |config| {
        config.database.statement_timeout = Duration::from_millis(200);
    })
    .await;
    site.execute("CREATE TABLE imported (entry text)").await;
    let waiting = async |comment: &str| {
        let statement = format!("{comment}COPY imported FROM STDIN");
        let connection = site.postgres().acquire().await.expect("a connection");
        let mut connection = connection.detach();
        let mut copy = connection.copy_in_raw(&statement).await.expect("it begins");
        copy.send(&b"a row\n"[..]).await.expect("it is sent");
        drop(copy);
        connection
    };
    let _ours = waiting("/* headcount */ ").await;
    let _theirs = waiting("").await;
    let left = async || {
        let left = "SELECT coalesce(string_agg(left(query, 5), ' '), '') FROM pg_stat_activity
                    WHERE datname = current_database() AND query ~ '^(/. headcount ./ )?COPY imported' AND state = 'active'";
        site.text(left).await
    };
    eventually(async || {
        // On a busy machine it may not do it in time.
        let _ = site.store.forget_old_parts(Utc::now()).await;
        !left().await.contains("/* he")
    })
    .await;
    assert_eq!(left().await, "COPY ");
}
