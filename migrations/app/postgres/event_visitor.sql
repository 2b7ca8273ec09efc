-- The events of one visitor of one community, in the order of their times: who was there before.
CREATE INDEX CONCURRENTLY IF NOT EXISTS headcount_event_visitor
    ON {event.table} (
        ({event.metadata} ->> 'community_id'),
        {event.user_id},
        {event.timestamp}
    )
