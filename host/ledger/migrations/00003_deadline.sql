-- When the channel ends, as last seen on the chain, Unix seconds; 0 before the first look.
-- +goose Up
ALTER TABLE channels ADD COLUMN deadline BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE channels DROP COLUMN deadline;
