-- +goose Up
-- What the TAM is to bring to devices: content keys and personalization data, encrypted to the TAM.
CREATE TABLE deposits (
    id     TEXT NOT NULL PRIMARY KEY,
    device TEXT NOT NULL, -- empty: for all
    data   TEXT NOT NULL  -- JSON of tam.Deposit
);
CREATE INDEX deposits_by_device ON deposits (device, id);

-- +goose Down
DROP TABLE deposits;
