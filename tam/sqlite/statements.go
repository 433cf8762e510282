package sqlite

import (
	"context"
	"database/sql"
)

// statements are prepared once: parsing SQL would cost more than running most of them.
type statements struct {
	// readers
	deviceByKey, device, listDevices, events           *sql.Stmt
	revision, listVersions, assignments                *sql.Stmt
	publisher, listPublishers, tokenByHash, listTokens *sql.Stmt
	tokenKeys, depositsFor                             *sql.Stmt
	// writer
	sweepConsumptions, sweepEvents                       *sql.Stmt
	bumpCatalogue, newestVersion, insertVersion          *sql.Stmt
	versionForUpdate, updateVersion                      *sql.Stmt
	putAssignment, deleteAssignment                      *sql.Stmt
	insertPublisher, insertPublisherKey, updatePublisher *sql.Stmt
	insertToken, updateToken                             *sql.Stmt
	addTokenKey, dropTokenKeys                           *sql.Stmt
}

const deviceColumns = `id, key_thumbprint, agent_key, status, revision, first_seen, last_seen, state`

func (s *statements) prepare(ctx context.Context, writer, reader *sql.DB) error {
	reads := []prepared{
		{&s.deviceByKey, `SELECT ` + deviceColumns + ` FROM devices WHERE key_thumbprint = $1`},
		{&s.device, `SELECT ` + deviceColumns + ` FROM devices WHERE id = $1`},
		{&s.listDevices, `SELECT ` + deviceColumns + ` FROM devices WHERE id > $1 ORDER BY id LIMIT $2`},
		// A device's events are a chain; its end is where the rest was swept.
		{&s.events, `WITH RECURSIVE chain (id, before, at, kind, detail) AS (
			SELECT id, before, at, kind, detail FROM events WHERE device_id = $1 AND id = CASE $2
				WHEN 0 THEN (SELECT last_event FROM devices WHERE id = $1)
				ELSE (SELECT before FROM events WHERE id = $2 AND device_id = $1) END
			UNION ALL
			SELECT e.id, e.before, e.at, e.kind, e.detail FROM chain
				JOIN events e ON e.id = chain.before AND e.device_id = $1
			) SELECT id, at, kind, detail FROM chain LIMIT $3`},
		{&s.revision, `SELECT revision FROM catalogue WHERE one = 1`},
		{&s.listVersions, `SELECT data FROM versions WHERE (manifest, sequence) > ($1, $2)
			ORDER BY manifest, sequence LIMIT $3`},
		{&s.assignments, `SELECT data FROM assignments ORDER BY manifest`},
		{&s.publisher, `SELECT data FROM publishers WHERE name = $1`},
		{&s.listPublishers, `SELECT data FROM publishers WHERE name > $1 ORDER BY name LIMIT $2`},
		{&s.tokenByHash, `SELECT data FROM api_tokens WHERE hash = $1`},
		{&s.listTokens, `SELECT data FROM api_tokens WHERE id > $1 ORDER BY id LIMIT $2`},
		{&s.tokenKeys, `SELECT generation, secret, created FROM token_keys ORDER BY generation`},
		{&s.depositsFor, `SELECT data FROM deposits WHERE device = $1 ORDER BY id`},
	}
	writes := []prepared{
		{&s.sweepConsumptions, `DELETE FROM consumptions WHERE id IN
			(SELECT id FROM consumptions WHERE expires < $1 LIMIT $2)`},
		// Of the oldest ones: numbers are in the order of time, as far as clocks agree. The newest stays,
		// whatever its age: numbers never start again from 1.
		{&s.sweepEvents, `DELETE FROM events WHERE id IN
			(SELECT id FROM (SELECT id, at FROM events ORDER BY id LIMIT $2) WHERE at < $1)
			AND id < (SELECT max(id) FROM events)`},
		{&s.bumpCatalogue, `UPDATE catalogue SET revision = revision + 1 WHERE one = 1`},
		{&s.newestVersion, `SELECT sequence FROM versions WHERE manifest = $1 ORDER BY sequence DESC LIMIT 1`},
		{&s.insertVersion, `INSERT INTO versions (manifest, sequence, data) VALUES ($1, $2, $3)`},
		{&s.versionForUpdate, `SELECT data FROM versions WHERE manifest = $1 AND sequence = $2`},
		{&s.updateVersion, `UPDATE versions SET data = $3 WHERE manifest = $1 AND sequence = $2`},
		{&s.putAssignment, `INSERT INTO assignments (manifest, data) VALUES ($1, $2)
			ON CONFLICT (manifest) DO UPDATE SET data = excluded.data`},
		{&s.deleteAssignment, `DELETE FROM assignments WHERE manifest = $1`},
		{&s.insertPublisher, `INSERT INTO publishers (name, data) VALUES ($1, $2) ON CONFLICT DO NOTHING`},
		{&s.insertPublisherKey, `INSERT INTO publisher_keys (key, name) VALUES ($1, $2) ON CONFLICT DO NOTHING`},
		{&s.updatePublisher, `UPDATE publishers SET data = $2 WHERE name = $1`},
		{&s.insertToken, `INSERT INTO api_tokens (id, hash, data) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`},
		{&s.updateToken, `UPDATE api_tokens SET data = $2 WHERE id = $1`},
		{&s.addTokenKey, `INSERT INTO token_keys (generation, secret, created)
			SELECT $1, $2, $3 WHERE $1 = (SELECT coalesce(max(generation), 0) + 1 FROM token_keys)`},
		// The newest key stays, whatever its age: generations never start again from 1.
		{&s.dropTokenKeys, `DELETE FROM token_keys WHERE created < $1
			AND generation < (SELECT max(generation) FROM token_keys)`},
	}
	if err := prepareAll(ctx, reader, reads); err != nil {
		return err
	}
	return prepareAll(ctx, writer, writes)
}

type prepared struct {
	into **sql.Stmt
	text string
}

func prepareAll(ctx context.Context, db *sql.DB, list []prepared) error {
	for _, p := range list {
		stmt, err := db.PrepareContext(ctx, p.text)
		if err != nil {
			return err
		}
		*p.into = stmt
	}
	return nil
}
