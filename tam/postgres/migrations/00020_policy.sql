-- +goose Up
CREATE TABLE policy (
    kind     TEXT   NOT NULL,
    name     TEXT   NOT NULL,
    revision BIGINT NOT NULL,
    data     TEXT   NOT NULL, -- JSON of a record of package policy
    PRIMARY KEY (kind, name)
);

-- How many devices of a stage of a rollout are where: the sum over the shards.
CREATE TABLE rollout_counts (
    rollout  TEXT   NOT NULL,
    stage    BIGINT NOT NULL,
    progress TEXT   NOT NULL,
    shard    BIGINT NOT NULL,
    devices  BIGINT NOT NULL,
    PRIMARY KEY (rollout, stage, progress, shard)
);

-- Devices by UEID: base64, as it is in the state of the device. One row for each device that has one.
CREATE TABLE identities (
    ueid      TEXT NOT NULL,
    device_id TEXT NOT NULL,
    PRIMARY KEY (ueid, device_id)
);
INSERT INTO identities (ueid, device_id)
    SELECT substring(state from '"ueid":"([^"]*)"'), id FROM devices WHERE state LIKE '{"ueid":"%';

-- What devices have installed. A device of an older release enters with its next message.
CREATE TABLE installed (
    device_id TEXT NOT NULL,
    manifest  BYTEA NOT NULL, -- CBOR of the component identifier
    sequence  TEXT NOT NULL, -- as in versions
    PRIMARY KEY (device_id, manifest)
);
CREATE INDEX installed_version ON installed (manifest, sequence, device_id);

-- +goose Down
DROP TABLE installed;
DROP TABLE identities;
DROP TABLE rollout_counts;
DROP TABLE policy;
