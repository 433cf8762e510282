package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/audit"
)

// AddAPIToken implements [tam.APITokens].
func (s *Store) AddAPIToken(ctx context.Context, t tam.APIToken) error {
	data, err := toJSON(t)
	if err != nil {
		return err
	}
	return s.write(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `INSERT INTO api_tokens (id, hash, data) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, t.ID, t.Hash[:], data)
		if err := oneRow(tag, err, tam.ErrExists); err != nil {
			return err
		}
		return s.record(ctx, tx, audit.ActionTokenCreate, t.ID, t.Describe())
	})
}

// APITokenByHash implements [tam.APITokens].
func (s *Store) APITokenByHash(ctx context.Context, hash [32]byte) (*tam.APIToken, error) {
	return scanJSON[tam.APIToken](s.pool.QueryRow(ctx, `SELECT data FROM api_tokens WHERE hash = $1`, hash[:]))
}

// ListAPITokens implements [tam.APITokens].
func (s *Store) ListAPITokens(ctx context.Context, after string, limit int) ([]tam.APIToken, error) {
	rows := s.pool.Query(ctx, `SELECT data FROM api_tokens WHERE id > $1 ORDER BY id LIMIT $2`, after, limit)
	return collect(rows, scanJSON[tam.APIToken])
}

// RevokeAPIToken implements [tam.APITokens].
func (s *Store) RevokeAPIToken(ctx context.Context, id string, at time.Time) error {
	return s.write(ctx, func(tx pgx.Tx) error {
		t, err := scanJSON[tam.APIToken](tx.QueryRow(ctx, `SELECT data FROM api_tokens WHERE id = $1 FOR UPDATE`, id))
		if err != nil || !t.Revoked.IsZero() {
			return err
		}
		t.Revoked = at.UTC()
		data, err := toJSON(t)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE api_tokens SET data = $2 WHERE id = $1`, id, data); err != nil {
			return wrap(err)
		}
		return s.record(ctx, tx, audit.ActionTokenRevoke, id, t.Describe())
	})
}

// TokenKeys implements [tam.TokenKeys].
func (s *Store) TokenKeys(ctx context.Context) ([]tam.TokenKey, error) {
	rows := s.pool.Query(ctx, `SELECT generation, secret, created FROM token_keys ORDER BY generation`)
	return collect(rows, func(row pgx.Row) (*tam.TokenKey, error) {
		var k tam.TokenKey
		var created int64
		if err := row.Scan(&k.Generation, &k.Secret, &created); err != nil {
			return nil, wrap(err)
		}
		k.Created = fromMillis(created)
		return &k, nil
	})
}

// AddTokenKey implements [tam.TokenKeys].
func (s *Store) AddTokenKey(ctx context.Context, k tam.TokenKey) error {
	return s.write(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `INSERT INTO token_keys (generation, secret, created)
			SELECT $1::bigint, $2::bytea, $3::bigint WHERE $1::bigint = (SELECT coalesce(max(generation), 0) + 1 FROM token_keys)
			ON CONFLICT DO NOTHING`, int64(k.Generation), k.Secret, millis(k.Created))
		return oneRow(tag, err, tam.ErrConflict)
	})
}

// DropTokenKeys implements [tam.TokenKeys]. The newest key stays, whatever its age: generations never
// start again from 1.
func (s *Store) DropTokenKeys(ctx context.Context, before time.Time) error {
	return s.write(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM token_keys WHERE created < $1
			AND generation < (SELECT max(generation) FROM token_keys)`, millis(before))
		return wrap(err)
	})
}
