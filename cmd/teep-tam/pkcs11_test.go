//go:build pkcs11 && cgo

package main

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/go-teep/teep/cose"
)

const (
	tokenModule = "/usr/lib/softhsm/libsofthsm2.so"
	tokenPIN    = "83519427"
)

// softToken is a token of SoftHSM, which its own tools make as operators do.
type softToken struct {
	t   *testing.T
	pin string // file
	n   int
}

func newSoftToken(t *testing.T) *softToken {
	t.Helper()
	if _, err := exec.LookPath("softhsm2-util"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("SoftHSM is not installed: apt-get install softhsm2")
		}
		t.Skip("SoftHSM is not installed: apt-get install softhsm2")
	}
	// The library is the process's, and commands leave it open for the process to end: it has to read its
	// configuration again.
	if module := pkcs11.New(tokenModule); module != nil {
		_ = module.Finalize()
		t.Cleanup(func() { _ = module.Finalize() })
	}
	dir := t.TempDir()
	conf := filepath.Join(dir, "softhsm2.conf")
	must(t, os.WriteFile(conf, fmt.Appendf(nil, "directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", dir), 0o600))
	t.Setenv("SOFTHSM2_CONF", conf)
	s := &softToken{t: t, pin: filepath.Join(dir, "pin")}
	must(t, os.WriteFile(s.pin, []byte(tokenPIN+"\n"), 0o600))
	s.util("--init-token", "--free", "--label", "tam", "--so-pin", "so-pin-1", "--pin", tokenPIN)
	return s
}

func (s *softToken) util(args ...string) {
	s.t.Helper()
	if out, err := exec.CommandContext(s.t.Context(), "softhsm2-util", args...).CombinedOutput(); err != nil {
		s.t.Fatalf("softhsm2-util: %v\n%s", err, out)
	}
}

// uri names a key in the token.
func (s *softToken) uri(label string) string {
	return fmt.Sprintf("pkcs11:token=tam;object=%s?module-path=%s&pin-source=%s", label, tokenModule, s.pin)
}

// put moves a key file into the token.
func (s *softToken) put(path, label string) {
	s.t.Helper()
	s.n++
	s.util("--import", path, "--token", "tam", "--label", label, "--id", fmt.Sprintf("%02d", s.n), "--pin", tokenPIN)
	must(s.t, os.Remove(path))
}

// newTokenTAM is a TAM whose signing keys are in a token, and nowhere else.
func newTokenTAM(t *testing.T, s *softToken) *rotating {
	t.Helper()
	return newRotating(t, func(dir, text string) string {
		for _, name := range []string{"esp256", "ed25519", "verifier", "distribution"} {
			s.put(filepath.Join(dir, "keys", name+".pem"), name)
			text = strings.Replace(text, "keys/"+name+".pem", "'"+s.uri(name)+"'", 1)
		}
		return text
	})
}

// TestPKCS11Keys: a TAM signs its messages, results and manifests with keys in a token, and is rotated to others there.
func TestPKCS11Keys(t *testing.T) {
	s := newSoftToken(t)
	r := newTokenTAM(t, s)
	old := r.signing()
	if !r.knows(old[0]) || !r.knows(old[1]) {
		t.Fatal("the keys in the token do not sign")
	}
	if n := strings.Count(r.anchors(), "BEGIN PUBLIC KEY"); n != 3 {
		t.Errorf("%d keys in the anchors", n)
	}
	key, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	must(t, err)
	data, err := key.MarshalPEM()
	must(t, err)
	path := filepath.Join(t.TempDir(), "next.pem")
	must(t, os.WriteFile(path, data, 0o600))
	s.put(path, "next")
	_, err = r.run("next", "--key", s.uri("next"))
	must(t, err)
	out, err := r.run("rotate", "--overlap", "1h")
	must(t, err)
	if !r.knows(key) || !r.knows(old[0]) || !strings.Contains(out, "object=next") {
		t.Errorf("after rotating to a key in the token: %s", out)
	}
	if _, err := r.run("retire", s.uri("esp256")); err != nil || r.knows(old[0]) || !r.knows(key) {
		t.Errorf("retired: %v", err)
	}
	if strings.Contains(r.log.String()+out, tokenPIN) {
		t.Error("the PIN is in the log")
	}
}

// TestPKCS11Refuses: what is wrong with a key in a token is said, with what to do and without the PIN.
func TestPKCS11Refuses(t *testing.T) {
	s := newSoftToken(t)
	r := newTokenTAM(t, s)
	wrong := filepath.Join(t.TempDir(), "wrong")
	must(t, os.WriteFile(wrong, []byte("00000000"), 0o600))
	exposed := filepath.Join(t.TempDir(), "exposed")
	must(t, os.WriteFile(exposed, []byte(tokenPIN), 0o644))
	good := s.uri("esp256")
	closeInstances([]*instance{r.i}) // a token asks no second time for the PIN as long as somebody is logged in
	for name, f := range map[string]struct{ uri, says string }{
		"wrong PIN":           {strings.Replace(good, s.pin, wrong, 1), "the PIN in the file that pin-source names is wrong"},
		"no PIN":              {strings.Replace(good, s.pin, s.pin+".none", 1), "read the PIN"},
		"PIN for everybody":   {strings.Replace(good, s.pin, exposed, 1), "chmod 600"},
		"PIN in the URI":      {"pkcs11:token=tam;object=esp256?module-path=" + tokenModule + "&pin-value=" + tokenPIN, "put it into a file"},
		"no such token":       {strings.Replace(good, "token=tam", "token=other", 1), "none of the"},
		"no such key":         {s.uri("other"), `no key with label "other"`},
		"no such library":     {strings.Replace(good, tokenModule, "/nowhere.so", 1), "/nowhere.so is no PKCS #11 library"},
		"decrypts in a token": {s.uri("esp256"), "decryption-keys"},
	} {
		c, err := load(r.path)
		must(t, err)
		if name == "decrypts in a token" {
			c.SignKeys, c.Verifier.Key, c.DecryptKey = nil, s.uri("verifier"), []string{f.uri}
			_, err = c.decryptionKeys()
			f.says = "takes a key in a file"
		} else {
			c.SignKeys[0] = f.uri
			_, err = c.signers(c.SignKeys)
		}
		if err == nil || !strings.Contains(err.Error(), f.says) || strings.Contains(err.Error(), tokenPIN) && name != "PIN in the URI" {
			t.Errorf("%s: %v", name, err)
		}
		if c.opener != nil {
			must(t, c.opener.Close())
		}
	}
}
