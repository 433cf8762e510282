package teeptest_test

import (
	"bytes"
	"crypto/rand"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/teeptest"
)

func newKey(t *testing.T, alg cose.Algorithm) *cose.Key {
	t.Helper()
	k, err := cose.GenerateKey(rand.Reader, alg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func ring(t *testing.T, decryption []*cose.Key, keys ...*cose.Key) tam.KeyRing {
	t.Helper()
	r := tam.KeyRing{DecryptionKeys: decryption}
	for _, k := range keys {
		s, err := k.Signer()
		if err != nil {
			t.Fatal(err)
		}
		r.Signers = append(r.Signers, s)
	}
	return r
}

// safeBuffer is a log that is read while it is written.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}
func (s *safeBuffer) String() string { s.mu.Lock(); defer s.mu.Unlock(); return s.b.String() }
func (s *safeBuffer) Reset()         { s.mu.Lock(); defer s.mu.Unlock(); s.b.Reset() }

// update has the device ask for the component, or look whether there is something newer.
func update(t *testing.T, w *teeptest.World, d *teeptest.Device, first bool) error {
	t.Helper()
	if first {
		return d.Request(t.Context(), "hello")
	}
	w.Clock.Advance(25 * time.Hour) // past the interval of policy checks
	return d.PolicyCheck(t.Context())
}

// TestKeyRotation: devices that know the TAM's old keys, the new ones, or both are served all the while, in one
// session each; after the old ones are retired, who knows only them is told why nothing happens.
func TestKeyRotation(t *testing.T) {
	for _, mustAttest := range []bool{false, true} {
		for _, alg := range []cose.Algorithm{cose.AlgESP256, cose.AlgEd25519} {
			var log safeBuffer
			w := teeptest.New(t, teeptest.Options{AgentAlgorithm: alg, MustAttest: mustAttest, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			old := w.Device
			oldKeys, oldEncryption := []*cose.Key{w.ESP256, w.Ed25519}, w.Encryption
			newKeys, newEncryption := []*cose.Key{newKey(t, cose.AlgESP256), newKey(t, cose.AlgEd25519)}, newKey(t, cose.AlgECDHESA128KW)
			if err := w.TAM().SetKeys(ring(t, []*cose.Key{newEncryption, oldEncryption}, append(newKeys, oldKeys...)...)); err != nil {
				t.Fatal(err)
			}
			// What is added from now on has the trust anchors of after.
			w.ESP256, w.Ed25519, w.Encryption = newKeys[0], newKeys[1], newEncryption
			young := w.AddDevice("young")
			w.OtherKeys = oldKeys
			both := w.AddDevice("both")
			devices := map[string]*teeptest.Device{"old": old, "new": young, "both": both}
			for sequence := uint64(1); sequence <= 3; sequence++ {
				w.Publish(w.Component("hello", sequence, "one"))
				for name, d := range devices {
					if err := update(t, w, d, sequence == 1); err != nil {
						t.Fatalf("%v, knows %s: %v", alg, name, err)
					}
					if got := d.Sequence("hello"); got != sequence {
						t.Fatalf("%v, knows %s: version %d, want %d", alg, name, got, sequence)
					}
				}
			}
			w.CheckAsked()
			if err := w.TAM().SetKeys(ring(t, []*cose.Key{newEncryption}, newKeys...)); err != nil {
				t.Fatal(err)
			}
			w.Publish(w.Component("hello", 4, "four"))
			log.Reset()
			for name, d := range devices {
				err := update(t, w, d, false)
				switch {
				case name == "old" && d.Sequence("hello") != 3:
					t.Errorf("%v: served after its key was retired: version %d, %v", alg, d.Sequence("hello"), err)
				case name != "old" && (err != nil || d.Sequence("hello") != 4):
					t.Errorf("%v, knows %s: version %d, %v", alg, name, d.Sequence("hello"), err)
				}
			}
			// Both sides say why: the agent, and the TAM what the agent told it.
			if n := strings.Count(log.String(), "no trust anchor for the signer"); n == 0 {
				t.Errorf("%v: nobody says that the key is not known:\n%s", alg, &log)
			}
		}
	}
}
