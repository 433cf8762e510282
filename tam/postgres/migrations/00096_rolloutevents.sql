-- +goose Up
-- The rollout that an event of the feed is about; empty for those in the history of a device.
ALTER TABLE events ADD COLUMN rollout TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE events DROP COLUMN rollout;
