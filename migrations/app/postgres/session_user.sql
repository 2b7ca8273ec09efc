-- A user's sessions in order of their start: the visitor list takes the latest, the statistics a window.
CREATE INDEX CONCURRENTLY IF NOT EXISTS headcount_session_user
    ON {session.table} ({session.user_id}, {session.started_at})
