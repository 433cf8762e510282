package sqlite

import (
	"context"
	"database/sql"
	"math"
	"time"

	"github.com/go-teep/teep/tam"
)

var _ tam.Recordings = (*Store)(nil)

// AddRecorded implements [tam.Recordings].
func (s *Store) AddRecorded(ctx context.Context, messages []tam.Recorded, keep int) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		devices := map[string]bool{}
		for _, m := range messages {
			data := m.Data
			if data == nil {
				data = []byte{}
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO recordings (device_id, id, direction, asked, size, data)
				VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`,
				m.DeviceID, m.ID, string(m.Direction), millis(m.Asked), m.Size, data); err != nil {
				return wrap(err)
			}
			devices[m.DeviceID] = true
		}
		for id := range devices {
			if _, err := tx.ExecContext(ctx, `DELETE FROM recordings WHERE device_id = $1 AND id <=
				(SELECT id FROM recordings WHERE device_id = $1 ORDER BY id DESC LIMIT 1 OFFSET $2)`, id, keep); err != nil {
				return wrap(err)
			}
		}
		return nil
	})
}

// RecordedMessages implements [tam.Recordings].
func (s *Store) RecordedMessages(ctx context.Context, deviceID string, before int64, limit int) ([]tam.Recorded, error) {
	if before == 0 {
		before = math.MaxInt64
	}
	rows, err := s.reader.QueryContext(ctx, `SELECT id, direction, asked, size FROM recordings
		WHERE device_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3`, deviceID, before, limit)
	if err != nil {
		return nil, wrap(err)
	}
	defer rows.Close()
	var list []tam.Recorded
	for rows.Next() {
		m, asked := tam.Recorded{DeviceID: deviceID}, int64(0)
		if err := rows.Scan(&m.ID, &m.Direction, &asked, &m.Size); err != nil {
			return nil, wrap(err)
		}
		m.At, m.Asked = time.UnixMicro(m.ID).UTC(), fromMillis(asked)
		list = append(list, m)
	}
	return list, wrap(rows.Err())
}

// RecordedMessage implements [tam.Recordings].
func (s *Store) RecordedMessage(ctx context.Context, deviceID string, id int64) (*tam.Recorded, error) {
	m, asked := tam.Recorded{DeviceID: deviceID, ID: id, At: time.UnixMicro(id).UTC()}, int64(0)
	err := s.reader.QueryRowContext(ctx, `SELECT direction, asked, size, data FROM recordings WHERE device_id = $1 AND id = $2`,
		deviceID, id).Scan(&m.Direction, &asked, &m.Size, &m.Data)
	if err != nil {
		return nil, wrap(err)
	}
	m.Asked = fromMillis(asked)
	return &m, nil
}

// SweepRecorded implements [tam.Recordings].
func (s *Store) SweepRecorded(ctx context.Context, before time.Time, limit int) (gone int, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `DELETE FROM recordings WHERE (device_id, id) IN
			(SELECT device_id, id FROM recordings WHERE id < $1 LIMIT $2)`, before.UnixMicro(), limit)
		if err != nil {
			return wrap(err)
		}
		n, err := res.RowsAffected()
		gone = int(n)
		return wrap(err)
	})
	return gone, err
}
