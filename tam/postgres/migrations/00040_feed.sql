-- +goose Up
-- Transactions end in another order than they begin in: an event has no place in the feed (NULL) until
-- somebody who reads the feed gives it one, in an order that all see. 0 is what was there before the feed.
ALTER TABLE events ADD COLUMN feed BIGINT DEFAULT 0;
CREATE INDEX events_waiting ON events (at) WHERE feed IS NULL;
CREATE UNIQUE INDEX events_feed ON events (feed) WHERE feed > 0;
CREATE TABLE feed_head (
    one      BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    position BIGINT NOT NULL
);
INSERT INTO feed_head (one, position) VALUES (1, 0);

CREATE TABLE webhooks (
    id       TEXT   NOT NULL PRIMARY KEY,
    data     TEXT   NOT NULL, -- JSON of tam.Webhook without its progress
    position BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    next     BIGINT NOT NULL,
    fault    TEXT   NOT NULL, -- of the last attempt
    claimed  BIGINT NOT NULL  -- until when somebody is at work on it
);

-- +goose Down
DROP TABLE webhooks;
DROP TABLE feed_head;
DROP INDEX events_feed;
DROP INDEX events_waiting;
ALTER TABLE events DROP COLUMN feed;
