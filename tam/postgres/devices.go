package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/audit"
)

const deviceColumns = `id, key_thumbprint, agent_key, status, revision, first_seen, last_seen, state`

func scanDevice(row pgx.Row) (*tam.Device, error) {
	var d tam.Device
	var status, state string
	var first, last int64
	err := row.Scan(&d.ID, &d.KeyThumbprint, &d.AgentKey, &status, &d.Revision, &first, &last, &state)
	if err != nil {
		return nil, wrap(err)
	}
	if err := json.Unmarshal([]byte(state), &d); err != nil {
		return nil, fmt.Errorf("postgres: state of device %s: %w", d.ID, err)
	}
	d.Status, d.FirstSeen, d.LastSeen = tam.DeviceStatus(status), fromMillis(first), fromMillis(last)
	return &d, nil
}

func scanDevices(q reading) ([]tam.Device, error) { return collect(q, scanDevice) }

// DeviceByKey implements [tam.Devices].
func (s *Store) DeviceByKey(ctx context.Context, thumbprint []byte) (*tam.Device, error) {
	return scanDevice(s.pool.QueryRow(ctx, `SELECT `+deviceColumns+` FROM devices WHERE key_thumbprint = $1`, thumbprint))
}

// Device implements [tam.Devices].
func (s *Store) Device(ctx context.Context, id string) (*tam.Device, error) {
	return scanDevice(s.pool.QueryRow(ctx, `SELECT `+deviceColumns+` FROM devices WHERE id = $1`, id))
}

// ListDevices implements [tam.Devices].
func (s *Store) ListDevices(ctx context.Context, after string, limit int) ([]tam.Device, error) {
	return s.FindDevices(ctx, tam.DeviceFilter{}, after, limit)
}

// UpdateDevice implements [tam.Devices].
func (s *Store) UpdateDevice(ctx context.Context, d *tam.Device) error {
	q, err := putDevice(d)
	if err != nil {
		return err
	}
	err = s.write(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, q.text, q.args...)
		err = oneRow(tag, err, tam.ErrConflict)
		if err == nil {
			return s.record(ctx, tx, audit.ActionDeviceUpdate, d.ID, "status "+string(d.Status))
		}
		if !errors.Is(err, tam.ErrConflict) {
			return err
		}
		var one int
		// ErrNoRows becomes ErrNotFound.
		if err := tx.QueryRow(ctx, `SELECT 1 FROM devices WHERE id = $1`, d.ID).Scan(&one); err != nil {
			return wrap(err)
		}
		return tam.ErrConflict
	})
	if err == nil {
		d.Revision++
	}
	return err
}

// query is a statement with its arguments.
type query struct {
	text string
	args []any
}

const (
	insertDevice = `INSERT INTO devices (` + deviceColumns + `, attestation)
		VALUES ($1, $2, $3, $4, 1, $5, $6, $7, $8) ON CONFLICT DO NOTHING`
	updateDevice = `UPDATE devices SET status = $2, revision = revision + 1, last_seen = $4, state = $5,
		attestation = $6 WHERE id = $1 AND revision = $3`
)

// putDevice inserts a device of revision 0 and replaces any other; no row means a conflict.
func putDevice(d *tam.Device) (query, error) {
	data, err := d.State()
	if err != nil {
		return query{}, err
	}
	status, state, attestation := string(d.Status), string(data), d.Attestation.Status.String()
	if d.Revision == 0 {
		return query{insertDevice, []any{d.ID, d.KeyThumbprint, d.AgentKey, status, millis(d.FirstSeen), millis(d.LastSeen), state, attestation}}, nil
	}
	return query{updateDevice, []any{d.ID, status, d.Revision, millis(d.LastSeen), state, attestation}}, nil
}

// oneRow turns a statement that changed nothing into an error.
func oneRow(tag pgconn.CommandTag, err, otherwise error) error {
	if err == nil && tag.RowsAffected() == 0 {
		return otherwise
	}
	return wrap(err)
}

// Events implements [tam.Devices].
func (s *Store) Events(ctx context.Context, deviceID string, before int64, limit int) ([]tam.Event, error) {
	if before == 0 {
		before = math.MaxInt64
	}
	rows := s.pool.Query(ctx, `SELECT id, at, kind, detail FROM events
		WHERE device_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3`, deviceID, before, limit)
	return collect(rows, func(row pgx.Row) (*tam.Event, error) {
		e := tam.Event{DeviceID: deviceID}
		var at int64
		var kind string
		var detail []byte
		if err := row.Scan(&e.ID, &at, &kind, &detail); err != nil {
			return nil, wrap(err)
		}
		e.At, e.Kind, e.Detail = fromMillis(at), tam.EventKind(kind), string(detail)
		return &e, nil
	})
}

// Sweep implements [tam.Exchanges].
func (s *Store) Sweep(ctx context.Context, now, eventsBefore time.Time, limit int) (gone int, err error) {
	err = s.write(ctx, func(tx pgx.Tx) error {
		gone = 0
		for _, sweep := range []struct {
			text   string
			before time.Time
		}{
			{`DELETE FROM consumptions WHERE id IN (SELECT id FROM consumptions WHERE expires < $1 LIMIT $2)`, now},
			{`DELETE FROM events WHERE (device_id, id) IN (SELECT device_id, id FROM events WHERE at < $1 LIMIT $2)`, eventsBefore},
		} {
			tag, err := tx.Exec(ctx, sweep.text, millis(sweep.before), limit)
			if err != nil {
				return wrap(err)
			}
			gone += int(tag.RowsAffected())
		}
		return nil
	})
	return gone, err
}
