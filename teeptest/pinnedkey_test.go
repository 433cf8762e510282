package teeptest_test

import (
	"testing"

	"github.com/go-teep/teep/teeptest"
)

// TestPinnedDependencyGetsItsKey: a device that needs an older version of something encrypted, because what depends
// on it names that version by digest, gets the key to that version, not to the newest; and the newest with its key
// once nothing names the older one.
func TestPinnedDependencyGetsItsKey(t *testing.T) {
	w := teeptest.New(t, teeptest.Options{Logger: testLogger(t)})
	d, ctx := w.Device, t.Context()
	publishEncrypted(t, w, "lib", 1, "lib one")
	w.Publish(w.Dependent("app", 1, "app one", "lib"))
	publishEncrypted(t, w, "lib", 2, "lib two")
	if err := d.Request(ctx, "app"); err != nil {
		t.Fatal(err)
	}
	w.Settle(ctx, d)
	answers(t, d, "app", "app one")
	answers(t, d, "lib", "lib one")
	// Another device may have the newest.
	other := w.AddDevice("other")
	if err := other.Request(ctx, "lib"); err != nil {
		t.Fatal(err)
	}
	answers(t, other, "lib", "lib two")

	w.Publish(w.Dependent("app", 2, "app two", "lib"))
	w.Settle(ctx, d)
	answers(t, d, "app", "app two")
	answers(t, d, "lib", "lib two")
}
