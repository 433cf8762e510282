package sqlite

import (
	"context"
	"database/sql"
	"encoding/base64"
	"fmt"
	"hash/fnv"
	"strconv"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/audit"
)

// PolicyRecords implements [tam.Policies].
func (s *Store) PolicyRecords(ctx context.Context, kind tam.RecordKind, after string, limit int) ([]tam.PolicyRecord, error) {
	rows, err := s.reader.QueryContext(ctx, `SELECT name, revision, data FROM policy WHERE kind = $1 AND name > $2
		ORDER BY name LIMIT $3`, string(kind), after, limit)
	return collectRows(rows, err, func(r *tam.PolicyRecord) error {
		r.Kind = kind
		return rows.Scan(&r.Name, &r.Revision, &r.Data)
	})
}

// PolicyRecord implements [tam.Policies].
func (s *Store) PolicyRecord(ctx context.Context, kind tam.RecordKind, name string) (*tam.PolicyRecord, error) {
	r := &tam.PolicyRecord{Kind: kind, Name: name}
	err := s.reader.QueryRowContext(ctx, `SELECT revision, data FROM policy WHERE kind = $1 AND name = $2`, string(kind), name).
		Scan(&r.Revision, &r.Data)
	if err != nil {
		return nil, wrap(err)
	}
	return r, nil
}

// ChangePolicy implements [tam.Policies].
func (s *Store) ChangePolicy(ctx context.Context, c tam.PolicyChange) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		if err := expectCatalogue(ctx, tx, c.Catalogue); err != nil {
			return err
		}
		var res sql.Result
		var err error
		switch {
		case c.Revision == 0:
			res, err = tx.ExecContext(ctx, `INSERT INTO policy (kind, name, revision, data)
				SELECT $1, $2, revision + 1, $3 FROM catalogue WHERE one = 1 ON CONFLICT DO NOTHING`, string(c.Kind), c.Name, string(c.Data))
		case c.Data == nil:
			res, err = tx.ExecContext(ctx, `DELETE FROM policy WHERE kind = $1 AND name = $2 AND revision = $3`,
				string(c.Kind), c.Name, c.Revision)
		default:
			res, err = tx.ExecContext(ctx, `UPDATE policy SET revision = revision + 1, data = $4
				WHERE kind = $1 AND name = $2 AND revision = $3`, string(c.Kind), c.Name, c.Revision, string(c.Data))
		}
		if err := oneRow(res, err, tam.ErrConflict); err != nil {
			return err
		}
		if err := s.record(ctx, tx, audit.Action(c.Action), c.Name, c.Detail); err != nil {
			return err
		}
		if e := c.Event; e != nil {
			if _, err := tx.ExecContext(ctx, `INSERT INTO events (id, device_id, before, at, kind, detail, rollout)
				SELECT coalesce(max(id), 0) + 1, '', 0, $1, $2, $3, $4 FROM events`, millis(e.At), string(e.Kind), e.Detail, e.Rollout); err != nil {
				return wrap(err)
			}
		}
		return s.bump(ctx, tx)
	})
}

// expectCatalogue refuses a change that was checked against another revision of the catalogue; 0 is any.
func expectCatalogue(ctx context.Context, tx *sql.Tx, expected int64) error {
	if expected == 0 {
		return nil
	}
	var revision int64
	if err := tx.QueryRowContext(ctx, `SELECT revision FROM catalogue WHERE one = 1`).Scan(&revision); err != nil {
		return wrap(err)
	}
	if revision != expected {
		return tam.ErrConflict
	}
	return nil
}

// RolloutCounts implements [tam.Policies].
func (s *Store) RolloutCounts(ctx context.Context, rollout string) ([]tam.RolloutCount, error) {
	rows, err := s.reader.QueryContext(ctx, `SELECT stage, progress, sum(devices) FROM rollout_counts
		WHERE rollout = $1 GROUP BY stage, progress ORDER BY stage, progress`, rollout)
	return collectRows(rows, err, func(c *tam.RolloutCount) error {
		c.Rollout = rollout
		return rows.Scan(&c.Stage, &c.Progress, &c.Devices)
	})
}

// collectRows reads rows with a function that scans the current one.
func collectRows[T any](rows *sql.Rows, err error, scan func(*T) error) ([]T, error) {
	if err != nil {
		return nil, wrap(err)
	}
	defer rows.Close()
	var list []T
	for rows.Next() {
		var v T
		if err := scan(&v); err != nil {
			return nil, wrap(err)
		}
		list = append(list, v)
	}
	return list, wrap(rows.Err())
}

const insertInstalled = `INSERT INTO installed (device_id, manifest, sequence) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`

// putFleet writes what an exchange changes beside the device: its identity when it is new, what it has
// installed, and the counts of rollouts. Most exchanges change none of these.
func (c *hotConn) putFleet(ctx context.Context, x *tam.Exchange) error {
	if d := x.Device; d != nil && d.Revision == 0 && len(d.UEID) > 0 {
		if _, err := c.exec(ctx, insertIdentity, base64.StdEncoding.EncodeToString(d.UEID), d.ID); err != nil {
			return wrap(err)
		}
	}
	if x.Device != nil && x.Reindex {
		if _, err := c.exec(ctx, clearInstalled, x.Device.ID); err != nil {
			return wrap(err)
		}
		for _, i := range inService(x.Device) {
			if _, err := c.exec(ctx, putInstalled, x.Device.ID, []byte(i.Manifest.Key()), sequenceKey(i.Sequence)); err != nil {
				return wrap(err)
			}
		}
	}
	if x.Replaced != nil {
		if _, err := c.exec(ctx, clearInstalled, x.Replaced.ID); err != nil {
			return wrap(err)
		}
	}
	for _, n := range x.Counts {
		if _, err := c.exec(ctx, addCount, n.Rollout, int64(n.Stage), string(n.Progress), shard(x), n.Devices); err != nil {
			return wrap(err)
		}
	}
	return nil
}

// inService is what counts as installed: devices that left the fleet have nothing.
func inService(d *tam.Device) []tam.Installed {
	if d.Status == tam.DeviceRetired {
		return nil
	}
	return d.Inventory
}

// shard spreads devices over the rows of a count.
func shard(x *tam.Exchange) int64 {
	if x.Device == nil {
		return 0
	}
	h := fnv.New32a()
	h.Write([]byte(x.Device.ID))
	return int64(h.Sum32() % tam.CounterShards)
}

// DevicesByUEID implements [tam.Identities].
func (s *Store) DevicesByUEID(ctx context.Context, ueid []byte) ([]tam.Device, error) {
	rows, err := s.reader.QueryContext(ctx, `SELECT `+deviceColumns+` FROM devices WHERE id IN
		(SELECT device_id FROM identities WHERE ueid = $1) ORDER BY id`, base64.StdEncoding.EncodeToString(ueid))
	return scanDevices(rows, err)
}

// DevicesWith implements [tam.Identities].
func (s *Store) DevicesWith(ctx context.Context, manifest suit.ComponentID, sequence uint64, after string, limit int) ([]tam.Device, error) {
	rows, err := s.reader.QueryContext(ctx, `SELECT `+deviceColumns+` FROM devices WHERE id IN
		(SELECT device_id FROM installed WHERE manifest = $1 AND sequence = $2 AND device_id > $3 ORDER BY device_id LIMIT $4)
		ORDER BY id`, []byte(manifest.Key()), sequenceKey(sequence), after, limit)
	return scanDevices(rows, err)
}

// CountInstalled implements [tam.Identities].
func (s *Store) CountInstalled(ctx context.Context, after tam.VersionCursor, limit int) ([]tam.InstalledCount, error) {
	key, sequence := cursorKey(after)
	rows, err := s.reader.QueryContext(ctx, `SELECT manifest, sequence, count(*) FROM installed WHERE (manifest, sequence) > ($1, $2)
		GROUP BY manifest, sequence ORDER BY manifest, sequence LIMIT $3`, key, sequence, limit)
	return collectRows(rows, err, func(c *tam.InstalledCount) error {
		var manifest []byte
		var sequence string
		if err := rows.Scan(&manifest, &sequence, &c.Devices); err != nil {
			return err
		}
		return decodeInstalled(c, manifest, sequence)
	})
}

func decodeInstalled(c *tam.InstalledCount, manifest []byte, sequence string) (err error) {
	if err := c.Manifest.UnmarshalCBOR(manifest); err != nil {
		return fmt.Errorf("identifier of an installed manifest: %w", err)
	}
	c.Sequence, err = strconv.ParseUint(sequence, 10, 64)
	return err
}

// ChangePublisher implements [tam.Publishers].
func (s *Store) ChangePublisher(ctx context.Context, name string, c tam.PublisherChange) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		p, err := scanJSON[tam.Publisher](tx.QueryRowContext(ctx, `SELECT data FROM publishers WHERE name = $1`, name))
		if err != nil {
			return err
		}
		detail, err := p.Apply(c)
		if err != nil {
			return err
		}
		if err := s.addKeys(ctx, tx, name, append(c.AddKeys, c.AddAnchors...)); err != nil {
			return err
		}
		if err := s.replace(ctx, tx, s.stmts.updatePublisher, p, name); err != nil {
			return err
		}
		action := audit.ActionPublisherKeys
		if c.Withdraw != nil {
			action = audit.ActionKeyWithdraw
		}
		if err := s.record(ctx, tx, action, name, detail); err != nil {
			return err
		}
		return s.bump(ctx, tx)
	})
}

// addKeys takes keys and anchors for a publisher.
func (s *Store) addKeys(ctx context.Context, tx *sql.Tx, name string, keys [][]byte) error {
	for _, key := range keys {
		res, err := tx.StmtContext(ctx, s.stmts.insertPublisherKey).ExecContext(ctx, key, name)
		if err := oneRow(res, err, tam.ErrExists); err != nil {
			return err
		}
	}
	return nil
}
