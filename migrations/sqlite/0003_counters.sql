-- The counters of communities: what has been counted, from which the app's own columns are written. All of it can be
-- counted again from the events. Used with `counters.enabled` only. Moments are microseconds since 1970.
CREATE TABLE headcount_counter (
    community text PRIMARY KEY,
    page_views integer NOT NULL DEFAULT 0,
    total_visitors integer NOT NULL DEFAULT 0,
    -- The sidecar's first view: what the app recorded itself counts until then.
    first_view integer,
    -- 0 where the numbers must be counted from the events before anything is added to them.
    counted integer NOT NULL DEFAULT 0,
    -- As last written to the app's column.
    current_visitors integer NOT NULL DEFAULT 0,
    -- The app's columns are to be written.
    pending integer NOT NULL DEFAULT 0,
    -- When the numbers were last compared with the events.
    checked_at integer
);
CREATE INDEX headcount_counter_pending ON headcount_counter (community) WHERE pending;
CREATE INDEX headcount_counter_uncounted ON headcount_counter (community) WHERE NOT counted;
CREATE INDEX headcount_counter_present ON headcount_counter (community) WHERE current_visitors <> 0;

-- Who has been in a community, so that a visitor counts once; users are written as in the event table.
CREATE TABLE headcount_counter_visitor (
    community text NOT NULL,
    user_id text NOT NULL,
    PRIMARY KEY (community, user_id)
) WITHOUT ROWID;

-- What batches have added since: written in the transaction of their events.
CREATE TABLE headcount_counter_delta (
    id integer PRIMARY KEY AUTOINCREMENT,
    community text NOT NULL,
    user_id text NOT NULL,
    views integer NOT NULL,
    first_view integer
);
CREATE INDEX headcount_counter_delta_community ON headcount_counter_delta (community, id);

-- Which sidecar adds them up and writes the app's columns: one row.
CREATE TABLE headcount_counter_lease (
    name text PRIMARY KEY,
    holder text,
    expires_at integer,
    -- When the app's columns were last written.
    round_at integer,
    -- When all counters had been compared with the events.
    passed_at integer,
    -- What counts, in the configuration of the last holder.
    definition text
);
INSERT INTO headcount_counter_lease (name) VALUES ('counters');

INSERT INTO headcount_format (part, version) VALUES ('counters', 1);
