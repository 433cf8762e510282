//go:build !pkcs11 || !cgo

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPKCS11WithoutSupport: a program that was built without support for tokens says so, with the key that needs it.
func TestPKCS11WithoutSupport(t *testing.T) {
	pin := filepath.Join(t.TempDir(), "pin")
	must(t, os.WriteFile(pin, []byte("1234"), 0o600))
	uri := "pkcs11:token=tam;object=esp256?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=" + pin
	c, err := load(made(t, "[keys/esp256.pem, ", "['"+uri+"', "))
	must(t, err)
	if _, err := c.ring(); err == nil || !strings.Contains(err.Error(), uri) || !strings.Contains(err.Error(), "-tags pkcs11") {
		t.Errorf("got %v", err)
	}
}
