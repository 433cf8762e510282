-- +goose Up
ALTER TABLE devices ADD COLUMN attestation TEXT NOT NULL DEFAULT 'none';
UPDATE devices SET attestation = CASE json_extract(state, '$.attestation.status')
    WHEN 2 THEN 'affirming' WHEN 32 THEN 'warning' WHEN 96 THEN 'contraindicated' ELSE 'none' END;
-- With attestation behind id, counting reads the index only.
CREATE INDEX devices_status ON devices (status, id, attestation);
CREATE INDEX devices_attestation ON devices (attestation, id);

CREATE TABLE audit (
    seq  BIGINT NOT NULL PRIMARY KEY,
    data TEXT   NOT NULL -- JSON of audit.Entry
);
CREATE TABLE audit_head (
    one  BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    seq  BIGINT NOT NULL,
    hash BLOB   NOT NULL
);
INSERT INTO audit_head (one, seq, hash) VALUES (1, 0, zeroblob(32));
-- +goose StatementBegin
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit
BEGIN SELECT raise(ABORT, 'the audit log is append-only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
BEGIN SELECT raise(ABORT, 'the audit log is append-only'); END;
-- +goose StatementEnd

CREATE TABLE requests (
    id          BLOB   NOT NULL PRIMARY KEY,
    fingerprint BLOB   NOT NULL,
    expires     BIGINT NOT NULL,
    answer      BLOB            -- NULL until the request is complete
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
DROP INDEX devices_attestation;
DROP INDEX devices_status;
ALTER TABLE devices DROP COLUMN attestation;
