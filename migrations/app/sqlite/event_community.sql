-- The page views of one community in one window of time: the statistics read these and no others.
CREATE INDEX IF NOT EXISTS headcount_event_community
    ON {event.table} (CAST(json_extract({event.metadata}, '$.community_id') AS TEXT), {event.timestamp})
    WHERE {event.event_type} = 'page_view'
