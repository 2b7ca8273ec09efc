-- The events of the visitors of one community, with all that their visits are counted by: who was there before.
CREATE INDEX IF NOT EXISTS headcount_event_visitor
    ON {event.table} (
        CAST(json_extract({event.metadata}, '$.community_id') AS TEXT),
        {event.user_id},
        {event.timestamp},
        coalesce(json_extract({event.metadata}, '$.source') = 'headcount', 0),
        {event.event_type},
        json_type({event.metadata}, '$.community_id')
    )
