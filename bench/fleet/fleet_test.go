package main

import (
	"bytes"
	"io"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/tam/postgres/pgtest"
)

// TestFleet runs the measurement with a small fleet, so that it does not break unnoticed.
func TestFleet(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), options{devices: 200, replicas: 1, workers: 2 * runtime.GOMAXPROCS(0), idle: 100, out: &out}); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, want := range []string{"floor: ", "enrol: 200 sessions, 0 updates", "chooses 100 of 200 devices", ", 200 updates in ", "rollout done", "200 devices, all of them with the version"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, &out)
		}
	}
}

// TestFleetKnown runs it with devices that are loaded into a database of PostgreSQL, and come when there
// is something for them only: no round but the ones of the two stages has sessions.
func TestFleetKnown(t *testing.T) {
	var out bytes.Buffer
	store := pgtest.Start(t).Database(t)
	if err := run(t.Context(), options{devices: 200, replicas: 2, workers: 4, store: store, known: true, out: &out}); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, want := range []string{"known: 200 devices were loaded", "chooses 100 of 200 devices", "roll out: 200 sessions, 200 updates in ", "200 devices, all of them with the version"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, &out)
		}
	}
}

// TestFleetOfProcesses runs it with teep-tam itself.
func TestFleetOfProcesses(t *testing.T) {
	program := filepath.Join(t.TempDir(), "teep-tam")
	build := exec.Command("go", "build", "-o", program, "../../cmd/teep-tam")
	build.Env = append(build.Environ(), "CGO_ENABLED=0") // as the Makefile builds it, which may have compiled most of it
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var out bytes.Buffer
	if err := run(t.Context(), options{devices: 100, replicas: 1, workers: 8, rate: 100_000, program: program, out: &out}); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, want := range []string{"1 processes, 8 connections, 100 attested sessions with an Update", "did not reach", "MiB resident"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, &out)
		}
	}
}

// TestKnownDevicesAreAsIfEnrolled: what -known loads is what enrolling stores.
func TestKnownDevicesAreAsIfEnrolled(t *testing.T) {
	o := options{devices: 100, replicas: 1, workers: 1, out: io.Discard}
	s, err := newService(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	if _, err := s.enrol(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	for _, index := range []uint32{0, 99} {
		d, err := s.fleet.device(index)
		if err != nil {
			t.Fatal(err)
		}
		want, err := d.record(time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.store.Device(t.Context(), want.ID)
		if err != nil {
			t.Fatal(err)
		}
		got.FirstSeen, got.LastSeen, got.Attestation.At, got.Revision = time.Time{}, time.Time{}, time.Time{}, 0
		if !reflect.DeepEqual(got, want) {
			t.Errorf("device %d enrolled as\n%+v\nand would be loaded as\n%+v", index, got, want)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]options{
		"too few devices":     {devices: 10, replicas: 1, workers: 1},
		"too many":            {devices: 1 << 30, replicas: 1, workers: 1},
		"no replica":          {devices: 1000, workers: 1},
		"no worker":           {devices: 1000, replicas: 1},
		"replicas and a file": {devices: 1000, replicas: 2, workers: 1},
		"known and a file":    {devices: 1000, replicas: 1, workers: 1, known: true},
		"rate in one process": {devices: 1000, replicas: 1, workers: 1, rate: 10},
		"known processes":     {devices: 1000, replicas: 1, workers: 1, known: true, store: "postgres://", program: "teep-tam"},
		"cores of nobody":     {devices: 1000, replicas: 1, workers: 1, cores: 1},
		"cores below none":    {devices: 1000, replicas: 1, workers: 1, cores: -1, program: "teep-tam"},
		"compared to a file":  {devices: 1000, replicas: 1, workers: 1, compare: "postgres://", program: "teep-tam"},
		"idle beyond all":     {devices: 1000, replicas: 1, workers: 1, idle: 101},
	} {
		if err := run(t.Context(), o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
