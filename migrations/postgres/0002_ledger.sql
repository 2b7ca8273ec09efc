-- Which parts of the sidecars' spools have been applied: written in the transaction that writes their page
-- views, so that a part whose COMMIT went unanswered is not applied a second time. A sidecar deletes its rows
-- as soon as the part is gone from its spool; what is left by one that vanished goes with age.
CREATE TABLE headcount.applied_batch (
    writer_id uuid NOT NULL,
    batch_seq bigint NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (writer_id, batch_seq)
);
CREATE INDEX applied_batch_age ON headcount.applied_batch (applied_at);

-- Versions of what is kept here: a sidecar refuses to write where it finds a newer one than it knows.
CREATE TABLE headcount.format (
    part text PRIMARY KEY,
    version bigint NOT NULL
);
INSERT INTO headcount.format (part, version) VALUES ('ledger', 1);
