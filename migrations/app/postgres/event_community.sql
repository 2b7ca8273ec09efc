-- The events of one community in one window of time, the sidecar's and the app's apart, with their types: the statistics
-- read these and no others, and find the sidecar's first of a community at once. Not of some types alone: routes may write
-- further ones at any time, and of such an index the planner would not know how many rows a community has. Of the community's
-- key the first characters, as whatever the app writes there must fit into an index.
CREATE INDEX CONCURRENTLY IF NOT EXISTS headcount_event_community
    ON {event.table} (
        left({event.metadata} ->> 'community_id', 256),
        (CASE WHEN {event.metadata} ->> 'source' = 'headcount' THEN 1 ELSE 0 END),
        {event.timestamp},
        {event.start_of_type}
    )
