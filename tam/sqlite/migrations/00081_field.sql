-- +goose Up
CREATE TABLE field (
    hour     BIGINT NOT NULL,
    manifest BLOB   NOT NULL,
    sequence TEXT   NOT NULL, -- as in versions
    devices  BIGINT NOT NULL,
    PRIMARY KEY (hour, manifest, sequence)
);

-- +goose Down
DROP TABLE field;
