-- Which parts of the sidecars' spools have been applied: written in the transaction that writes their page
-- views, so that a part whose COMMIT went unanswered is not applied a second time. A sidecar deletes its rows
-- as soon as the part is gone from its spool; what is left by one that vanished goes with age.
CREATE TABLE headcount_applied_batch (
    writer_id text NOT NULL,
    batch_seq integer NOT NULL,
    applied_at integer NOT NULL DEFAULT (unixepoch()),
    PRIMARY KEY (writer_id, batch_seq)
) WITHOUT ROWID;
CREATE INDEX headcount_applied_batch_age ON headcount_applied_batch (applied_at);

-- Versions of what is kept here: a sidecar refuses to write where it finds a newer one than it knows.
CREATE TABLE headcount_format (
    part text PRIMARY KEY,
    version integer NOT NULL
);
INSERT INTO headcount_format (part, version) VALUES ('ledger', 1);
