package sandbox_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/tee/sandbox"
	"github.com/go-teep/teep/tee/sandbox/confine"
	"github.com/go-teep/teep/tee/seal/crashfs"
	"github.com/go-teep/teep/tee/teetest"
)

func config(dir string) sandbox.Config {
	return sandbox.Config{
		Dir: dir,
		Identity: sandbox.Identity{OEMID: []byte{0x19, 0x7a, 0x69}, HWModel: []byte("model"), HWVersion: "1.0",
			VendorID: [16]byte{1}, ClassID: [16]byte{2}, AgentVersion: "1.2.3"},
		Rand: rand.Reader, Now: time.Now,
		Measure: func() ([]byte, error) { return bytes.Repeat([]byte{9}, 32), nil },
	}
}

func open(cfg sandbox.Config) (*sandbox.TEE, error) { return sandbox.Open(context.Background(), cfg) }

func mustOpen(t *testing.T, cfg sandbox.Config) *sandbox.TEE {
	t.Helper()
	e, err := open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func mustClose(t *testing.T, e *sandbox.TEE) {
	t.Helper()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	teetest.Run(t, func(t *testing.T) teetest.Device {
		dir := filepath.Join(t.TempDir(), "tee")
		return teetest.Device{
			Start: func() (tee.TEE, error) { return orNil(open(config(dir))) },
			Stop:  func(e tee.TEE) error { return e.(*sandbox.TEE).Close() },
			Dir:   dir,
		}
	})
}

// TestConformanceAfterLossOfPower is the same on a disk that forgets what was not synced.
func TestConformanceAfterLossOfPower(t *testing.T) {
	teetest.Run(t, func(t *testing.T) teetest.Device {
		disk := crashfs.New()
		return teetest.Device{
			DiskInMemory: true,
			Start: func() (tee.TEE, error) {
				cfg := config("")
				cfg.Disk = disk
				return orNil(open(cfg))
			},
			Stop: func(e tee.TEE) error { return e.(*sandbox.TEE).Close() },
			Kill: func(e tee.TEE) {
				disk = disk.Restart(crashfs.LoseUnsynced)
				_ = e.(*sandbox.TEE).Close()
			},
		}
	})
}

func orNil(e *sandbox.TEE, err error) (tee.TEE, error) {
	if err != nil {
		return nil, err
	}
	return e, nil
}

func TestIdentity(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	e := mustOpen(t, config(dir))
	id := e.Identity()
	if string(id.HWModel) != "model" || id.HWVersion != "1.0" || id.VendorID != [16]byte{1} || id.ClassID != [16]byte{2} ||
		id.AgentName != "teep-agent" || id.AgentVersion != "1.2.3" || !bytes.Equal(id.OEMID, []byte{0x19, 0x7a, 0x69}) ||
		!bytes.Equal(id.Measurement, bytes.Repeat([]byte{9}, 32)) {
		t.Fatalf("%+v", id)
	}
	if len(id.UEID) != 17 || id.UEID[0] != 1 || id.DeviceID[6]>>4 != 5 {
		t.Fatalf("UEID %x, device %x", id.UEID, id.DeviceID)
	}
	all := strings.Join(id.Weaknesses, "\n")
	for _, w := range []string{"administrator", "device secret", "monotonic counter", "seccomp: the process was not confined", "ordinary memory"} {
		if !strings.Contains(all, w) {
			t.Errorf("weakness %q is not stated in:\n%s", w, all)
		}
	}
	mustClose(t, e)
	cfg := config(filepath.Join(t.TempDir(), "another"))
	cfg.Identity.UEID = append([]byte{1}, bytes.Repeat([]byte{5}, 16)...)
	cfg.Identity.DeviceID = [16]byte{7}
	cfg.Confinement = &confine.Report{Missing: map[confine.Wall]string{confine.WallLandlock: "this and that"}}
	e = mustOpen(t, cfg)
	defer mustClose(t, e)
	id = e.Identity()
	if !bytes.Equal(id.UEID, cfg.Identity.UEID) || id.DeviceID != [16]byte{7} {
		t.Fatalf("configured identity is not used: %+v", id)
	}
	if all := strings.Join(id.Weaknesses, "\n"); strings.Contains(all, "seccomp") || !strings.Contains(all, "this and that") {
		t.Fatal(all)
	}
}

// TestIdentityIsSealed: whoever can change the configuration cannot make one device into another.
func TestIdentityIsSealed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tee")
	e := mustOpen(t, config(dir))
	mustClose(t, e)
	for name, change := range map[string]func(*sandbox.Identity){
		"vendor":    func(id *sandbox.Identity) { id.VendorID[3]++ },
		"class":     func(id *sandbox.Identity) { id.ClassID[3]++ },
		"device":    func(id *sandbox.Identity) { id.DeviceID[3]++ },
		"oemid":     func(id *sandbox.Identity) { id.OEMID = []byte{0x19, 0x7a, 0x6a} },
		"hwmodel":   func(id *sandbox.Identity) { id.HWModel = []byte("other") },
		"hwversion": func(id *sandbox.Identity) { id.HWVersion = "1.1" },
		"ueid":      func(id *sandbox.Identity) { id.UEID = append([]byte{1}, bytes.Repeat([]byte{5}, 16)...) },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(dir)
			change(&cfg.Identity)
			if e, err := open(cfg); !errors.Is(err, sandbox.ErrIdentity) {
				t.Errorf("got %v, %v", e, err)
			}
		})
	}
	cfg := config(dir)
	cfg.Identity.AgentVersion = "1.2.4"
	mustClose(t, mustOpen(t, cfg))
}

func TestMeasurementIsOfThisExecutable(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	got, err := sandbox.MeasureExecutable()
	if want := sha256.Sum256(b); err != nil || !bytes.Equal(got, want[:]) {
		t.Fatalf("%x, %v; want %x", got, err, want)
	}
}

func TestAgentAlgorithm(t *testing.T) {
	for _, alg := range []cose.Algorithm{cose.AlgEd25519, cose.AlgESP384, cose.AlgESP256} {
		cfg := config(filepath.Join(t.TempDir(), "tee"))
		cfg.AgentAlgorithm = alg
		e := mustOpen(t, cfg)
		for use, want := range map[tee.KeyUse]cose.Algorithm{tee.KeyAgent: alg, tee.KeyAttestation: cose.AlgESP256, tee.KeyReport: cose.AlgESP256} {
			s, err := e.Keys().Signer(use)
			if err != nil || s.Algorithm() != want {
				t.Errorf("%v: the %s key signs with %v, %v", alg, use, s.Algorithm(), err)
			}
		}
		mustClose(t, e)
		mustClose(t, mustOpen(t, cfg))
		cfg.AgentAlgorithm = cose.AlgEd25519
		if alg == cose.AlgEd25519 {
			cfg.AgentAlgorithm = cose.AlgESP256
		}
		if e, err := open(cfg); err == nil {
			mustClose(t, e)
			t.Errorf("%v: the algorithm of the agent key changed", alg)
		}
	}
	cfg := config(filepath.Join(t.TempDir(), "tee"))
	cfg.AgentAlgorithm = cose.AlgA128GCM
	if _, err := open(cfg); err == nil {
		t.Error("an agent key for AES-GCM was made")
	}
}

func TestRefusals(t *testing.T) {
	for name, change := range map[string]func(*sandbox.Config){
		"no folder":         func(c *sandbox.Config) { c.Dir = "" },
		"no clock":          func(c *sandbox.Config) { c.Now = nil },
		"no randomness":     func(c *sandbox.Config) { c.Rand = nil },
		"empty randomness":  func(c *sandbox.Config) { c.Rand = bytes.NewReader(nil) },
		"short measurement": func(c *sandbox.Config) { c.Measure = func() ([]byte, error) { return []byte{1}, nil } },
		"no measurement":    func(c *sandbox.Config) { c.Measure = func() ([]byte, error) { return nil, os.ErrPermission } },
		"short UEID":        func(c *sandbox.Config) { c.Identity.UEID = []byte{1, 2} },
		"open folder":       func(c *sandbox.Config) { mkdir(c.Dir, 0o750) },
		"file as folder":    func(c *sandbox.Config) { _ = os.WriteFile(c.Dir, nil, 0o600) },
		"link as folder": func(c *sandbox.Config) {
			mkdir(c.Dir+".target", 0o700)
			_ = os.Symlink(c.Dir+".target", c.Dir)
		},
		"readable secret": func(c *sandbox.Config) {
			mkdir(c.Dir, 0o700)
			_ = os.WriteFile(filepath.Join(c.Dir, "device-secret"), nil, 0o600)
			_ = os.Chmod(filepath.Join(c.Dir, "device-secret"), 0o640)
		},
	} {
		cfg := config(filepath.Join(t.TempDir(), "tee"))
		change(&cfg)
		if e, err := open(cfg); err == nil {
			t.Errorf("%s: accepted", name)
			mustClose(t, e)
		} else if len(err.Error()) < 20 {
			t.Errorf("%s: the error says little: %v", name, err)
		}
	}
}

func mkdir(dir string, mode os.FileMode) {
	_ = os.MkdirAll(dir, mode)
	_ = os.Chmod(dir, mode) // whatever the umask is
}

func TestOneTEEPerFolder(t *testing.T) {
	cfg := config(filepath.Join(t.TempDir(), "tee"))
	e := mustOpen(t, cfg)
	if _, err := open(cfg); !errors.Is(err, sandbox.ErrInUse) {
		t.Fatalf("second TEE on the folder: %v", err)
	}
	mustClose(t, e)
	mustClose(t, mustOpen(t, cfg))
}

func TestDeviceSecret(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tee")
	mustClose(t, mustOpen(t, config(dir)))
	name := filepath.Join(dir, "device-secret")
	was, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "other")
	mustClose(t, mustOpen(t, config(other)))
	foreign, err := os.ReadFile(filepath.Join(other, "device-secret"))
	if err != nil {
		t.Fatal(err)
	}
	for what, content := range map[string][]byte{"of another device": foreign, "longer": append(bytes.Clone(was), 0), "empty": {}} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := open(config(dir)); !errors.Is(err, tee.ErrCorrupt) {
			t.Errorf("device secret %s: %v", what, err)
		}
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if _, err := open(config(dir)); !errors.Is(err, tee.ErrCorrupt) || !strings.Contains(err.Error(), "missing") {
		t.Errorf("device secret missing: %v", err)
	}
	if _, err := os.Stat(name); err == nil {
		t.Error("a new device secret was made beside old state")
	}
}

// TestCrashAtFirstStart crashes at every step of the first start; the second start always works,
// and what the first one may have told anybody stays.
func TestCrashAtFirstStart(t *testing.T) {
	for _, survival := range []crashfs.Survival{crashfs.LoseUnsynced, crashfs.KeepUnsynced, crashfs.KeepSome} {
		for step := 1; ; step++ {
			disk := crashfs.NewSeeded(uint64(step))
			disk.CrashAt(step)
			cfg := config("")
			cfg.Disk = disk
			first, err := open(cfg)
			if !disk.Crashed() {
				mustClose(t, first)
				if step < 15 {
					t.Fatalf("a first start takes only %d steps", step)
				}
				break
			}
			cfg.Disk = disk.Restart(survival)
			second := mustOpen(t, cfg)
			if err == nil {
				if !bytes.Equal(first.Identity().UEID, second.Identity().UEID) {
					t.Fatalf("step %d: the identity was lost", step)
				}
				mustClose(t, first)
			}
			mustClose(t, second)
		}
	}
}

// TestRequire: what is missing can be a reason not to start, and then nothing is made.
func TestRequire(t *testing.T) {
	report := confine.Report{Missing: map[confine.Wall]string{confine.WallSeccomp: "the kernel has none"}}
	for name, c := range map[string]struct {
		report  *confine.Report
		require []confine.Wall
		ok      bool
	}{
		"nothing":               {&report, nil, true},
		"what stands":           {&report, []confine.Wall{confine.WallLandlock}, true},
		"what is missing":       {&report, []confine.Wall{confine.WallLandlock, confine.WallSeccomp}, false},
		"not confined, nothing": {nil, nil, true},
		"not confined":          {nil, []confine.Wall{confine.WallUser}, false},
	} {
		cfg := config(filepath.Join(t.TempDir(), "tee"))
		cfg.Confinement, cfg.Require = c.report, c.require
		e, err := open(cfg)
		if c.ok {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			} else {
				mustClose(t, e)
			}
			continue
		}
		if !errors.Is(err, confine.ErrMissing) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(cfg.Dir, "device-secret")); err == nil {
			t.Errorf("%s: there are keys all the same", name)
		}
	}
}

// TestKeysAreZeroedByClose: after Close neither keys nor sealing work any more.
func TestKeysAreZeroedByClose(t *testing.T) {
	e := mustOpen(t, config(filepath.Join(t.TempDir(), "tee")))
	signers := map[tee.KeyUse]cose.Signer{}
	for _, use := range []tee.KeyUse{tee.KeyAgent, tee.KeyAttestation, tee.KeyReport} {
		var err error
		if signers[use], err = e.Keys().Signer(use); err != nil {
			t.Fatal(err)
		}
		if _, err := signers[use].Sign(rand.Reader, []byte("to be signed")); err != nil {
			t.Fatal(err)
		}
	}
	store := e.Store()
	mustClose(t, e)
	for use, s := range signers {
		if sig, err := s.Sign(rand.Reader, []byte("to be signed")); err == nil {
			t.Errorf("the %s key signed after Close: %x", use, sig)
		}
	}
	if k, err := e.Keys().Decryption(); err == nil {
		t.Errorf("there is a decryption key after Close: %v", k)
	}
	if err := store.ReplaceRecord(0, []byte("sealed under nothing")); err == nil {
		t.Error("a record was sealed after Close")
	}
}
