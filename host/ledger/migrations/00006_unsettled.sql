-- Where a process that another took over may have left costs of a channel that it held: until the one that has the
-- enclave now has asked it, nobody else serves the channel. A process's enclaves may go to several.
-- +goose Up
CREATE TABLE unsettled (
    address TEXT NOT NULL,
    enclave TEXT NOT NULL,
    PRIMARY KEY (address, enclave)
);

-- A process of an earlier version does not ask for that. One that runs can write nothing more, and none starts.
ALTER TABLE owners RENAME COLUMN seen TO alive;

-- +goose Down
ALTER TABLE owners RENAME COLUMN alive TO seen;
DROP TABLE unsettled;
