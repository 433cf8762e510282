package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/audit"
)

// AddAPIToken implements [tam.APITokens].
func (s *Store) AddAPIToken(ctx context.Context, t tam.APIToken) error {
	data, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("sqlite: API token: %w", err)
	}
	return s.write(ctx, func(tx *sql.Tx) error {
		res, err := tx.StmtContext(ctx, s.stmts.insertToken).ExecContext(ctx, t.ID, t.Hash[:], string(data))
		if err := oneRow(res, err, tam.ErrExists); err != nil {
			return err
		}
		return s.record(ctx, tx, audit.ActionTokenCreate, t.ID, t.Describe())
	})
}

// APITokenByHash implements [tam.APITokens].
func (s *Store) APITokenByHash(ctx context.Context, hash [32]byte) (*tam.APIToken, error) {
	return scanJSON[tam.APIToken](s.stmts.tokenByHash.QueryRowContext(ctx, hash[:]))
}

// ListAPITokens implements [tam.APITokens].
func (s *Store) ListAPITokens(ctx context.Context, after string, limit int) ([]tam.APIToken, error) {
	rows, err := s.stmts.listTokens.QueryContext(ctx, after, limit)
	return collect[tam.APIToken](rows, err)
}

// RevokeAPIToken implements [tam.APITokens].
func (s *Store) RevokeAPIToken(ctx context.Context, id string, at time.Time) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		t, err := scanJSON[tam.APIToken](tx.QueryRowContext(ctx, `SELECT data FROM api_tokens WHERE id = $1`, id))
		if err != nil || !t.Revoked.IsZero() {
			return err
		}
		t.Revoked = at.UTC()
		if err := s.replace(ctx, tx, s.stmts.updateToken, t, id); err != nil {
			return err
		}
		return s.record(ctx, tx, audit.ActionTokenRevoke, id, t.Describe())
	})
}

// TokenKeys implements [tam.TokenKeys].
func (s *Store) TokenKeys(ctx context.Context) ([]tam.TokenKey, error) {
	rows, err := s.stmts.tokenKeys.QueryContext(ctx)
	if err != nil {
		return nil, wrap(err)
	}
	defer rows.Close()
	var list []tam.TokenKey
	for rows.Next() {
		var k tam.TokenKey
		var created int64
		if err := rows.Scan(&k.Generation, &k.Secret, &created); err != nil {
			return nil, wrap(err)
		}
		k.Created = fromMillis(created)
		list = append(list, k)
	}
	return list, wrap(rows.Err())
}

// AddTokenKey implements [tam.TokenKeys].
func (s *Store) AddTokenKey(ctx context.Context, k tam.TokenKey) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		res, err := tx.StmtContext(ctx, s.stmts.addTokenKey).ExecContext(ctx, int64(k.Generation), k.Secret, millis(k.Created))
		return oneRow(res, err, tam.ErrConflict)
	})
}

// DropTokenKeys implements [tam.TokenKeys].
func (s *Store) DropTokenKeys(ctx context.Context, before time.Time) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.StmtContext(ctx, s.stmts.dropTokenKeys).ExecContext(ctx, millis(before))
		return wrap(err)
	})
}
