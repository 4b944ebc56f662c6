-- Which process serves an enclave: the last one that started. Every transaction of a host locks its own rows, so that
-- one that a killed process has left behind ends before the next process begins, or fails.
-- +goose Up
CREATE TABLE owners (
    enclave TEXT   PRIMARY KEY,
    process TEXT   NOT NULL, -- random
    since   BIGINT NOT NULL  -- Unix seconds
);

-- Total of the tab when the enclave said the cost, nanogram: the request is not in that.
ALTER TABLE streams ADD COLUMN booked BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE streams DROP COLUMN booked;
DROP TABLE owners;
