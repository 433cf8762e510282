package main

import (
	"bytes"
	"crypto/rand"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/cose/keyfile"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
)

// rotating is a TAM that runs, and the commands beside it.
type rotating struct {
	t    *testing.T
	path string
	i    *instance
	keys *liveKeys
	log  bytes.Buffer
}

func newRotating(t *testing.T, change func(dir, text string) string) *rotating {
	t.Helper()
	dir := t.TempDir()
	c := defaults()
	must(t, initialize(dir, &c))
	r := &rotating{t: t, path: filepath.Join(dir, "tam.yaml")}
	if change != nil {
		text, err := os.ReadFile(r.path)
		must(t, err)
		must(t, os.WriteFile(r.path, []byte(change(dir, string(text))), 0o600))
	}
	loaded, err := load(r.path)
	must(t, err)
	store, err := openStore(t.Context(), loaded)
	must(t, err)
	log := slog.New(slog.NewTextHandler(&r.log, nil))
	all, err := openInstances(t.Context(), loaded, store, log)
	must(t, err)
	r.i, r.keys = all[0], all[0].keys
	t.Cleanup(func() { closeInstances(all); store.Close() })
	return r
}

// run runs a command and has the TAM look at its files.
func (r *rotating) run(args ...string) (string, error) {
	r.t.Helper()
	var out, errs bytes.Buffer
	c := root()
	c.SetArgs(append([]string{"keys", args[0], "--config", r.path}, args[1:]...))
	c.SetOut(&out)
	c.SetErr(&errs)
	c.SilenceErrors, c.SilenceUsage = true, true
	err := c.ExecuteContext(r.t.Context())
	if _, err := r.keys.follower.Look(); err != nil {
		r.t.Fatalf("the service does not read what 'keys %s' wrote: %v", args[0], err)
	}
	return out.String(), err
}

// knows opens the TAM's QueryRequest with one key, as a device that knows no other.
func (r *rotating) knows(key *cose.Key) bool {
	r.t.Helper()
	set, err := cose.NewKeySet(key)
	must(r.t, err)
	data, err := r.i.tam.ProcessConnect(r.t.Context())
	must(r.t, err)
	_, err = teep.Open(data, set, teep.OpenOptions{})
	return err == nil
}

func (r *rotating) signing() []*cose.Key {
	r.t.Helper()
	c, err := load(r.path)
	must(r.t, err)
	keys, err := c.publicKeys(c.SignKeys)
	must(r.t, err)
	return keys
}

func (r *rotating) anchors() string {
	r.t.Helper()
	c, err := load(r.path)
	must(r.t, err)
	text, err := anchors(c, anchorFlags{})
	must(r.t, err)
	return string(text)
}

// TestRotation: next, rotate and retire, each taken over by the TAM that runs.
func TestRotation(t *testing.T) {
	r := newRotating(t, nil)
	old := r.signing()
	if n := strings.Count(r.anchors(), "BEGIN PUBLIC KEY"); n != 3 {
		t.Fatalf("%d keys in the anchors", n)
	}
	_, err := r.run("next")
	must(t, err)
	next := r.signing()[2:]
	if len(next) != 2 || !r.knows(old[0]) || !r.knows(next[0]) || !r.knows(next[1]) {
		t.Fatal("a next key does not count")
	}
	if n := strings.Count(r.anchors(), "BEGIN PUBLIC KEY"); n != 5 {
		t.Fatalf("%d keys in the anchors: devices are not told of the next ones", n)
	}
	out, err := r.run("next") // again changes nothing
	if err != nil || strings.Count(out, "next") != 3 {
		t.Fatalf("%v\n%s", err, out)
	}
	_, err = r.run("rotate", "--overlap", "1h")
	must(t, err)
	if now := r.signing(); !now[0].Equal(next[0]) || len(now) != 4 || !r.knows(old[0]) || !r.knows(old[1]) || !r.knows(next[0]) {
		t.Fatal("after rotating, one of old and new does not count")
	}
	if text := r.anchors(); strings.Count(text, "BEGIN PUBLIC KEY") != 3 {
		t.Fatalf("new devices are told of previous keys:\n%s", text)
	}
	decryption, verification := r.keys.current()
	if len(decryption) != 2 || len(verification) != 4 {
		t.Errorf("recorded messages are explained with %d and %d keys", len(decryption), len(verification))
	}
	for _, k := range append(old, r.keys.decryption[1].Public()) {
		_, err := r.run("retire", string([]byte(hexOf(k))[:12]))
		must(t, err)
	}
	if r.knows(old[0]) || r.knows(old[1]) || !r.knows(next[0]) || !r.knows(next[1]) {
		t.Fatal("retired keys count, or those that are not do not")
	}
	if !strings.Contains(r.log.String(), "keys read again") {
		t.Errorf("the log says nothing: %s", &r.log)
	}
}

func hexOf(k *cose.Key) string {
	const digits = "0123456789abcdef"
	var b strings.Builder
	for _, c := range k.Thumbprint() {
		b.WriteByte(digits[c>>4])
		b.WriteByte(digits[c&15])
	}
	return b.String()
}

func TestRetireRefuses(t *testing.T) {
	r := newRotating(t, nil)
	old := r.signing()
	_, err := r.run("rotate")
	must(t, err)
	// A device that knows the old key alone.
	agent, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	must(t, err)
	encoded, err := agent.Public().MarshalCBOR()
	must(t, err)
	d := tam.Device{ID: tam.DeviceID(agent.Thumbprint()), KeyThumbprint: agent.Thumbprint(), AgentKey: encoded, Status: tam.DeviceAccepted,
		FirstSeen: time.Now(), LastSeen: time.Now(), TAMKey: old[0].Thumbprint()}
	must(t, r.i.measured.Store().CommitExchange(t.Context(), tam.Exchange{Device: &d}))
	// A deposit that the old key alone opens.
	c, err := load(r.path)
	must(t, err)
	keys, err := c.decryptionKeys()
	must(t, err)
	recipient, err := suit.PayloadRecipient(keys[1].Public())
	must(t, err)
	info, err := suit.EncryptPayload(rand.Reader, strings.NewReader("data"), io.Discard, cose.AlgA128GCM, recipient)
	must(t, err)
	must(t, r.i.measured.Store().PutDeposit(t.Context(), tam.Deposit{ID: "one", Kind: tam.DepositData, Manifest: suit.NewComponentID("app"), EncryptionInfo: info}))
	for name, want := range map[string]struct {
		key, says string
	}{
		"current":              {hexOf(r.signing()[0]), "is current"},
		"unknown":              {"0123456789", "no key"},
		"too short":            {hexOf(old[0])[:4], "at least 6 digits"},
		"devices know no more": {hexOf(old[0]), "1 devices in service last accepted this key"},
		"deposits need it":     {hexOf(keys[1]), "1 deposits can be read with this key alone"},
	} {
		if _, err := r.run("retire", want.key); err == nil || !strings.Contains(err.Error(), want.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !r.knows(old[0]) || !r.knows(old[1]) {
		t.Fatal("what was refused was done")
	}
	out, err := r.run("list", "--devices")
	if err != nil || !strings.Contains(out, hexOf(old[0])+"  keys/esp256.pem") || !strings.Contains(out, "  1  ") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := r.run("retire", "keys/esp256.pem", "--strand-devices"); err != nil || r.knows(old[0]) {
		t.Errorf("%v", err)
	}
	if _, err := r.run("rotate", "--overlap", "0s"); err == nil {
		t.Error("rotated without an overlap")
	}
}

// TestKeysEnd: a previous key ceases to count by itself when its time is over.
func TestKeysEnd(t *testing.T) {
	r := newRotating(t, nil)
	old := r.signing()
	_, err := r.run("rotate")
	must(t, err)
	c, err := load(r.path)
	must(t, err)
	text, err := os.ReadFile(c.Keys)
	must(t, err)
	ring, err := readRing(c.Keys)
	must(t, err)
	for _, k := range ring.Signing {
		if k.Role == rolePrevious {
			stamp := k.NotAfter.Format(time.RFC3339)
			text = bytes.ReplaceAll(text, []byte(stamp), []byte(time.Now().Add(-time.Second).UTC().Format(time.RFC3339)))
		}
	}
	must(t, os.WriteFile(c.Keys, text, 0o600))
	if !r.knows(old[0]) {
		t.Fatal("read before anybody looked")
	}
	r.keys.lookAtValidity()
	if r.knows(old[0]) || !r.knows(r.signing()[0]) {
		t.Error("a key whose time is over counts")
	}
}

// TestEncryptedKeys: the service runs with encrypted key files, and new keys are encrypted like them.
func TestEncryptedKeys(t *testing.T) {
	// An identity rather than a passphrase, which costs a tenth of a second for each file, many times that under
	// the race detector, and which the tests of keyfile try.
	secret, err := age.GenerateX25519Identity()
	must(t, err)
	another, err := age.GenerateX25519Identity()
	must(t, err)
	t.Setenv("TEEP_TEST_KEYS", secret.String())
	r := newRotating(t, func(_, text string) string { return text + "key-secret: {environment: TEEP_TEST_KEYS}\n" })
	before := r.signing()
	out, err := r.run("encrypt")
	if err != nil || strings.Count(out, "encrypted ") != len(newKeys) {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := r.run("encrypt"); err != nil || out != "" {
		t.Errorf("encrypted twice: %v %s", err, out)
	}
	if !r.knows(before[0]) {
		t.Error("another key than before")
	}
	_, err = r.run("rotate")
	must(t, err)
	c, err := load(r.path)
	must(t, err)
	for _, name := range append(c.keyFiles(), c.SignKeys...) {
		data, err := os.ReadFile(name)
		must(t, err)
		if !keyfile.IsEncrypted(data) {
			t.Errorf("%s is in the clear", name)
		}
	}
	t.Setenv("TEEP_TEST_KEYS", another.String())
	if c, err = load(r.path); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ring(); err == nil || !strings.Contains(err.Error(), "another secret") || strings.Contains(err.Error(), another.String()) {
		t.Errorf("another secret: %v", err)
	}
	os.Unsetenv("TEEP_TEST_KEYS")
	if c, err = load(r.path); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ring(); err == nil || !strings.Contains(err.Error(), "TEEP_TEST_KEYS") {
		t.Errorf("no secret: %v", err)
	}
	// A service that was started without one, before and after it was written into the configuration.
	c.opener = &keyfile.Opener{}
	if _, err := c.ring(); err == nil || !strings.Contains(err.Error(), "start it again") {
		t.Errorf("a secret that came later: %v", err)
	}
	c.KeySecret = keyfile.Source{}
	if _, err := c.ring(); err == nil || !strings.Contains(err.Error(), "name it as key-secret") {
		t.Errorf("no secret named: %v", err)
	}
}

// TestBrokenRings: what is wrong with a ring is said, and the TAM goes on with the keys that it has.
func TestBrokenRings(t *testing.T) {
	r := newRotating(t, nil)
	old := r.signing()
	c, err := load(r.path)
	must(t, err)
	for name, text := range map[string]string{
		"version":      "version: 2\nsigning: []\n",
		"role":         "version: 1\nsigning: [{key: keys/esp256.pem, role: best}]\n",
		"unknown word": "version: 1\nsinging: []\n",
		"twice":        "version: 1\nsigning: [{key: a, role: current}, {key: a, role: next}]\n",
		"no key":       "version: 1\nsigning: [{role: current}]\n",
		"ends first":   "version: 1\nsigning: [{key: a, role: current, not-before: 2026-01-02T00:00:00Z, not-after: 2026-01-01T00:00:00Z}]\n",
		"no such file": "version: 1\nsigning: [{key: keys/none.pem, role: current}]\n",
		"no Ed25519":   "version: 1\nsigning: [{key: keys/esp256.pem, role: current}]\ndecryption: [{key: keys/encryption.pem, role: current}]\n",
		"one for both": "version: 1\nsigning: [{key: keys/esp256.pem, role: current}, {key: keys/ed25519.pem, role: current}]\ndecryption: [{key: keys/distribution.pem, role: current}]\n",
		"empty":        "",
	} {
		must(t, os.WriteFile(c.Keys, []byte(text), 0o600))
		if changed, err := r.keys.follower.Look(); !changed || err == nil {
			t.Errorf("%s: changed %v, %v", name, changed, err)
		}
		if !r.knows(old[0]) || !r.knows(old[1]) {
			t.Fatalf("%s: took the keys with it", name)
		}
	}
	must(t, os.Remove(c.Keys))
	if _, err := r.keys.follower.Look(); err != nil || !r.knows(old[0]) {
		t.Errorf("without the ring the lists count: %v", err)
	}
}

// TestGivenKeys: a key that was made elsewhere becomes the next one of its algorithm.
func TestGivenKeys(t *testing.T) {
	r := newRotating(t, nil)
	key, err := cose.GenerateKey(rand.Reader, cose.AlgEd25519)
	must(t, err)
	data, err := key.MarshalPEM()
	must(t, err)
	must(t, os.WriteFile(filepath.Join(filepath.Dir(r.path), "mine.pem"), data, 0o600))
	_, err = r.run("next", "--key", "mine.pem")
	must(t, err)
	if !r.knows(key) {
		t.Error("the given key does not count")
	}
	if _, err := r.run("next", "--key", "mine.pem"); err == nil || !strings.Contains(err.Error(), "without a next one") {
		t.Errorf("given twice: %v", err)
	}
	if _, err := r.run("next", "--key", "nothing.pem"); err == nil {
		t.Error("a file that is not there was taken")
	}
}
