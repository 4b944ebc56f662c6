-- Amounts are nanogram; addresses are raw TON addresses; keys and digests are hexadecimal; times are Unix seconds.
-- +goose Up
CREATE TABLE channels (
    address     TEXT    PRIMARY KEY,
    network     INTEGER NOT NULL, -- TON global id
    payee       TEXT    NOT NULL,
    client      TEXT    NOT NULL,
    client_key  TEXT    NOT NULL, -- public; the private key is derived from the wallet
    close_delay INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    salt        TEXT    NOT NULL, -- 16 digits: SQLite has no unsigned 64-bit integer
    host        TEXT    NOT NULL, -- URL
    host_key    TEXT    NOT NULL,
    deposit     INTEGER NOT NULL, -- what vouchers may promise at most
    signed      INTEGER NOT NULL DEFAULT 0,
    settled     INTEGER NOT NULL DEFAULT 0,
    head        TEXT    NOT NULL, -- of the receipts' hash chain
    state       TEXT    NOT NULL,
    created_at  INTEGER NOT NULL
);

CREATE TABLE receipts (
    channel TEXT    NOT NULL REFERENCES channels (address),
    seq     INTEGER NOT NULL, -- from 1, in the order of the hash chain
    receipt TEXT    NOT NULL, -- JWS compact serialization
    head    TEXT    NOT NULL, -- of the chain after it
    PRIMARY KEY (channel, seq)
);

-- +goose Down
DROP TABLE receipts;
DROP TABLE channels;
