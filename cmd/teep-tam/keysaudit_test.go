package main

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/go-teep/teep/cose/keyfile"
	"github.com/go-teep/teep/tam/audit"
)

// entries are those of the audit log that came since the last call.
func (r *rotating) entries(seen *int64) []audit.Entry {
	r.t.Helper()
	list, err := r.i.measured.Store().AuditEntries(r.t.Context(), *seen, 100)
	must(r.t, err)
	if len(list) > 0 {
		*seen = list[len(list)-1].Seq
	}
	return list
}

// files are the names of all key files, and whether there is a ring.
func (r *rotating) files() []string {
	r.t.Helper()
	dir := filepath.Dir(r.path)
	all, err := filepath.Glob(filepath.Join(dir, "keys", "*"))
	must(r.t, err)
	ring, err := filepath.Glob(filepath.Join(dir, "keys.yaml"))
	must(r.t, err)
	return append(all, ring...)
}

// TestKeysAreAudited: what the command line does to keys is in the audit log, with who did it and to which keys; what is
// refused, or changes nothing, is not.
func TestKeysAreAudited(t *testing.T) {
	secret, err := age.GenerateX25519Identity()
	must(t, err)
	t.Setenv("TEEP_TEST_KEYS", secret.String())
	r := newRotating(t, func(_, text string) string { return text + "key-secret: {environment: TEEP_TEST_KEYS}\n" })
	var seen int64
	r.entries(&seen)
	old := hex.EncodeToString(r.signing()[0].Thumbprint())
	for _, step := range []struct {
		args    []string
		refused bool
		action  audit.Action
		n       int    // of entries
		target  string // regular expressions
		detail  string
	}{
		{args: []string{"rotate", "--overlap", "0s"}, refused: true},
		{args: []string{"next", "--key", "none.pem"}, refused: true},
		{args: []string{"retire", old}, refused: true}, // it is current
		{args: []string{"list"}},
		{args: []string{"next"}, action: audit.ActionKeysNext, n: 1, target: `^keys/esp256-\S+\.pem\.age keys/ed25519-\S+\.pem\.age keys/encryption-\S+\.pem\.age$`, detail: `^beside the current keys/esp256\.pem `},
		{args: []string{"next"}},
		{args: []string{"rotate", "--overlap", "24h"}, action: audit.ActionKeysRotate, n: 1, target: `^keys/esp256-\S+\.age keys/ed25519-\S+ keys/encryption-\S+$`, detail: `^those of before count for 24h0m0s: keys/esp256\.pem keys/ed25519\.pem keys/encryption\.pem$`},
		{args: []string{"retire", "0123456789"}, refused: true},
		{args: []string{"retire", old}, action: audit.ActionKeysRetire, n: 1, target: `^keys/esp256\.pem$`, detail: "^previous key " + old + "$"},
		{args: []string{"encrypt"}, action: audit.ActionKeysEncrypt, n: len(newKeys) - 1, target: `^keys/[a-z0-9-]+\.pem$`, detail: `^$`}, // the retired one is no longer named
		{args: []string{"encrypt"}},
	} {
		before := r.files()
		if _, err := r.run(step.args...); (err != nil) != step.refused {
			t.Fatalf("%v: %v", step.args, err)
		}
		if step.refused && !slices.Equal(r.files(), before) {
			t.Errorf("%v was refused, and made %v of %v", step.args, r.files(), before)
		}
		entries := r.entries(&seen)
		if len(entries) != step.n {
			t.Fatalf("%v left %d entries, want %d: %+v", step.args, len(entries), step.n, entries)
		}
		for _, e := range entries {
			if e.Action != step.action || e.Via != "command-line" || e.Actor != fmt.Sprint("user ", os.Getuid()) ||
				!regexp.MustCompile(step.target).MatchString(e.Target) || !regexp.MustCompile(step.detail).MatchString(e.Detail) {
				t.Errorf("%v is recorded as %+v", step.args, e)
			}
		}
	}
	var export strings.Builder
	must(t, audit.Export(t.Context(), r.i.measured.Store(), 0, &export))
	if report, err := audit.Verify(strings.NewReader(export.String())); err != nil || report.Head.Seq != seen {
		t.Errorf("%+v, %v", report, err)
	}
	if strings.Contains(export.String(), "AGE-SECRET") || strings.Contains(export.String(), "PRIVATE") {
		t.Errorf("a secret is in the audit log: %s", &export)
	}
}

// TestKeysWithoutAnAuditLog: what cannot be entered into the audit log is not done, and leaves no key behind.
func TestKeysWithoutAnAuditLog(t *testing.T) {
	secret, err := age.GenerateX25519Identity()
	must(t, err)
	t.Setenv("TEEP_TEST_KEYS", secret.String())
	r := newRotating(t, func(_, text string) string { return text + "key-secret: {environment: TEEP_TEST_KEYS}\n" })
	text, err := os.ReadFile(r.path)
	must(t, err)
	must(t, os.WriteFile(r.path, []byte(strings.Replace(string(text), "store: tam.db", "store: nowhere/tam.db", 1)), 0o600))
	before := r.files()
	for _, args := range [][]string{{"next"}, {"rotate"}, {"encrypt"}} {
		if _, err := r.run(args...); err == nil || !strings.Contains(err.Error(), "nowhere") {
			t.Errorf("%v: %v", args, err)
		}
		if !slices.Equal(r.files(), before) {
			t.Errorf("%v made %v of %v", args, r.files(), before)
		}
	}
	for _, name := range before {
		data, err := os.ReadFile(name)
		must(t, err)
		if keyfile.IsEncrypted(data) {
			t.Errorf("%s was encrypted", name)
		}
	}
}
