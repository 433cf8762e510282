-- Events are numbered in the order in which they happened, so that the oldest are found without an index, which
-- every message would write to.

-- +goose Up
DROP INDEX events_at;

-- +goose Down
CREATE INDEX events_at ON events (at);
