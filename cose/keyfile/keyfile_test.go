package keyfile_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/cose/keyfile"
	"github.com/go-teep/teep/cose/pkcs11"
)

const passphrase = "correct horse battery"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func secret(t testing.TB, text string) *keyfile.Secret {
	t.Helper()
	s, err := keyfile.ParseSecret([]byte(text))
	must(t, err)
	return s
}

func write(t testing.TB, mode os.FileMode, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key.pem")
	must(t, os.WriteFile(path, data, mode))
	return path
}

func newPEM(t testing.TB, alg cose.Algorithm) (*cose.Key, []byte) {
	t.Helper()
	key, err := cose.GenerateKey(rand.Reader, alg)
	must(t, err)
	data, err := key.MarshalPEM()
	must(t, err)
	return key, data
}

// TestOpen: plain and encrypted files, with a passphrase and with an identity, sign and decrypt alike.
func TestOpen(t *testing.T) {
	identity, err := age.GenerateX25519Identity()
	must(t, err)
	for name, s := range map[string]*keyfile.Secret{"plain": nil, "passphrase": secret(t, passphrase+"\n"), "identity": secret(t, "# made today\n"+identity.String()+"\n")} {
		for _, alg := range []cose.Algorithm{cose.AlgESP256, cose.AlgEd25519, cose.AlgECDHESA128KW} {
			want, data := newPEM(t, alg)
			if s != nil {
				data, err = s.Encrypt(data)
				must(t, err)
				if bytes.Contains(data, []byte("PRIVATE")) || !keyfile.IsEncrypted(data) {
					t.Fatalf("%s: not encrypted: %s", name, data)
				}
			}
			o := &keyfile.Opener{Secret: s}
			got, err := o.Open(write(t, 0o600, data))
			must(t, err)
			if !got.Public().Equal(want) || got.Public().IsPrivate() {
				t.Errorf("%s: another key", name)
			}
			private, err := got.Private()
			if err != nil || !private.IsPrivate() {
				t.Errorf("%s: %v", name, err)
			}
			if alg != cose.AlgECDHESA128KW {
				signer, err := got.Signer()
				must(t, err)
				if signer.Algorithm() != alg {
					t.Errorf("%s: signs with %v", name, signer.Algorithm())
				}
			}
			must(t, o.Close())
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	key, plain := newPEM(t, cose.AlgESP256)
	public, err := key.Public().MarshalPEM()
	must(t, err)
	s := secret(t, passphrase)
	sealed, err := s.Encrypt(plain)
	must(t, err)
	cut := bytes.Replace(sealed, []byte("\n"), []byte("\n!"), 3)
	empty, err := s.Encrypt(nil)
	must(t, err)
	for name, c := range map[string]struct {
		mode   os.FileMode
		data   []byte
		secret *keyfile.Secret
		is     error
		says   string
	}{
		"others read it":           {0o640, plain, nil, keyfile.ErrReadable, "chmod 600"},
		"others read the sealed":   {0o604, sealed, s, keyfile.ErrReadable, "chmod 600"},
		"public":                   {0o600, public, nil, nil, "public key"},
		"no secret":                {0o600, sealed, nil, keyfile.ErrSecret, "no secret is configured"},
		"another passphrase":       {0o600, sealed, secret(t, "another passphrase"), keyfile.ErrSecret, "another secret"},
		"changed":                  {0o600, cut, s, keyfile.ErrSecret, ""},
		"nothing inside":           {0o600, empty, s, cose.ErrKey, "no PEM block"},
		"no key":                   {0o600, []byte("hello"), s, cose.ErrKey, "no PEM block"},
		"larger than a key can be": {0o600, bytes.Repeat([]byte("x"), 1<<17), s, nil, "no key"},
	} {
		_, err := (&keyfile.Opener{Secret: c.secret}).Open(write(t, c.mode, c.data))
		if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), passphrase) {
			t.Errorf("%s: the error has the passphrase", name)
		}
	}
	if _, err := (&keyfile.Opener{}).Open(filepath.Join(t.TempDir(), "x")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	for _, uri := range []string{"pkcs11:", "pkcs11:token=t;object=o?module-path=/x&pin-value=1234"} {
		if _, err := (&keyfile.Opener{}).Open(uri); !errors.Is(err, pkcs11.ErrURI) || strings.Contains(err.Error(), "1234") {
			t.Errorf("%s: %v", uri, err)
		}
	}
}

func TestSources(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "secret")
	must(t, os.WriteFile(file, []byte(passphrase+"\r\nsecond line\n"), 0o600))
	t.Setenv("TEEP_TEST_SECRET", passphrase)
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	_, plain := newPEM(t, cose.AlgESP256)
	sealed, err := secret(t, passphrase).Encrypt(plain)
	must(t, err)
	path := write(t, 0o600, sealed)
	for name, source := range map[string]keyfile.Source{"file": {File: file}, "environment": {Environment: "TEEP_TEST_SECRET"}, "credential": {Credential: "secret"}} {
		s, err := source.Read()
		must(t, err)
		if _, err := (&keyfile.Opener{Secret: s}).Open(path); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, form := range []string{"%v", "%s", "%+v", "%#v", "%q"} {
			if text := fmt.Sprintf(form, s); strings.Contains(text, "horse") {
				t.Errorf("%s shows the secret: %s", form, text)
			}
		}
	}
	if s, err := (keyfile.Source{}).Read(); s != nil || err != nil {
		t.Errorf("no source: %v, %v", s, err)
	}
	open := filepath.Join(dir, "open")
	must(t, os.WriteFile(open, []byte(passphrase), 0o644))
	short := filepath.Join(dir, "short")
	must(t, os.WriteFile(short, []byte("short\n"), 0o600))
	broken := filepath.Join(dir, "broken")
	must(t, os.WriteFile(broken, []byte("AGE-SECRET-KEY-1XYZ\n"), 0o600))
	for name, c := range map[string]struct {
		source keyfile.Source
		says   string
	}{
		"two":                  {keyfile.Source{File: file, Environment: "TEEP_TEST_SECRET"}, "several sources"},
		"no variable":          {keyfile.Source{Environment: "TEEP_TEST_NONE"}, "no variable TEEP_TEST_NONE"},
		"no credential":        {keyfile.Source{Credential: "none"}, "no such file"},
		"credential elsewhere": {keyfile.Source{Credential: "../secret"}, "no name"},
		"readable":             {keyfile.Source{File: open}, "chmod 600"},
		"short":                {keyfile.Source{File: short}, "shorter than"},
		"broken identity":      {keyfile.Source{File: broken}, "age identity"},
	} {
		if _, err := c.source.Read(); err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "short\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if _, err := (keyfile.Source{Credential: "secret"}).Read(); err == nil || !strings.Contains(err.Error(), "LoadCredential") {
		t.Errorf("outside of systemd: %v", err)
	}
}

// FuzzOpen: whatever is in a key file, opening it ends with a key or an error.
func FuzzOpen(f *testing.F) {
	_, plain := newPEM(f, cose.AlgESP256)
	identity, err := age.GenerateX25519Identity()
	must(f, err)
	s := secret(f, identity.String())
	sealed, err := s.Encrypt(plain)
	must(f, err)
	f.Add(plain)
	f.Add(sealed)
	f.Add([]byte("age-encryption.org/v1\n-> scrypt AAAA 30\n"))
	o := &keyfile.Opener{Secret: s}
	f.Fuzz(func(t *testing.T, data []byte) {
		key, err := o.Open(write(t, 0o600, data))
		if err == nil && key.Public() == nil {
			t.Error("a key without a public part")
		}
	})
}
