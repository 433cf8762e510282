package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/audit"
)

type scanner interface{ Scan(dest ...any) error }

func scanDevice(row scanner) (*tam.Device, error) {
	var d tam.Device
	var first, last int64
	var state []byte
	err := row.Scan(&d.ID, &d.KeyThumbprint, &d.AgentKey, &d.Status, &d.Revision, &first, &last, &state)
	if err != nil {
		return nil, wrap(err)
	}
	if err := json.Unmarshal(state, &d); err != nil {
		return nil, fmt.Errorf("sqlite: state of device %s: %w", d.ID, err)
	}
	d.FirstSeen, d.LastSeen = fromMillis(first), fromMillis(last)
	return &d, nil
}

// DeviceByKey implements [tam.Devices].
func (s *Store) DeviceByKey(ctx context.Context, thumbprint []byte) (*tam.Device, error) {
	return scanDevice(s.stmts.deviceByKey.QueryRowContext(ctx, thumbprint))
}

// Device implements [tam.Devices].
func (s *Store) Device(ctx context.Context, id string) (*tam.Device, error) {
	return scanDevice(s.stmts.device.QueryRowContext(ctx, id))
}

// ListDevices implements [tam.Devices].
func (s *Store) ListDevices(ctx context.Context, after string, limit int) ([]tam.Device, error) {
	rows, err := s.stmts.listDevices.QueryContext(ctx, after, limit)
	return scanDevices(rows, err)
}

func scanDevices(rows *sql.Rows, err error) ([]tam.Device, error) {
	if err != nil {
		return nil, wrap(err)
	}
	defer rows.Close()
	var list []tam.Device
	for rows.Next() {
		d, err := scanDevice(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, *d)
	}
	return list, wrap(rows.Err())
}

// UpdateDevice implements [tam.Devices].
func (s *Store) UpdateDevice(ctx context.Context, d *tam.Device) error {
	state, err := d.State()
	if err != nil {
		return err
	}
	err = s.writeHot(ctx, func(w *hotWrite) error {
		err := w.run(ctx, func(c *hotConn) error { return c.putDevice(ctx, d, string(state), 0) })
		if err == nil {
			return s.record(ctx, w.conn, audit.ActionDeviceUpdate, d.ID, "status "+string(d.Status))
		}
		if err != tam.ErrConflict {
			return err
		}
		var one int
		// ErrNoRows becomes ErrNotFound.
		if err := w.conn.QueryRowContext(ctx, `SELECT 1 FROM devices WHERE id = $1`, d.ID).Scan(&one); err != nil {
			return wrap(err)
		}
		return tam.ErrConflict
	})
	if err == nil {
		d.Revision++
	}
	return err
}

// putDevice inserts a device of revision 0 and replaces any other. event is the newest of its history if
// that has a new one, else 0.
func (c *hotConn) putDevice(ctx context.Context, d *tam.Device, state string, event int64) error {
	attestation := d.Attestation.Status.String()
	if d.Revision == 0 {
		res, err := c.exec(ctx, insertDevice, d.ID, d.KeyThumbprint, d.AgentKey,
			string(d.Status), millis(d.FirstSeen), millis(d.LastSeen), state, attestation, event)
		return oneRow(res, err, tam.ErrConflict)
	}
	// Most messages change neither status nor attestation.
	res, err := c.exec(ctx, touchDevice, d.ID, d.Revision,
		millis(d.LastSeen), state, event, string(d.Status), attestation)
	if err := oneRow(res, err, tam.ErrConflict); err != tam.ErrConflict {
		return err
	}
	res, err = c.exec(ctx, updateDevice, d.ID,
		string(d.Status), d.Revision, millis(d.LastSeen), state, attestation, event)
	return oneRow(res, err, tam.ErrConflict)
}

// oneRow turns a statement that changed nothing into an error.
func oneRow(res sql.Result, err, otherwise error) error {
	if err != nil {
		return wrap(err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return wrap(err)
	}
	if n == 0 {
		return otherwise
	}
	return nil
}

// Events implements [tam.Devices].
func (s *Store) Events(ctx context.Context, deviceID string, before int64, limit int) ([]tam.Event, error) {
	rows, err := s.stmts.events.QueryContext(ctx, deviceID, before, limit)
	if err != nil {
		return nil, wrap(err)
	}
	defer rows.Close()
	var list []tam.Event
	for rows.Next() {
		e := tam.Event{DeviceID: deviceID}
		var at int64
		if err := rows.Scan(&e.ID, &at, &e.Kind, &e.Detail); err != nil {
			return nil, wrap(err)
		}
		e.At = fromMillis(at)
		list = append(list, e)
	}
	return list, wrap(rows.Err())
}
