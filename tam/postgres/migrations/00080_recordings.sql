-- +goose Up
CREATE TABLE recordings (
    device_id TEXT   NOT NULL,
    id        BIGINT NOT NULL, -- Unix microseconds
    direction TEXT   NOT NULL,
    asked     BIGINT NOT NULL,
    size      BIGINT NOT NULL,
    data      BYTEA  NOT NULL,
    PRIMARY KEY (device_id, id)
);
CREATE INDEX recordings_id ON recordings (id);

-- +goose Down
DROP TABLE recordings;
