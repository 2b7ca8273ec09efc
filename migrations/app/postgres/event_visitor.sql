-- The events of one visitor of one community, in the order of their times: who was there before. The visitor is first, as
-- the planner would else read a whole community by this index, and look into `metadata` of each event whose it is. Of the
-- community's key the first characters, as whatever the app writes there must fit into an index.
CREATE INDEX CONCURRENTLY IF NOT EXISTS headcount_event_visitor
    ON {event.table} (
        {event.user_id},
        left({event.metadata} ->> 'community_id', 256),
        {event.timestamp}
    )
