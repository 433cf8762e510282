package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/go-teep/teep/tam"
)

// AddField implements [tam.Overview].
func (s *Store) AddField(ctx context.Context, hour time.Time, counts []tam.InstalledCount) error {
	hour = hour.Truncate(time.Hour)
	return s.write(ctx, func(tx *sql.Tx) error {
		var known bool
		if err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM field WHERE hour = $1)`, millis(hour)).Scan(&known); err != nil || known {
			return wrap(err)
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM field WHERE hour < $1`, millis(hour.Add(-tam.FieldKept))); err != nil {
			return wrap(err)
		}
		for _, c := range counts {
			manifest, err := c.Manifest.MarshalCBOR()
			if err != nil {
				return fmt.Errorf("sqlite: %w", err)
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO field (hour, manifest, sequence, devices) VALUES ($1, $2, $3, $4)`,
				millis(hour), manifest, fmt.Sprintf("%020d", c.Sequence), c.Devices); err != nil {
				return wrap(err)
			}
		}
		return nil
	})
}

// FieldSince implements [tam.Overview].
func (s *Store) FieldSince(ctx context.Context, since time.Time, after tam.VersionCursor, limit int) ([]tam.FieldCount, error) {
	key, sequence := cursorKey(after)
	rows, err := s.reader.QueryContext(ctx, `SELECT hour, manifest, sequence, devices FROM field
		WHERE hour >= $1 AND (hour > $1 OR (manifest, sequence) > ($2, $3))
		ORDER BY hour, manifest, sequence LIMIT $4`, millis(since.Truncate(time.Hour)), key, sequence, limit)
	return collectRows(rows, err, func(c *tam.FieldCount) error {
		var hour int64
		var manifest []byte
		var sequence string
		if err := rows.Scan(&hour, &manifest, &sequence, &c.Devices); err != nil {
			return err
		}
		c.Hour = fromMillis(hour)
		return decodeInstalled(&c.InstalledCount, manifest, sequence)
	})
}
