-- What each enclave says a channel has cost in all, so that no end of a request is lost or counted twice.
-- +goose Up
CREATE TABLE tabs (
    address TEXT   NOT NULL,
    enclave TEXT   NOT NULL,
    tab     TEXT   NOT NULL, -- random; another one when the enclave begins to add up anew
    total   BIGINT NOT NULL, -- nanogram, in channels.spent already
    PRIMARY KEY (address, enclave, tab)
);

ALTER TABLE streams ADD COLUMN tab TEXT NOT NULL DEFAULT '';

-- Until when an agreement that was sent may close the channel, Unix seconds; 0 when none was.
ALTER TABLE channels ADD COLUMN closing_until BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE channels DROP COLUMN closing_until;
ALTER TABLE streams DROP COLUMN tab;
DROP TABLE tabs;
