-- Tells the sidecars of sessions that end or change hands, so that they ask the table again at once. What is
-- told is the row's key, never its token (where that is the key, its SHA-256); `*` stands for all rows. Tells them, too,
-- of sessions that have come to be valid, by the first 16 bits of the SHA-256 of the token, so that they ask again about
-- a token that they know as nobody's. Whatever role changes a row fires it: it runs with that role's own rights, and
-- needs none on this schema.
CREATE FUNCTION headcount.session_changed() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET timezone = '{time_zone}'
AS $headcount$
DECLARE
    told boolean;
    appeared boolean;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        PERFORM pg_notify('{channel}', '*');
        RETURN NULL;
    END IF;
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        BEGIN
            appeared := {session.lets_in.new};
            IF TG_OP = 'UPDATE' THEN
                appeared := appeared AND (
                    NEW.{session.session_id} IS DISTINCT FROM OLD.{session.session_id}
                    OR ({session.lets_in.old}) IS NOT TRUE{session.user_appears});
            END IF;
            IF appeared THEN
                PERFORM pg_notify('{appeared}', left({session.token_hash.new}, 4));
            END IF;
        EXCEPTION WHEN OTHERS THEN
            -- Then the session is found a few seconds later.
            NULL;
        END;
        IF TG_OP = 'INSERT' THEN
            RETURN NULL;
        END IF;
    END IF;
    BEGIN
        IF TG_OP = 'DELETE' THEN
            -- A session that let nobody in takes nobody along.
            told := {session.goes_on.old};
        ELSE
            told := ({session.watched.old})
                IS DISTINCT FROM
                    ({session.watched.new}){session.expiry_changes};
        END IF;
        IF told THEN
            PERFORM pg_notify('{channel}', {session.key.old});
        END IF;
    EXCEPTION WHEN OTHERS THEN
        -- The table is not what it was. That is no reason for the site's own statement to fail.
        PERFORM pg_notify('{channel}', '*');
    END;
    RETURN NULL;
END
$headcount$;
CREATE TRIGGER headcount_session_changed
    AFTER INSERT OR UPDATE OR DELETE ON {session.table}
    FOR EACH ROW EXECUTE FUNCTION headcount.session_changed();
CREATE TRIGGER headcount_session_truncated
    AFTER TRUNCATE ON {session.table}
    FOR EACH STATEMENT EXECUTE FUNCTION headcount.session_changed()
