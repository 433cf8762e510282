-- +goose Up
-- Only what PostgreSQL, CockroachDB and YugabyteDB share: no extensions, no triggers, no sequences
-- that skip. Times are Unix milliseconds. JSON is TEXT because jsonb refuses \u0000, which devices may
-- send.
CREATE TABLE devices (
    id             TEXT   NOT NULL PRIMARY KEY,
    key_thumbprint BYTEA  NOT NULL UNIQUE,
    agent_key      BYTEA  NOT NULL,
    status         TEXT   NOT NULL,
    revision       BIGINT NOT NULL,
    first_seen     BIGINT NOT NULL,
    last_seen      BIGINT NOT NULL,
    state          TEXT   NOT NULL, -- JSON of tam.Device
    attestation    TEXT   NOT NULL
);
CREATE INDEX devices_status ON devices (status, id, attestation);
CREATE INDEX devices_attestation ON devices (attestation, id);

CREATE TABLE events (
    device_id TEXT   NOT NULL,
    id        BIGINT NOT NULL,
    at        BIGINT NOT NULL,
    kind      TEXT   NOT NULL,
    detail    BYTEA  NOT NULL, -- UTF-8, but what devices say may be anything
    PRIMARY KEY (device_id, id)
);
CREATE INDEX events_at ON events (at);

CREATE TABLE consumptions (
    id      BYTEA  NOT NULL PRIMARY KEY,
    expires BIGINT NOT NULL
);
CREATE INDEX consumptions_expires ON consumptions (expires);

-- One row; its revision rises with every change to versions, assignments and publishers. Whoever
-- changes them locks it first.
CREATE TABLE catalogue (
    one      BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    revision BIGINT NOT NULL
);
INSERT INTO catalogue (one, revision) VALUES (1, 1);

CREATE TABLE versions (
    manifest BYTEA NOT NULL, -- CBOR of the component identifier
    sequence TEXT  NOT NULL, -- 20 decimal digits, because a uint64 does not fit a BIGINT
    data     TEXT  NOT NULL, -- JSON of tam.Version
    PRIMARY KEY (manifest, sequence)
);

CREATE TABLE assignments (
    manifest BYTEA NOT NULL PRIMARY KEY,
    data     TEXT  NOT NULL
);

CREATE TABLE publishers (
    name TEXT NOT NULL PRIMARY KEY,
    data TEXT NOT NULL
);

CREATE TABLE publisher_keys (
    key  BYTEA NOT NULL PRIMARY KEY, -- encoded COSE_Key
    name TEXT  NOT NULL
);

CREATE TABLE api_tokens (
    id   TEXT  NOT NULL PRIMARY KEY,
    hash BYTEA NOT NULL UNIQUE,
    data TEXT  NOT NULL
);

CREATE TABLE token_keys (
    generation BIGINT NOT NULL PRIMARY KEY,
    secret     BYTEA  NOT NULL,
    created    BIGINT NOT NULL
);

CREATE TABLE audit (
    seq  BIGINT NOT NULL PRIMARY KEY,
    data TEXT   NOT NULL -- JSON of audit.Entry
);
CREATE TABLE audit_head (
    one  BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    seq  BIGINT NOT NULL,
    hash BYTEA  NOT NULL
);
INSERT INTO audit_head (one, seq, hash)
    VALUES (1, 0, decode('0000000000000000000000000000000000000000000000000000000000000000', 'hex'));

CREATE TABLE requests (
    id          BYTEA  NOT NULL PRIMARY KEY,
    fingerprint BYTEA  NOT NULL,
    expires     BIGINT NOT NULL,
    answer      BYTEA           -- NULL until the request is complete
);
CREATE INDEX requests_expires ON requests (expires);

CREATE TABLE activity (
    hour  BIGINT NOT NULL,
    kind  TEXT   NOT NULL,
    count BIGINT NOT NULL,
    PRIMARY KEY (hour, kind)
);

-- +goose Down
DROP TABLE activity;
DROP TABLE requests;
DROP TABLE audit_head;
DROP TABLE audit;
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
