-- Which process serves a channel now, so that no two of a fleet do: from before its first request until the costs of all
-- of them are booked.
-- +goose Up
ALTER TABLE channels ADD COLUMN process TEXT NOT NULL DEFAULT ''; -- as in owners; empty while nobody does

-- A process of an earlier version does not ask who holds a channel. One that runs finds its rows gone and ends; one that
-- starts knows nothing of seen and is refused.
DROP TABLE owners;
CREATE TABLE owners (
    enclave TEXT   PRIMARY KEY,
    process TEXT   NOT NULL, -- random
    since   BIGINT NOT NULL, -- Unix seconds
    seen    BIGINT NOT NULL  -- when the process last said that it lives, Unix seconds of the database's clock
);

-- +goose Down
DROP TABLE owners;
CREATE TABLE owners (
    enclave TEXT   PRIMARY KEY,
    process TEXT   NOT NULL,
    since   BIGINT NOT NULL
);
ALTER TABLE channels DROP COLUMN process;
