-- One schema for SQLite and PostgreSQL. Amounts are nanogram; addresses are raw TON addresses; times are Unix seconds.
-- +goose Up
CREATE TABLE channels (
    address      TEXT    PRIMARY KEY,
    key          TEXT    NOT NULL, -- the client's channel key, Ed25519, hexadecimal
    authorised   BIGINT  NOT NULL DEFAULT 0, -- total of the highest voucher
    voucher      TEXT    NOT NULL DEFAULT '', -- the highest voucher, hexadecimal
    spent        BIGINT  NOT NULL DEFAULT 0, -- sum of the costs of ended requests
    answers      BIGINT  NOT NULL DEFAULT 0, -- number of ended requests
    claimed      BIGINT  NOT NULL DEFAULT 0, -- paid out on chain, as last seen
    session_time BIGINT  NOT NULL DEFAULT 0, -- of the last session request, Unix nanoseconds
    voucher_at   BIGINT  NOT NULL DEFAULT 0, -- when the highest voucher came
    opened_at    BIGINT  NOT NULL,
    closed_at    BIGINT  NOT NULL DEFAULT 0
);

-- Earnings by day and model: what a provider wants to see, and no more than that.
CREATE TABLE earnings (
    day     BIGINT NOT NULL, -- days since 1970
    enclave TEXT   NOT NULL,
    answers BIGINT NOT NULL,
    earned  BIGINT NOT NULL,
    PRIMARY KEY (day, enclave)
);

-- +goose Down
DROP TABLE earnings;
DROP TABLE channels;
