-- The page views of `record.events = "own"`, in the columns that an app's event table has. Users are named by the app's
-- key without a foreign key: deleting one is the app's, and not stopped here.
CREATE TABLE headcount.page_view (
    id bigserial NOT NULL,
    user_id {user_key} NOT NULL,
    event_type text NOT NULL,
    description text NOT NULL,
    metadata jsonb NOT NULL,
    ip_address inet,
    user_agent text NOT NULL,
    device_info jsonb NOT NULL,
    location_data jsonb NOT NULL,
    "timestamp" timestamptz NOT NULL,
    PRIMARY KEY {primary_key}
) {partitions}
