-- One schema for SQLite and PostgreSQL. Amounts are nanogram; addresses are raw TON addresses; times are Unix seconds.
-- +goose Up
CREATE TABLE channels (
    address      TEXT    PRIMARY KEY,
    key          TEXT    NOT NULL, -- the client's channel key, Ed25519, hexadecimal
    authorised   BIGINT  NOT NULL DEFAULT 0, -- total of the highest voucher
    spent        BIGINT  NOT NULL DEFAULT 0, -- sum of the costs of ended requests
    answers      BIGINT  NOT NULL DEFAULT 0, -- number of ended requests
    claimed      BIGINT  NOT NULL DEFAULT 0, -- paid out on chain, as last seen
    session_time BIGINT  NOT NULL DEFAULT 0, -- of the last session request, Unix nanoseconds
    opened_at    BIGINT  NOT NULL,
    closed_at    BIGINT  NOT NULL DEFAULT 0
);

-- Of each channel the highest voucher that is earned, and those above it.
CREATE TABLE vouchers (
    address TEXT   NOT NULL,
    total   BIGINT NOT NULL,
    voucher TEXT   NOT NULL, -- hexadecimal
    at      BIGINT NOT NULL, -- when it came
    PRIMARY KEY (address, total)
);

-- Running requests that have been allotted more than one window, so that a host that is killed knows of them.
CREATE TABLE streams (
    address TEXT   NOT NULL,
    stream  TEXT   NOT NULL,
    enclave TEXT   NOT NULL,
    cost    BIGINT NOT NULL, -- as the enclave last said
    PRIMARY KEY (address, stream)
);

-- Earnings by day and enclave: what a provider wants to see, and no more than that.
CREATE TABLE earnings (
    day     BIGINT NOT NULL, -- days since 1970
    enclave TEXT   NOT NULL,
    answers BIGINT NOT NULL,
    earned  BIGINT NOT NULL,
    PRIMARY KEY (day, enclave)
);

-- +goose Down
DROP TABLE earnings;
DROP TABLE streams;
DROP TABLE vouchers;
DROP TABLE channels;
