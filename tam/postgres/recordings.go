package postgres

import (
	"context"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/go-teep/teep/tam"
)

var _ tam.Recordings = (*Store)(nil)

// AddRecorded implements [tam.Recordings].
func (s *Store) AddRecorded(ctx context.Context, messages []tam.Recorded, keep int) error {
	return s.write(ctx, func(tx pgx.Tx) error {
		batch, devices := &pgx.Batch{}, map[string]bool{}
		for _, m := range messages {
			data := m.Data
			if data == nil {
				data = []byte{}
			}
			batch.Queue(`INSERT INTO recordings (device_id, id, direction, asked, size, data)
				VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`,
				m.DeviceID, m.ID, string(m.Direction), millis(m.Asked), int64(m.Size), data)
			devices[m.DeviceID] = true
		}
		// In one order, so that two replicas do not wait for each other.
		for _, id := range slices.Sorted(maps.Keys(devices)) {
			batch.Queue(`DELETE FROM recordings WHERE device_id = $1 AND id <=
				(SELECT id FROM recordings WHERE device_id = $1 ORDER BY id DESC LIMIT 1 OFFSET $2)`, id, keep)
		}
		return send(ctx, tx, batch, make([]error, batch.Len()))
	})
}

// RecordedMessages implements [tam.Recordings].
func (s *Store) RecordedMessages(ctx context.Context, deviceID string, before int64, limit int) ([]tam.Recorded, error) {
	if before == 0 {
		before = math.MaxInt64
	}
	rows := s.pool.Query(ctx, `SELECT id, direction, asked, size FROM recordings
		WHERE device_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3`, deviceID, before, limit)
	return collect(rows, func(row pgx.Row) (*tam.Recorded, error) {
		m := tam.Recorded{DeviceID: deviceID}
		var asked, size int64
		var direction string
		if err := row.Scan(&m.ID, &direction, &asked, &size); err != nil {
			return nil, wrap(err)
		}
		m.At, m.Direction, m.Asked, m.Size = time.UnixMicro(m.ID).UTC(), tam.Direction(direction), fromMillis(asked), int(size)
		return &m, nil
	})
}

// RecordedMessage implements [tam.Recordings].
func (s *Store) RecordedMessage(ctx context.Context, deviceID string, id int64) (*tam.Recorded, error) {
	m := tam.Recorded{DeviceID: deviceID, ID: id, At: time.UnixMicro(id).UTC()}
	var asked, size int64
	var direction string
	err := s.pool.QueryRow(ctx, `SELECT direction, asked, size, data FROM recordings WHERE device_id = $1 AND id = $2`,
		deviceID, id).Scan(&direction, &asked, &size, &m.Data)
	if err != nil {
		return nil, wrap(err)
	}
	m.Direction, m.Asked, m.Size = tam.Direction(direction), fromMillis(asked), int(size)
	return &m, nil
}

// SweepRecorded implements [tam.Recordings].
func (s *Store) SweepRecorded(ctx context.Context, before time.Time, limit int) (gone int, err error) {
	err = s.write(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `DELETE FROM recordings WHERE (device_id, id) IN
			(SELECT device_id, id FROM recordings WHERE id < $1 LIMIT $2)`, before.UnixMicro(), limit)
		gone = int(tag.RowsAffected())
		return wrap(err)
	})
	return gone, err
}
