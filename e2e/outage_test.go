package e2e

import (
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/postgres/pgtest"
	"github.com/go-teep/teep/teeptest/simulated"
	"github.com/go-teep/teep/transport"
)

// TestOutages takes away what a TAM stands on. Agents and operators are told to come again, and are served as soon as it
// is back, with nothing restarted.
func TestOutages(t *testing.T) {
	t.Parallel()
	t.Run("database", func(t *testing.T) {
		t.Parallel()
		server := pgtest.Start(t)
		o := newOutage(t, "store: "+server.Database(t), "store: tam.db")
		o.start()
		o.prepare()
		for range 2 {
			o.outage(func() { server.Stop(t) }, func() { server.Run(t) })
		}
	})
	t.Run("full disk", func(t *testing.T) {
		t.Parallel()
		disk := smallDisk(t)
		o := newOutage(t, "store: "+filepath.Join(disk, "tam.db"), "store: tam.db")
		o.start()
		o.prepare()
		filler := filepath.Join(disk, "filler")
		for range 2 {
			o.outage(func() { fill(t, filler) }, func() { must(t, os.Remove(filler)) })
		}
	})
	t.Run("slow disk", func(t *testing.T) {
		t.Parallel()
		o := newOutage(t, "store: tam.db", "store: tam.db")
		o.start()
		o.prepare()
		// Somebody has the file for longer than a write waits.
		db, err := sql.Open("sqlite", "file:"+filepath.Join(o.dir, "tam.db")+"?_txlock=immediate&_pragma=busy_timeout(10000)")
		must(t, err)
		defer db.Close()
		var tx *sql.Tx
		o.tries = 1
		o.outage(func() { tx, err = db.BeginTx(t.Context(), nil); must(t, err) }, func() { must(t, tx.Rollback()) })
	})
	t.Run("object store", func(t *testing.T) {
		t.Parallel()
		s3 := newObjectStore(t)
		o := newOutage(t, fmt.Sprintf("blobs: s3://teep/tam?endpoint=http://%s&region=us-east-1\ns3: {insecure-plain-http: true}", s3.address), "blobs: envelopes")
		o.start()
		o.prepare()
		// The envelope is in the process's memory; a new process has to fetch it.
		o.replicas[0].kill()
		o.replicas[0].start()
		o.outage(s3.kill, s3.run)
	})
}

// outage is a service with devices, one of which comes anew each time.
type outage struct {
	*storm
	n     uint64
	tries int // of device and operator, while something is gone
}

// newOutage makes a service whose configuration says new instead of old.
func newOutage(t *testing.T, new, old string) *outage {
	t.Helper()
	s, verifier := newPassportService(t, 1, func(text string) string { return strings.Replace(text, old, new, 1) })
	s.replicas[0].env = []string{"AWS_ACCESS_KEY_ID=teep", "AWS_SECRET_ACCESS_KEY=secret-of-the-bucket"}
	return &outage{storm: &storm{service: s, verifier: verifier}, tries: 2}
}

// prepare publishes the first version.
func (o *outage) prepare() {
	o.storm = newStorm(o.t, o.service, 1, 16, o.verifier)
	envelope, err := o.envelope(1)
	must(o.t, err)
	_, err = o.client(o.replicas[0]).Publish(o.t.Context(), envelope)
	must(o.t, err)
	o.n = 1
}

// outage looks at what works before, while something is gone, and after.
func (o *outage) outage(away, back func()) {
	t, r := o.t, o.replicas[0]
	t.Helper()
	d := o.devices[o.n]
	o.n++
	message := o.response(d)
	publish := func() error {
		envelope, err := o.envelope(o.n)
		if err != nil {
			return err
		}
		if _, err = o.client(r).Publish(t.Context(), envelope); refused(err, "sequence-number") {
			return nil // it was stored, and the answer was lost
		}
		return err
	}
	away()
	for range o.tries {
		var operator sync.WaitGroup
		operator.Go(func() {
			var p *api.Problem
			if err := publish(); !errors.As(err, &p) || p.Status != http.StatusServiceUnavailable {
				t.Errorf("an operator is told %v", err)
			}
		})
		_, err := o.transport.Post(t.Context(), r.tamURI(), message)
		var status *transport.StatusError
		if !errors.As(err, &status) || status.Status != http.StatusServiceUnavailable || status.RetryAfter <= 0 {
			t.Errorf("a device is told %v", err)
		}
		operator.Wait()
		if s := r.status("/v1/livez"); s != http.StatusOK {
			t.Errorf("the process does not live: %d", s)
		}
		if _, err := o.transport.Post(t.Context(), r.tamURI(), nil); err != nil {
			t.Errorf("an empty message is not answered: %v", err)
		}
	}
	if !r.alive() {
		t.Fatal("the process ended")
	}
	back()
	must(t, until(t.Context(), func() error {
		reply, err := o.transport.Post(t.Context(), r.tamURI(), message)
		if err == nil && len(reply) == 0 {
			return errors.New("no Update")
		}
		return err
	}))
	must(t, until(t.Context(), publish))
	if s := r.status("/v1/readyz"); s != http.StatusOK {
		t.Errorf("it is not ready: %d", s)
	}
	if record, err := o.client(r).Device(t.Context(), d.id); err != nil || record.Pending != 1 {
		t.Errorf("the device is %+v, %v", record, err)
	}
}

// response is what a new device says, which is answered with an Update.
func (o *outage) response(d *stormDevice) []byte {
	o.t.Helper()
	query, err := o.transport.Post(o.t.Context(), o.replicas[0].tamURI(), nil)
	must(o.t, err)
	q, err := simulated.Content[*teep.QueryRequest](query)
	must(o.t, err)
	message, err := d.Response(q, simulated.Says{Attests: true}, time.Now())
	must(o.t, err)
	return message
}

// smallDisk is a file system of a few megabytes.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=6m,mode=700"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("mounting a small disk: %v", err)
		}
		t.Skipf("skipped: mounting a small disk: %v; run the test as root", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill takes all the space that is left.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	for size := 1 << 16; size > 0; size /= 2 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
}

// objectStore is an S3 service that can be killed, and comes back with what it had.
type objectStore struct {
	t       *testing.T
	address string
	handler http.Handler
	server  *httptest.Server
}

func newObjectStore(t *testing.T) *objectStore {
	t.Helper()
	backend := s3mem.New()
	must(t, backend.CreateBucket("teep"))
	s := &objectStore{t: t, address: unusedAddress(t), handler: gofakes3.New(backend).Server()}
	s.run()
	t.Cleanup(s.kill)
	return s
}

func (s *objectStore) run() {
	s.t.Helper()
	ln, err := net.Listen("tcp", s.address)
	must(s.t, err)
	s.server = &httptest.Server{Listener: ln, Config: &http.Server{Handler: s.handler, ReadHeaderTimeout: time.Minute}}
	s.server.Start()
}

func (s *objectStore) kill() {
	s.server.CloseClientConnections()
	s.server.Close()
}
