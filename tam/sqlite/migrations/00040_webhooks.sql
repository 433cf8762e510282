-- +goose Up
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
