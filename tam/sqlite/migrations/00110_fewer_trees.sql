-- Every message writes here: each table and each index is one more page that a commit writes.

-- +goose Up
-- Events are numbered in the order in which they happened: the oldest are found without an index.
DROP INDEX events_at;
ALTER TABLE installed RENAME TO installed_with_rowid;
DROP INDEX installed_version;
CREATE TABLE installed (
    device_id TEXT NOT NULL,
    manifest  BLOB NOT NULL, -- CBOR of the component identifier
    sequence  TEXT NOT NULL, -- as in versions
    PRIMARY KEY (device_id, manifest)
) WITHOUT ROWID;
INSERT INTO installed (device_id, manifest, sequence)
    SELECT device_id, manifest, sequence FROM installed_with_rowid ORDER BY device_id, manifest;
DROP TABLE installed_with_rowid;
CREATE INDEX installed_version ON installed (manifest, sequence, device_id);

-- +goose Down
ALTER TABLE installed RENAME TO installed_without_rowid;
DROP INDEX installed_version;
CREATE TABLE installed (
    device_id TEXT NOT NULL,
    manifest  BLOB NOT NULL,
    sequence  TEXT NOT NULL,
    PRIMARY KEY (device_id, manifest)
);
INSERT INTO installed (device_id, manifest, sequence)
    SELECT device_id, manifest, sequence FROM installed_without_rowid;
DROP TABLE installed_without_rowid;
CREATE INDEX installed_version ON installed (manifest, sequence, device_id);
CREATE INDEX events_at ON events (at);
