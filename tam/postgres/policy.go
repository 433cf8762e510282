package postgres

import (
	"cmp"
	"context"
	"encoding/base64"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/audit"
	"github.com/go-teep/teep/tam/policy"
)

// PolicyRecords implements [tam.Policies].
func (s *Store) PolicyRecords(ctx context.Context, kind tam.RecordKind, after string, limit int) ([]tam.PolicyRecord, error) {
	rows := s.pool.Query(ctx, `SELECT name, revision, data FROM policy WHERE kind = $1 AND name > $2
		ORDER BY name LIMIT $3`, string(kind), after, limit)
	return collect(rows, func(row pgx.Row) (*tam.PolicyRecord, error) {
		r := &tam.PolicyRecord{Kind: kind}
		var data string
		err := row.Scan(&r.Name, &r.Revision, &data)
		r.Data = []byte(data)
		return r, wrap(err)
	})
}

// PolicyRecord implements [tam.Policies].
func (s *Store) PolicyRecord(ctx context.Context, kind tam.RecordKind, name string) (*tam.PolicyRecord, error) {
	r := &tam.PolicyRecord{Kind: kind, Name: name}
	var data string
	err := s.pool.QueryRow(ctx, `SELECT revision, data FROM policy WHERE kind = $1 AND name = $2`, string(kind), name).
		Scan(&r.Revision, &data)
	if err != nil {
		return nil, wrap(err)
	}
	r.Data = []byte(data)
	return r, nil
}

// ChangePolicy implements [tam.Policies].
func (s *Store) ChangePolicy(ctx context.Context, c tam.PolicyChange) error {
	return s.change(ctx, func(tx pgx.Tx) (bool, error) {
		if err := expectCatalogue(ctx, tx, c.Catalogue); err != nil {
			return false, err
		}
		var q query
		switch {
		case c.Revision == 0:
			q = query{`INSERT INTO policy (kind, name, revision, data)
				SELECT $1::text, $2::text, revision + 1, $3::text FROM catalogue WHERE one = 1 ON CONFLICT DO NOTHING`,
				[]any{string(c.Kind), c.Name, string(c.Data)}}
		case c.Data == nil:
			q = query{`DELETE FROM policy WHERE kind = $1 AND name = $2 AND revision = $3`,
				[]any{string(c.Kind), c.Name, c.Revision}}
		default:
			q = query{`UPDATE policy SET revision = revision + 1, data = $4 WHERE kind = $1 AND name = $2 AND revision = $3`,
				[]any{string(c.Kind), c.Name, c.Revision, string(c.Data)}}
		}
		tag, err := tx.Exec(ctx, q.text, q.args...)
		if err := oneRow(tag, err, tam.ErrConflict); err != nil {
			return false, err
		}
		if e := c.Event; e != nil {
			if _, err := tx.Exec(ctx, insertRolloutEvent, millis(e.At), string(e.Kind), []byte(e.Detail), e.Rollout); err != nil {
				return false, wrap(err)
			}
		}
		return true, s.record(ctx, tx, audit.Action(c.Action), c.Name, c.Detail)
	})
}

// expectCatalogue refuses a change that was checked against another revision of the catalogue; 0 is any.
func expectCatalogue(ctx context.Context, tx pgx.Tx, expected int64) error {
	if expected == 0 {
		return nil
	}
	var revision int64
	if err := tx.QueryRow(ctx, `SELECT revision FROM catalogue WHERE one = 1`).Scan(&revision); err != nil {
		return wrap(err)
	}
	if revision != expected {
		return tam.ErrConflict
	}
	return nil
}

// insertRolloutEvent appends to the feed what is in no device's history. Changes of policy are made one after the
// other, so that no two take the same number.
const insertRolloutEvent = `INSERT INTO events (device_id, id, at, kind, detail, feed, rollout)
	SELECT '', coalesce(max(id), 0) + 1, $1::bigint, $2::text, $3::bytea, NULL, $4::text FROM events WHERE device_id = ''`

// RolloutCounts implements [tam.Policies].
func (s *Store) RolloutCounts(ctx context.Context, rollout string) ([]tam.RolloutCount, error) {
	rows := s.pool.Query(ctx, `SELECT stage, progress, sum(devices)::bigint FROM rollout_counts
		WHERE rollout = $1 GROUP BY stage, progress ORDER BY stage, progress`, rollout)
	return collect(rows, func(row pgx.Row) (*tam.RolloutCount, error) {
		c := &tam.RolloutCount{Rollout: rollout}
		var progress string
		err := row.Scan(&c.Stage, &progress, &c.Devices)
		c.Progress = policy.Progress(progress)
		return c, wrap(err)
	})
}

const insertInstalled = `INSERT INTO installed (device_id, manifest, sequence) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`

// fleetQueries are the statements for what an exchange changes beside the device: its identity when it is
// new, and what it has installed. Most exchanges change none of these.
func fleetQueries(x *tam.Exchange) []query {
	var list []query
	d := x.Device
	if d != nil && d.Revision == 0 && len(d.UEID) > 0 {
		list = append(list, query{`INSERT INTO identities (ueid, device_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`,
			[]any{base64.StdEncoding.EncodeToString(d.UEID), d.ID}})
	}
	if d != nil && x.Reindex {
		list = append(list, query{`DELETE FROM installed WHERE device_id = $1`, []any{d.ID}})
		for _, i := range inService(d) {
			list = append(list, query{insertInstalled,
				[]any{d.ID, []byte(i.Manifest.Key()), sequenceKey(i.Sequence)}})
		}
	}
	if x.Replaced != nil {
		list = append(list, query{`DELETE FROM installed WHERE device_id = $1`, []any{x.Replaced.ID}})
	}
	return list
}

// countQueries are the statements for the counts of rollouts that exchanges change, in one order for all, so
// that no two transactions wait for each other. They come last, since their rows are those that all devices
// share, and go to one shard: only the sum over the shards has a meaning.
func countQueries(batch []*pendingExchange) []statement {
	type row struct {
		rollout  string
		stage    int
		progress policy.Progress
	}
	sums := make(map[row]int64)
	for _, p := range batch {
		for _, c := range p.counts {
			sums[row{c.Rollout, c.Stage, c.Progress}] += c.Devices
		}
	}
	rows := slices.SortedFunc(maps.Keys(sums), func(a, b row) int {
		return cmp.Or(cmp.Compare(a.rollout, b.rollout), cmp.Compare(a.stage, b.stage), cmp.Compare(a.progress, b.progress))
	})
	list := make([]statement, 0, len(rows))
	for _, r := range rows {
		list = append(list, statement{query{`INSERT INTO rollout_counts (rollout, stage, progress, shard, devices) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (rollout, stage, progress, shard) DO UPDATE SET devices = rollout_counts.devices + excluded.devices`,
			[]any{r.rollout, r.stage, string(r.progress), batch[0].shard, sums[r]}}, nil})
	}
	return list
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
	rows := s.pool.Query(ctx, `SELECT `+deviceColumns+` FROM devices WHERE id IN
		(SELECT device_id FROM identities WHERE ueid = $1) ORDER BY id`, base64.StdEncoding.EncodeToString(ueid))
	return scanDevices(rows)
}

// DevicesWith implements [tam.Identities].
func (s *Store) DevicesWith(ctx context.Context, manifest suit.ComponentID, sequence uint64, after string, limit int) ([]tam.Device, error) {
	rows := s.pool.Query(ctx, `SELECT `+deviceColumns+` FROM devices WHERE id IN
		(SELECT device_id FROM installed WHERE manifest = $1 AND sequence = $2 AND device_id > $3 ORDER BY device_id LIMIT $4)
		ORDER BY id`, []byte(manifest.Key()), sequenceKey(sequence), after, limit)
	return scanDevices(rows)
}

// CountInstalled implements [tam.Identities].
func (s *Store) CountInstalled(ctx context.Context, after tam.VersionCursor, limit int) ([]tam.InstalledCount, error) {
	key, sequence := cursorKey(after)
	rows := s.pool.Query(ctx, `SELECT manifest, sequence, count(*) FROM installed WHERE (manifest, sequence) > ($1, $2)
		GROUP BY manifest, sequence ORDER BY manifest, sequence LIMIT $3`, key, sequence, limit)
	return collect(rows, func(row pgx.Row) (*tam.InstalledCount, error) {
		c := &tam.InstalledCount{}
		var manifest []byte
		var sequence string
		err := row.Scan(&manifest, &sequence, &c.Devices)
		if err == nil {
			err = c.Manifest.UnmarshalCBOR(manifest)
		}
		if err == nil {
			c.Sequence, err = strconv.ParseUint(sequence, 10, 64)
		}
		return c, wrap(err)
	})
}

// ChangePublisher implements [tam.Publishers].
func (s *Store) ChangePublisher(ctx context.Context, name string, c tam.PublisherChange) error {
	return s.change(ctx, func(tx pgx.Tx) (bool, error) {
		p, err := scanJSON[tam.Publisher](tx.QueryRow(ctx, selectPublisher, name))
		if err != nil {
			return false, err
		}
		detail, err := p.Apply(c)
		if err != nil {
			return false, err
		}
		if err := addKeys(ctx, tx, name, append(slices.Clone(c.AddKeys), c.AddAnchors...)); err != nil {
			return false, err
		}
		data, err := toJSON(p)
		if err != nil {
			return false, err
		}
		if _, err := tx.Exec(ctx, `UPDATE publishers SET data = $2 WHERE name = $1`, name, data); err != nil {
			return false, wrap(err)
		}
		action := audit.ActionPublisherKeys
		if c.Withdraw != nil {
			action = audit.ActionKeyWithdraw
		}
		return true, s.record(ctx, tx, action, name, detail)
	})
}

// addKeys takes keys and anchors for a publisher.
func addKeys(ctx context.Context, tx pgx.Tx, name string, keys [][]byte) error {
	for _, key := range keys {
		tag, err := tx.Exec(ctx, `INSERT INTO publisher_keys (key, name) VALUES ($1, $2) ON CONFLICT DO NOTHING`, key, name)
		if err := oneRow(tag, err, tam.ErrExists); err != nil {
			return err
		}
	}
	return nil
}
