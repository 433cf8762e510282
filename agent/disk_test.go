package agent_test

import (
	"bytes"
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/agent"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/tee/seal/crashfs"
)

// diskFaults are what disks do to a program that writes. A write that fails has written half.
var diskFaults = map[string]struct {
	op  crashfs.Op
	err error
}{
	"disk full":         {crashfs.OpWrite, syscall.ENOSPC},
	"no room for one":   {crashfs.OpCreate, syscall.ENOSPC},
	"write error":       {crashfs.OpWrite, syscall.EIO},
	"short write":       {crashfs.OpWrite, crashfs.ErrShortWrite},
	"failed sync":       {crashfs.OpSync, syscall.EIO},
	"failed rename":     {crashfs.OpRename, syscall.EIO},
	"folder not synced": {crashfs.OpSyncDir, syscall.EIO},
}

// TestDiskFaultsInAnUpdate lets each step that writes fail once, in each scenario. What is
// installed stays the old or the new generation whole, no success is told that did not happen, and
// a restart and the Update complete the work.
func TestDiskFaultsInAnUpdate(t *testing.T) {
	for name, s := range crashScenarios {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, raw := s.ready(t)
			before := w.device.disk
			old, after, _ := s.reference(w, before, raw)
			for fault, f := range diskFaults {
				failures := 0
				for n := 1; ; n += 5 {
					w.boot(before.Clone())
					seen := 0
					w.device.disk.Inject(func(_ int, op crashfs.Op, _ string) error {
						if op != f.op {
							return nil
						}
						if seen++; seen == n {
							return f.err
						}
						return nil
					})
					done := w.try(raw)
					if seen < n {
						break
					}
					failures++
					w.device.disk.Inject(nil)
					got := w.state()
					if got != old && got != after && got != s.between {
						t.Fatalf("%s at %d: found %s", fault, n, got)
					}
					if done.answered && got != after {
						t.Fatalf("%s at %d: a success was told, and there is %s", fault, n, got)
					}
					// What the running agent believes is what is on the disk.
					w.crash(crashfs.LoseUnsynced)
					w.restart()
					if found := w.state(); found != got {
						t.Fatalf("%s at %d: the agent had %s, and the disk has %s", fault, n, got, found)
					}
					w.drain(n)
					if w.state() != after {
						w.complete(n, w.protect(w.one, s.update(w)))
					}
					if got := w.state(); got != after {
						t.Fatalf("%s at %d: completed to %s", fault, n, got)
					}
				}
				if failures == 0 {
					t.Errorf("%s: nothing failed", fault)
				}
			}
		})
	}
}

// TestFullDiskIsReported: the TAM gets an Error with a SUIT Report for each manifest, and nothing
// of what is inside the TEE.
func TestFullDiskIsReported(t *testing.T) {
	for name, m := range map[string]func(w *world) []byte{
		"fetched":   func(w *world) []byte { return w.fetchedHello(2, "app two") },
		"encrypted": func(w *world) []byte { return w.encrypted() },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.start()
			w.mustInstall(w.one, w.simple("shared", 1, "app library", "integrated: true"))
			envelope := m(w)
			var update string // the first blob is the Update itself, which is kept until it is done
			w.device.disk.Inject(func(_ int, op crashfs.Op, name string) error {
				if op != crashfs.OpWrite || !strings.HasPrefix(name, "blobs/") {
					return nil
				}
				if update == "" {
					update = name
				}
				if name != update {
					return syscall.ENOSPC
				}
				return nil
			})
			e, ok := w.exchange(w.one, install(t, envelope)).(*teep.Error)
			if !ok || e.Code != teep.ErrManifestProcessingFailed || !strings.Contains(e.Message, suit.ReasonOperationFailed.String()) {
				t.Fatalf("got %#v", e)
			}
			for _, secret := range []string{"blobs", "seal", "device"} {
				if strings.Contains(e.Message, secret) {
					t.Errorf("the TAM is told %q", e.Message)
				}
			}
			reports := w.reports(w.one, e.SUITReports)
			if len(reports) != 1 || reports[0].Failure == nil || reports[0].Failure.Reason != suit.ReasonOperationFailed ||
				reports[0].Failure.Record.Section == 0 {
				t.Fatalf("reports: %+v", reports)
			}
			if got := w.state(); got != "shared=app library" {
				t.Errorf("found %s", got)
			}
			w.device.disk.Inject(nil)
			w.mustInstall(w.one, envelope)
		})
	}
}

// everything is a device with applications, a library, encrypted content and sealed data.
func everything(t *testing.T) (w *world, state string) {
	t.Helper()
	w = newWorld(t)
	w.start()
	w.mustInstall(w.one, w.dependent(1))
	w.mustInstall(w.one, w.simple("two", 1, "app two"+strings.Repeat("!", 200_000), "integrated: true"))
	if _, err := w.run("put v", []byte("remembered"), "two"); err != nil {
		t.Fatal(err)
	}
	w.inventory(w.one)
	return w, w.state()
}

// TestFlippedBitInEveryFile changes one bit of the store at a time, all over every file. The agent
// does not start, or what is damaged does not: nothing that was changed is ever used, everything
// else still works, and the damage has a name.
func TestFlippedBitInEveryFile(t *testing.T) {
	w, whole := everything(t)
	disk := w.device.disk
	remembers := func() (string, error) { return w.run("get", nil, "two") }
	for _, name := range disk.Files() {
		content := disk.Read(name)
		stride := max(1, len(content)/12)
		found := 0
		for i := 0; i < len(content); i += stride {
			damaged := disk.Clone()
			changed := bytes.Clone(content)
			changed[i] ^= 1 << (i % 8)
			damaged.Tamper(name, changed)
			err := w.tryBoot(damaged)
			if err != nil {
				if !errors.Is(err, tee.ErrCorrupt) {
					t.Fatalf("%s, byte %d: %v", name, i, err)
				}
				found++
				continue
			}
			// Whatever is missing is missing; nothing is other than it was.
			got := w.state()
			if !isPartOf(got, whole) {
				t.Fatalf("%s, byte %d: changed content was used: %s", name, i, got)
			}
			kept, err := remembers()
			switch {
			case got != whole || err != nil:
				found++
				if err != nil && !errors.Is(err, tee.ErrCorrupt) && !errors.Is(err, agent.ErrNotRunnable) {
					t.Errorf("%s, byte %d: %v", name, i, err)
				}
			case kept != "remembered":
				t.Fatalf("%s, byte %d: changed data was used: %q", name, i, kept)
			default:
				t.Fatalf("%s, byte %d of %d: nobody noticed", name, i, len(content))
			}
		}
		if found == 0 {
			t.Errorf("%s: nothing was tried", name)
		}
	}
}

// isPartOf tells whether every component of a state is in another one, unchanged.
func isPartOf(state, of string) bool {
	if state == nothing {
		return true
	}
	for _, name := range []string{"hello", "lib", "data", "shared", "two"} {
		if v := component(state, name); v != "" && v != component(of, name) {
			return false
		}
	}
	return true
}

// component is the part of a state that is about one component.
func component(state, name string) string {
	at := strings.Index(" "+state, " "+name+"=")
	if at < 0 {
		return ""
	}
	rest := state[at:]
	for _, next := range []string{"hello", "lib", "data", "shared", "two"} {
		if end := strings.Index(rest, " "+next+"="); end >= 0 {
			rest = rest[:end]
		}
	}
	return rest
}

// tryBoot is boot on a disk that may not be well.
func (w *world) tryBoot(disk *crashfs.Disk) error {
	w.t.Helper()
	if w.agent != nil {
		w.agent.Close()
		w.agent = nil
	}
	w.device.disk = disk
	store, err := w.device.open()
	if err != nil {
		return err
	}
	w.device.store = store
	_, err = w.tryStart(nil)
	return err
}

// TestDamagedApplicationIsRepaired: after a bit flipped in its blob an application does not start;
// the same manifest repairs it.
func TestDamagedApplicationIsRepaired(t *testing.T) {
	w := newWorld(t)
	w.start()
	m := w.fetchedHello(1, "app one")
	w.mustInstall(w.one, m)
	for _, name := range w.device.disk.Files() {
		if content := w.device.disk.Read(name); strings.HasPrefix(name, "blobs/") {
			content[len(content)/2] ^= 4
			w.device.disk.Tamper(name, content)
		}
	}
	if _, err := w.run("code", nil, "hello"); !errors.Is(err, agent.ErrNotRunnable) || !errors.Is(err, tee.ErrCorrupt) {
		t.Fatalf("the damaged application: %v", err)
	}
	w.fetched = nil
	w.mustInstall(w.one, m)
	if len(w.fetched) == 0 {
		t.Error("nothing was fetched to repair it")
	}
	w.wantRun("app one")
}

// TestEncryptedPayloadThatWasChanged: nothing of a payload under an AEAD is visible, or left on
// the disk, when its tag does not hold.
func TestEncryptedPayloadThatWasChanged(t *testing.T) {
	for _, alg := range []cose.Algorithm{cose.AlgA128GCM, cose.AlgChaCha20Poly1305, cose.AlgA128CTR} {
		w := newWorld(t)
		w.start()
		w.mustInstall(w.one, w.hello(1, "app one"))
		m := w.manifest(w.dev, strings.ReplaceAll(`
manifest-component-id: [hello, manifest]
sequence-number: 2
vendor: {domain: example.com}
class: {name: sandbox}
components:
  - id: [hello]
    payload: {file: it, uri: "https://dev.example/it.enc", encrypt: {to: [device.pub], algorithm: ALG}}
`, "ALG", alg.String()), map[string]string{"it": "app" + strings.Repeat(" secret", 100_000), "device.pub": w.deviceKey()})
		cipher := w.payloads["https://dev.example/it.enc"]
		files := len(w.device.disk.Files())
		for _, at := range []int{0, len(cipher) / 2, len(cipher) - 1} {
			cipher[at] ^= 1
			if e, ok := w.exchange(w.one, install(t, m)).(*teep.Error); !ok {
				t.Fatalf("%v, byte %d: got %#v", alg, at, e)
			}
			cipher[at] ^= 1
			w.wantRun("app one")
		}
		w.restart() // which sweeps what nobody names
		if got := len(w.device.disk.Files()); got > files {
			t.Errorf("%v: %d files instead of %d: something of it stayed", alg, got, files)
		}
		w.mustInstall(w.one, m)
	}
}
