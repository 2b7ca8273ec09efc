-- The page views of `record.events = "own"`, in the columns that an app's event table has. Users are named by the app's
-- key without a foreign key: deleting one is the app's, and not stopped here.
CREATE TABLE headcount_page_view (
    id integer PRIMARY KEY AUTOINCREMENT,
    user_id {user_key} NOT NULL,
    event_type text NOT NULL,
    description text NOT NULL,
    metadata text NOT NULL,
    ip_address char(39),
    user_agent text NOT NULL,
    device_info text NOT NULL,
    location_data text NOT NULL,
    timestamp datetime NOT NULL
)
