-- Logical time of the channel's last transaction when its deposit was read from the chain; 0 before that: what was read
-- earlier, by whatever process, does not replace what was read later.
-- +goose Up
ALTER TABLE channels ADD COLUMN deposit_lt INTEGER NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE channels DROP COLUMN deposit_lt;
