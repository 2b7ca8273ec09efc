-- All that visits are counted by, in the order of visitors and times, where record.visits_index says so: past visitors are
-- sorted by visits without a look into the table. `metadata` is in it because Postgres makes no index-only scan without the
-- column of an expression. Only rows that are small for certain: a larger one would not fit into a page, and the app's INSERT
-- would fail. jsonb takes at most four times the bytes of its text.
CREATE INDEX CONCURRENTLY IF NOT EXISTS headcount_event_visits
    ON {event.table} (
        left({event.metadata} ->> 'community_id', 256),
        (CASE WHEN {event.metadata} ->> 'source' = 'headcount' THEN 1 ELSE 0 END),
        {event.user_id},
        {event.timestamp},
        {event.event_type}
    ) INCLUDE ({event.metadata}) WHERE {event.size} <= 500
