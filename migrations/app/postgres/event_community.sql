-- The page views of one community in one window of time: the statistics read these and no others.
CREATE INDEX CONCURRENTLY IF NOT EXISTS headcount_event_community
    ON {event.table} (({event.metadata} ->> 'community_id'), {event.timestamp})
    WHERE {event.event_type} = 'page_view'
