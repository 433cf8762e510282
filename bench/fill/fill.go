// Package fill makes stores with many devices in little time, for measurements of large fleets: the rows
// are those that the protocol would have made, and go into the database in bulk.
//
//	store, err := postgres.Open(ctx, url, postgres.Options{}) // a fresh one
//	err = fill.Postgres(ctx, store, 1_000_000, func(i int) (*tam.Device, error) { … })
package fill

import (
	"context"
	"encoding/base64"
	"fmt"
	"runtime"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/postgres"
)

// row is what a device leaves in the tables.
type row struct {
	device *tam.Device
	state  []byte
	err    error
}

// rest is what the tables beside that of devices have of a device.
type rest struct {
	id        string
	ueid      []byte
	inventory []tam.Installed
}

// Postgres loads n devices into a fresh store. device is called for 0 to n-1, by several goroutines at a
// time; what it returns has the first revision.
func Postgres(ctx context.Context, store *postgres.Store, n int, device func(i int) (*tam.Device, error)) error {
	_, err := store.Load(ctx, func(insert func(table string, columns []string, values []any) error) error {
		// What a fresh store has, and Load takes out of it.
		if err := insert("catalogue", []string{"one", "revision"}, []any{int64(1), int64(1)}); err != nil {
			return err
		}
		if err := insert("audit_head", []string{"one", "seq", "hash"}, []any{int64(1), int64(0), make([]byte, 32)}); err != nil {
			return err
		}
		// One table after the other, so that the rows of one go together.
		left := make([]rest, 0, n) // of each device what the other tables need
		err := each(ctx, n, device, func(r row) error {
			d := r.device
			left = append(left, rest{d.ID, d.UEID, d.Inventory})
			return insert("devices",
				[]string{"id", "key_thumbprint", "agent_key", "status", "revision", "first_seen", "last_seen", "state", "attestation"},
				[]any{d.ID, d.KeyThumbprint, d.AgentKey, string(d.Status), int64(1), d.FirstSeen.UnixMilli(), d.LastSeen.UnixMilli(),
					string(r.state), d.Attestation.Status.String()})
		})
		if err != nil {
			return err
		}
		for _, d := range left {
			if err := insert("identities", []string{"ueid", "device_id"}, []any{base64.StdEncoding.EncodeToString(d.ueid), d.id}); err != nil {
				return err
			}
		}
		for _, d := range left {
			for _, i := range d.inventory {
				if err := insert("installed", []string{"device_id", "manifest", "sequence"},
					[]any{d.id, []byte(i.Manifest.Key()), fmt.Sprintf("%020d", i.Sequence)}); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return err
}

// each makes the rows by as many goroutines as there are cores, and hands them over in order.
func each(ctx context.Context, n int, device func(i int) (*tam.Device, error), take func(row) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	makers := make([]chan row, max(2, runtime.GOMAXPROCS(0)))
	for first := range makers {
		out := make(chan row, 256)
		makers[first] = out
		go func() {
			for i := first; i < n; i += len(makers) {
				var r row
				if r.device, r.err = device(i); r.err == nil {
					r.state, r.err = r.device.State()
				}
				select {
				case out <- r:
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	for i := range n {
		var r row
		select {
		case r = <-makers[i%len(makers)]:
		case <-ctx.Done():
			return ctx.Err()
		}
		if r.err != nil {
			return fmt.Errorf("device %d: %w", i, r.err)
		}
		if err := take(r); err != nil {
			return err
		}
	}
	return nil
}
