package tam_test

import (
	"testing"

	"github.com/go-teep/teep/cose"
)

// TestWhoHasAVersion follows one device through what it installs.
func TestWhoHasAVersion(t *testing.T) {
	w := newWorld(t)
	w.publish(release{name: "app", sequence: 1, payload: "one"})
	a := w.agent(cose.AlgESP256)
	a.requests(componentID("app"))
	a.succeed(a.update())
	with := func(sequence uint64) int {
		list, err := w.store.DevicesWith(ctx(), manifestID("app"), sequence, "", 10)
		must(t, err)
		return len(list)
	}
	if with(1) != 1 {
		t.Fatal("the device is not listed")
	}
	a.requested = nil
	a.has(componentID("app"), "one")
	w.publish(release{name: "app", sequence: 2, payload: "two"})
	a.succeed(a.update())
	if with(1) != 0 || with(2) != 1 {
		t.Fatalf("%d have version 1, and %d version 2", with(1), with(2))
	}
}
