-- The rows that headcount_event_visits leaves out. A number, of which the planner expects few to be 1: of a comparison it would
-- expect a third, and read the whole table for them.
CREATE INDEX CONCURRENTLY IF NOT EXISTS headcount_event_visits_large
    ON {event.table} (
        left({event.metadata} ->> 'community_id', 256),
        (CASE WHEN {event.metadata} ->> 'source' = 'headcount' THEN 1 ELSE 0 END),
        {event.user_id},
        {event.timestamp},
        {event.start_of_type}
    ) WHERE (CASE WHEN {event.size} <= 500 THEN 0 ELSE 1 END) = 1
