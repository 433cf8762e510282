-- +goose Up
CREATE TABLE devices (
    id             TEXT   NOT NULL PRIMARY KEY,
    key_thumbprint BLOB   NOT NULL UNIQUE,
    agent_key      BLOB   NOT NULL,
    status         TEXT   NOT NULL,
    revision       BIGINT NOT NULL,
    first_seen     BIGINT NOT NULL, -- Unix milliseconds, as every time here
    last_seen      BIGINT NOT NULL,
    state          TEXT   NOT NULL  -- JSON of tam.Device
);

CREATE TABLE events (
    device_id TEXT   NOT NULL,
    id        BIGINT NOT NULL,
    at        BIGINT NOT NULL,
    kind      TEXT   NOT NULL,
    detail    TEXT   NOT NULL,
    PRIMARY KEY (device_id, id)
) WITHOUT ROWID; -- one tree instead of two: every message writes here
CREATE INDEX events_at ON events (at);

CREATE TABLE consumptions (
    id      BLOB   NOT NULL PRIMARY KEY,
    expires BIGINT NOT NULL
) WITHOUT ROWID;
CREATE INDEX consumptions_expires ON consumptions (expires);

-- One row; its revision rises with every change to versions, assignments and publishers.
CREATE TABLE catalogue (
    one      BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    revision BIGINT NOT NULL
);
INSERT INTO catalogue (one, revision) VALUES (1, 1);

CREATE TABLE versions (
    manifest BLOB   NOT NULL, -- CBOR of the component identifier
    sequence TEXT   NOT NULL, -- 20 decimal digits, because a uint64 does not fit a BIGINT
    data     TEXT   NOT NULL, -- JSON of tam.Version
    PRIMARY KEY (manifest, sequence)
);

CREATE TABLE assignments (
    manifest BLOB NOT NULL PRIMARY KEY,
    data     TEXT NOT NULL
);

CREATE TABLE publishers (
    name TEXT NOT NULL PRIMARY KEY,
    data TEXT NOT NULL
);

CREATE TABLE publisher_keys (
    key  BLOB NOT NULL PRIMARY KEY, -- encoded COSE_Key
    name TEXT NOT NULL
);

CREATE TABLE api_tokens (
    id   TEXT NOT NULL PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    data TEXT NOT NULL
);

CREATE TABLE token_keys (
    generation BIGINT NOT NULL PRIMARY KEY,
    secret     BLOB   NOT NULL,
    created    BIGINT NOT NULL
);

-- +goose Down
DROP TABLE token_keys;
DROP TABLE api_tokens;
DROP TABLE publisher_keys;
DROP TABLE publishers;
DROP TABLE assignments;
DROP TABLE versions;
DROP TABLE catalogue;
DROP TABLE consumptions;
DROP TABLE events;
DROP TABLE devices;
