package pkcs11_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-teep/teep/cose/pkcs11"
)

func pinFile(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(name, []byte("1234\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestParseURI(t *testing.T) {
	pin := pinFile(t)
	l, err := pkcs11.ParseURI("pkcs11:token=my%20token;object=dev;id=%01%ff;type=private?module-path=/lib/x.so&pin-source=file:" + pin)
	if err != nil {
		t.Fatal(err)
	}
	if l.Token != "my token" || l.Object != "dev" || string(l.ID) != "\x01\xff" || l.Module != "/lib/x.so" || l.PIN != "1234" {
		t.Errorf("read %+v", l)
	}
	if !pkcs11.IsURI("pkcs11:token=x") || pkcs11.IsURI("dev.pem") {
		t.Error("IsURI cannot tell a URI from a file")
	}
	exposed := pinFile(t)
	if err := os.Chmod(exposed, 0o644); err != nil {
		t.Fatal(err)
	}
	for uri, want := range map[string]string{
		"pkcs11:token=t;object=o?module-path=m&pin-source=" + exposed: "chmod 600",
		"dev.pem":                 "no URI of the scheme",
		"pkcs11:":                 "module-path",
		"pkcs11:token=t;object=o": "module-path",
		"pkcs11:object=o?module-path=m&pin-source=" + pin:                 "token=",
		"pkcs11:token=t?module-path=m&pin-source=" + pin:                  "object=",
		"pkcs11:token=t;object=o?module-path=m":                           "pin-source",
		"pkcs11:token=t;object=o?module-path=m&pin-value=geheim":          "seen by others",
		"pkcs11:token=t;object=o?module-path=m&pin-source=" + pin + ".no": "read the PIN",
		"pkcs11:token=t;token=u":                                          "twice",
		"pkcs11:token=%zz":                                                "percent-encoded",
		"pkcs11:slot-id=1":                                                "not supported",
		"pkcs11:token":                                                    "not supported",
	} {
		_, err := pkcs11.ParseURI(uri)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", uri, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "geheim") {
			t.Errorf("the PIN is in the error: %v", err)
		}
	}
}

func FuzzParseURI(f *testing.F) {
	f.Add("pkcs11:token=my%20token;object=dev?module-path=/lib/x.so")
	f.Fuzz(func(t *testing.T, uri string) {
		if _, err := pkcs11.ParseURI(uri); err == nil && !pkcs11.IsURI(uri) {
			t.Error("accepted what is no URI")
		}
	})
}

func TestOpenWithoutModule(t *testing.T) {
	_, err := pkcs11.Open(pkcs11.Location{Module: "/nowhere/module.so", Token: "t", Object: "o"})
	if !errors.Is(err, pkcs11.ErrNotBuilt) && !errors.Is(err, pkcs11.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}
