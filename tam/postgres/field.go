package postgres

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/go-teep/teep/tam"
)

// AddField implements [tam.Overview].
func (s *Store) AddField(ctx context.Context, hour time.Time, counts []tam.InstalledCount) error {
	hour = hour.Truncate(time.Hour)
	return s.write(ctx, func(tx pgx.Tx) error {
		var known bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM field WHERE hour = $1)`, millis(hour)).Scan(&known); err != nil || known {
			return wrap(err)
		}
		batch := &pgx.Batch{}
		batch.Queue(`DELETE FROM field WHERE hour < $1`, millis(hour.Add(-tam.FieldKept)))
		for _, c := range counts {
			manifest, err := c.Manifest.MarshalCBOR()
			if err != nil {
				return fmt.Errorf("postgres: %w", err)
			}
			batch.Queue(`INSERT INTO field (hour, manifest, sequence, devices) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
				millis(hour), manifest, fmt.Sprintf("%020d", c.Sequence), c.Devices)
		}
		return send(ctx, tx, batch, make([]error, batch.Len()))
	})
}

// FieldSince implements [tam.Overview].
func (s *Store) FieldSince(ctx context.Context, since time.Time, after tam.VersionCursor, limit int) ([]tam.FieldCount, error) {
	key, sequence := cursorKey(after)
	rows := s.pool.Query(ctx, `SELECT hour, manifest, sequence, devices FROM field
		WHERE hour >= $1 AND (hour > $1 OR (manifest, sequence) > ($2, $3))
		ORDER BY hour, manifest, sequence LIMIT $4`, millis(since.Truncate(time.Hour)), key, sequence, limit)
	return collect(rows, func(row pgx.Row) (*tam.FieldCount, error) {
		c := &tam.FieldCount{}
		var hour int64
		var manifest []byte
		var sequence string
		if err := row.Scan(&hour, &manifest, &sequence, &c.Devices); err != nil {
			return nil, wrap(err)
		}
		c.Hour = fromMillis(hour)
		if err := c.Manifest.UnmarshalCBOR(manifest); err != nil {
			return nil, wrap(err)
		}
		var err error
		c.Sequence, err = strconv.ParseUint(sequence, 10, 64)
		return c, wrap(err)
	})
}
