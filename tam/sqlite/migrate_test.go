package sqlite

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/tam"
)

// TestMigratesFromTheFirstSchema: what a store of the first schema holds is there after opening it, and
// counted with its attestation, which that schema did not have as a column.
func TestMigratesFromTheFirstSchema(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "tam.db")
	s, err := Open(ctx, path, Options{RelaxedDurability: true})
	if err != nil {
		t.Fatal(err)
	}
	for n, status := range []attest.Status{attest.StatusNone, attest.StatusAffirming, attest.StatusWarning, attest.StatusContraindicated} {
		d := &tam.Device{ID: status.String(), KeyThumbprint: []byte{byte(n)}, AgentKey: []byte{1}, Status: tam.DeviceAccepted,
			Attestation: tam.Attestation{Status: status, At: time.Unix(1e9, 0).UTC()}}
		for i := range n {
			e := &tam.Event{DeviceID: d.ID, At: time.Unix(int64(1e9+10*i-n), 0), Kind: tam.EventAttested, Detail: fmt.Sprint(i)}
			if err := s.CommitExchange(ctx, tam.Exchange{Device: d, Event: e}); err != nil {
				t.Fatal(err)
			}
		}
		if n == 0 {
			if err := s.CommitExchange(ctx, tam.Exchange{Device: d}); err != nil {
				t.Fatal(err)
			}
		}
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, s.writer, files)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.DownTo(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s, err = Open(ctx, path, Options{RelaxedDurability: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	counts, err := s.CountDevices(ctx)
	if err != nil || len(counts) != 4 {
		t.Fatalf("%+v, %v", counts, err)
	}
	for _, c := range counts {
		list, err := s.FindDevices(ctx, tam.DeviceFilter{Attestation: c.Attestation.String()}, "", 9)
		if err != nil || c.Devices != 1 || len(list) != 1 || list[0].Attestation.Status != c.Attestation || list[0].ID != c.Attestation.String() {
			t.Errorf("%+v: %+v, %v", c, list, err)
		}
	}
	for n, id := range []string{"none", "affirming", "warning", "contraindicated"} {
		if err := s.CommitExchange(ctx, tam.Exchange{Event: &tam.Event{DeviceID: id, At: time.Unix(2e9, 0), Kind: tam.EventFailed, Detail: fmt.Sprint(n)}}); err != nil {
			t.Fatal(err)
		}
		var said []string
		for before := int64(0); ; {
			page, err := s.Events(ctx, id, before, 2)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range page {
				said, before = append(said, e.Detail), e.ID
			}
			if len(page) < 2 {
				break
			}
		}
		if want := []string{"3", "2", "1", "0"}[3-n:]; !slices.Equal(said, want) {
			t.Errorf("history of %s is %q, not %q", id, said, want)
		}
	}
	head, err := s.AuditHead(ctx)
	if err != nil || head.Seq != 0 {
		t.Errorf("a fresh audit log begins with %+v, %v", head, err)
	}
}
