-- The events of one community in one window of time, the sidecar's and the app's apart, with their types: the statistics
-- read these and no others, and find the sidecar's first of a community at once.
CREATE INDEX IF NOT EXISTS headcount_event_community
    ON {event.table} (
        CAST(json_extract({event.metadata}, '$.community_id') AS TEXT),
        coalesce(json_extract({event.metadata}, '$.source') = 'headcount', 0),
        {event.timestamp},
        {event.event_type}
    )
