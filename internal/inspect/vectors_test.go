package inspect

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/edn"
	"github.com/go-teep/teep/internal/vectors"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares text with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update writes it anew); got\n%s", name, got)
	}
}

func pemKey(t testing.TB, name string) *cose.Key {
	t.Helper()
	k, err := cose.ParsePEM(vectors.Read(t, "keys/"+name+"_prime256v1.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func vectorKeys(t testing.TB) Options {
	var o Options
	for _, name := range []string{"tam", "teep_agent", "verifier", "trust_anchor"} {
		o.Keys = append(o.Keys, pemKey(t, name))
	}
	o.Keys = append(o.Keys, cose.NewSymmetricKey([]byte(strings.Repeat("a", 32))))
	o.DecryptKeys = []*cose.Key{pemKey(t, "teep_agent"), cose.NewSymmetricKey([]byte(strings.Repeat("a", 16)))}
	return o
}

func inspectVector(t *testing.T, name string, o Options) *Report {
	t.Helper()
	r, err := Inspect(vectors.Read(t, name), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// outline is a report without its notation.
func outline(name string, r *Report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s (%s, %s)\n%s\n", name, r.Encoding, r.Kind, r.Summary)
	for _, p := range r.Parts[min(1, len(r.Parts)):] {
		fmt.Fprintf(&b, "  %s: %s\n", p.Path, p.Summary)
	}
	for _, s := range r.Signatures {
		fmt.Fprintf(&b, "  %v\n", s)
	}
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "  %v\n", f)
	}
	return b.String()
}

// TestVectors inspects everything that others made, with all the keys. The golden file is the
// list of its known faults.
func TestVectors(t *testing.T) {
	var all strings.Builder
	for _, set := range [][2]string{
		{"teep", ".hex.txt"}, {"teep-es256", ".cbor"}, {"suit", ".suit"}, {"suit-trust-domains", ".suit"},
		{"suit-es256", ".txt"}, {"suit-encryption", "info-es-ecdh-aes-gcm.hex"},
		{"suit-encryption", "info-es-ecdh-aes-ctr.hex"}, {"suit-encryption", ".suit"},
	} {
		for _, name := range vectors.Names(t, set[0], set[1]) {
			r := inspectVector(t, name, vectorKeys(t))
			all.WriteString(outline(name, r))
			if r.Kind == KindUnreadable || r.Kind == KindCBOR {
				t.Errorf("%s: not recognised", name)
			}
		}
	}
	golden(t, "vectors.txt", all.String())
}

// TestVectorsWithEachByteFlipped: whatever byte of a vector is changed, what is found is told, or that it cannot
// be read; nothing crashes. What a change does to signatures is for the tests of suit, teep and cose.
func TestVectorsWithEachByteFlipped(t *testing.T) {
	for _, set := range [][2]string{
		{"teep", ".hex.txt"}, {"teep-es256", ".cbor"}, {"suit", ".suit"}, {"suit-trust-domains", ".suit"},
		{"suit-encryption", ".hex"}, {"suit-encryption", ".suit"},
	} {
		for _, name := range vectors.Names(t, set[0], set[1]) {
			data := vectors.Read(t, name)
			if strings.Contains(set[1], ".hex") {
				data = vectors.Hex(t, name)
			}
			for i := range data {
				flipped := slices.Clone(data)
				flipped[i] ^= 1 << (i % 8)
				if r, err := Inspect(flipped, Options{}); err == nil && r.Summary == "" {
					t.Errorf("%s, byte %d: nothing is told", name, i)
				}
			}
		}
	}
}

// TestNotationOfVectors keeps two whole notations, a TEEP message and an encrypted manifest, and
// has all others say exactly the bytes that they were made from.
func TestNotationOfVectors(t *testing.T) {
	for file, name := range map[string]string{
		"update.txt": "teep-es256/update_cose.cbor", "aes-kw-write.txt": "suit-encryption/aes-kw-write.suit",
	} {
		text, err := Notation(vectors.Read(t, name))
		if err != nil {
			t.Fatal(err)
		}
		golden(t, file, text+"\n")
	}
	for _, set := range [][2]string{{"teep-es256", ".cbor"}, {"suit", ".suit"}, {"suit-encryption", ".suit"}} {
		for _, name := range vectors.Names(t, set[0], set[1]) {
			data := vectors.Read(t, name)
			text, err := FullNotation(data)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if back, err := edn.Parse(text); err != nil || string(back) != string(data) {
				t.Errorf("%s: the notation says other bytes (%v)", name, err)
			}
		}
	}
}

func TestDecryptsPersonalization(t *testing.T) {
	r := inspectVector(t, "teep/suit_personalization.hex.txt", vectorKeys(t))
	if !hasFinding(r, SeverityNote, "the payload decrypts to 61 bytes") {
		t.Errorf("the payload was not decrypted: %v", r.Findings)
	}
	o := vectorKeys(t)
	o.DecryptKeys = []*cose.Key{pemKey(t, "tam")}
	r = inspectVector(t, "teep/suit_personalization.hex.txt", o)
	if !hasFinding(r, SeverityNote, "no given decryption key opens it") || r.Failed() {
		t.Errorf("another key: %v", r.Findings)
	}
}

func hasFinding(r *Report, s Severity, part string) bool {
	for _, f := range r.Findings {
		if f.Severity == s && strings.Contains(f.String(), part) {
			return true
		}
	}
	return false
}
