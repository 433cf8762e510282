package teeptest_test

import (
	"crypto/rand"
	"io"
	"log/slog"
	"testing"

	"go.uber.org/goleak"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/broker"
	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/teeptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestInstallInvokeUpdateLeave(t *testing.T) {
	w := teeptest.New(t, teeptest.Options{Logger: testLogger(t)})
	w.Publish(w.Component("hello", 1, "one"))
	d, ctx := w.Device, t.Context()
	if err := d.Request(ctx, "hello"); err != nil {
		t.Fatal(err)
	}
	out, err := d.Invoke(ctx, "hello", "greet", nil)
	if err != nil || string(out) != "one" {
		t.Fatalf("%q, %v", out, err)
	}
	w.Publish(w.FetchedComponent("hello", 2, "two"))
	w.Settle(ctx, d)
	if out, err := d.Invoke(ctx, "hello", "greet", nil); err != nil || string(out) != "two" {
		t.Fatalf("%q, %v", out, err)
	}
	if err := d.Unrequest(ctx, "hello"); err != nil {
		t.Fatal(err)
	}
	w.Settle(ctx, d)
	if all := d.Installed(); len(all) != 0 {
		t.Fatalf("still installed: %v", all)
	}
}

// testLogger shows what TAM and agents log, for tests that fail or run with -v.
func testLogger(t interface{ Output() io.Writer }) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// installByHand sends an Update with the TAM's key, past the TAM.
func installByHand(t *testing.T, w *teeptest.World, envelope []byte) {
	t.Helper()
	s, err := w.ESP256.Signer()
	if err != nil {
		t.Fatal(err)
	}
	msg, err := teep.Protect(rand.Reader, &teep.Update{Token: []byte("by hand!"), Manifests: [][]byte{envelope}}, s)
	if err != nil {
		t.Fatal(err)
	}
	ask, err := w.Device.Link.RequestPolicyCheck(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if ask, err = w.Device.Link.ProcessTeepMessage(t.Context(), ask.Session, msg); err != nil || ask.Message == nil {
		t.Fatalf("%+v, %v", ask, err)
	}
}

// TestAppBringsTheBinary: what an app has already, neither the TAM nor a server needs to send.
func TestAppBringsTheBinary(t *testing.T) {
	w := teeptest.New(t, teeptest.Options{})
	w.Publish(w.Component("integrated", 3, "one"))
	w.Publish(w.FetchedComponent("fetched", 5, "two"))
	w.ServePayload("fetched-5", []byte("not it: whoever fetches this fails"))
	for name, r := range map[string]broker.Request{
		"integrated": {MinSequence: 3, Binary: teeptest.Program("one")},
		"fetched":    {MinSequence: 5, Binary: teeptest.Program("two")},
	} {
		r.Component = link.ComponentID(suit.NewComponentID(name))
		if err := w.Device.Broker.Request(t.Context(), r, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if out, err := w.Device.Invoke(t.Context(), name, "", nil); err != nil || string(out) == "" {
			t.Errorf("%s answers %q, %v", name, out, err)
		}
	}
	w.CheckAsked()
}
