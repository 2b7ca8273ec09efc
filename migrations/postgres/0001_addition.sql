-- The sidecar's own tables live in the schema "headcount", apart from the app's.

-- What the sidecar has added to the app's tables (migrations/app), in the words in which it was added: when
-- the words change, `headcount migrate` builds it anew; to undo an addition, drop the index and the row.
CREATE TABLE headcount.addition (
    name text PRIMARY KEY,
    statement text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
