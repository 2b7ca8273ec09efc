-- The counters of communities: what has been counted, from which the app's own columns are written. All of it can be
-- counted again from the events. Used with `counters.enabled` only.
CREATE TABLE headcount.counter (
    community text PRIMARY KEY,
    page_views bigint NOT NULL DEFAULT 0,
    total_visitors bigint NOT NULL DEFAULT 0,
    -- The sidecar's first view: what the app recorded itself counts until then.
    first_view timestamptz,
    -- False where the numbers must be counted from the events before anything is added to them.
    counted boolean NOT NULL DEFAULT false,
    -- As last written to the app's column.
    current_visitors bigint NOT NULL DEFAULT 0,
    -- The app's columns are to be written.
    pending boolean NOT NULL DEFAULT false,
    -- When the numbers were last compared with the events.
    checked_at timestamptz
);
CREATE INDEX counter_pending ON headcount.counter (community) WHERE pending;
CREATE INDEX counter_uncounted ON headcount.counter (community) WHERE NOT counted;
CREATE INDEX counter_present ON headcount.counter (community) WHERE current_visitors <> 0;

-- Who has been in a community, so that a visitor counts once.
CREATE TABLE headcount.counter_visitor (
    community text NOT NULL,
    user_id text NOT NULL,
    PRIMARY KEY (community, user_id)
);

-- What batches have added since: written in the transaction of their events, and only inserted there, so that two
-- sidecars never wait for each other.
CREATE TABLE headcount.counter_delta (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    community text NOT NULL,
    user_id text NOT NULL,
    views bigint NOT NULL,
    first_view timestamptz
);
CREATE INDEX counter_delta_community ON headcount.counter_delta (community, id);

-- Which sidecar adds them up and writes the app's columns: one row.
CREATE TABLE headcount.counter_lease (
    name text PRIMARY KEY,
    holder uuid,
    expires_at timestamptz,
    -- When the app's columns were last written.
    round_at timestamptz,
    -- When all counters had been compared with the events.
    passed_at timestamptz,
    -- What counts, in the configuration of the last holder.
    definition text
);
INSERT INTO headcount.counter_lease (name) VALUES ('counters');

INSERT INTO headcount.format (part, version) VALUES ('counters', 1);
