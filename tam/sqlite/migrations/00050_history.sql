-- The history of all devices in the order in which it happened. Every message appends to it, so that what
-- it costs does not grow with what happened before: an index by device would have a message change
-- a page of its own, far from those of the others. Instead each event names the one of its
-- device before it, and the device its last one.

-- +goose Up
ALTER TABLE devices ADD COLUMN last_event BIGINT NOT NULL DEFAULT 0;
ALTER TABLE events RENAME TO events_by_device;
DROP INDEX events_at;
CREATE TABLE events (
    id        INTEGER NOT NULL PRIMARY KEY,
    device_id TEXT    NOT NULL,
    before    BIGINT  NOT NULL, -- the event of the same device before this one, or 0
    at        BIGINT  NOT NULL,
    kind      TEXT    NOT NULL,
    detail    TEXT    NOT NULL
);
INSERT INTO events (id, device_id, before, at, kind, detail)
    SELECT n, device_id, coalesce(lag(n) OVER (PARTITION BY device_id ORDER BY id), 0), at, kind, detail
    FROM (SELECT row_number() OVER (ORDER BY at, device_id, id) AS n, * FROM events_by_device)
    ORDER BY n;
DROP TABLE events_by_device;
CREATE INDEX events_at ON events (at);
UPDATE devices SET last_event = coalesce((SELECT max(e.id) FROM events e WHERE e.device_id = devices.id), 0)
    WHERE id IN (SELECT device_id FROM events);

-- +goose Down
ALTER TABLE events RENAME TO events_in_order;
DROP INDEX events_at;
CREATE TABLE events (
    device_id TEXT   NOT NULL,
    id        BIGINT NOT NULL,
    at        BIGINT NOT NULL,
    kind      TEXT   NOT NULL,
    detail    TEXT   NOT NULL,
    PRIMARY KEY (device_id, id)
) WITHOUT ROWID;
INSERT INTO events (device_id, id, at, kind, detail) SELECT device_id, id, at, kind, detail FROM events_in_order;
DROP TABLE events_in_order;
CREATE INDEX events_at ON events (at);
ALTER TABLE devices DROP COLUMN last_event;
