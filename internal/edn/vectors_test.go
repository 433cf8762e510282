package edn_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/internal/edn"
	"github.com/go-teep/teep/internal/vectors"
)

func parse(t *testing.T, text string) []byte {
	t.Helper()
	data, err := edn.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestVectorsEncode compares each notation with the bytes published beside it.
func TestVectorsEncode(t *testing.T) {
	pairs := map[string]string{}
	for _, f := range vectors.Names(t, "teep", ".diag.txt") {
		pairs[f] = strings.TrimSuffix(f, ".diag.txt") + ".hex.txt"
	}
	for _, f := range vectors.Names(t, "suit-encryption", ".hex") {
		if !strings.Contains(f, "encrypted-payload") { // ciphertext, which has no notation
			pairs[strings.TrimSuffix(f, ".hex")+".diag"] = f
		}
	}
	for diag, binary := range pairs {
		t.Run(diag, func(t *testing.T) {
			got, want := parse(t, string(vectors.Read(t, diag))), vectors.Hex(t, binary)
			if !bytes.Equal(got, want) {
				t.Errorf("\n got %x\nwant %x", got, want)
			}
		})
	}
}

// TestEnvelopeNotation compares the manifests. Their notation shows them before they were signed,
// without the authentication wrapper (SUIT_Envelope key 2), and suit/exp5.diag shows an older
// signature (alg -7) than suit/exp5.suit has (alg -9); all else must be the same.
func TestEnvelopeNotation(t *testing.T) {
	for _, folder := range []string{"suit", "suit-trust-domains", "suit-encryption"} {
		for _, binary := range vectors.Names(t, folder, ".suit") {
			t.Run(binary, func(t *testing.T) {
				notation := string(vectors.Read(t, strings.TrimSuffix(binary, ".suit")+".diag"))
				got := withoutAuthentication(t, parse(t, notation))
				want := withoutAuthentication(t, vectors.Read(t, binary))
				if !bytes.Equal(got, want) {
					t.Errorf("\n got %x\nwant %x", got, want)
				}
			})
		}
	}
}

func withoutAuthentication(t *testing.T, envelope []byte) []byte {
	t.Helper()
	var tag cbor.RawTag
	if err := cbor.Unmarshal(envelope, &tag); err != nil {
		t.Fatal(err)
	}
	var members map[any]cbor.RawMessage
	if err := cbor.Unmarshal(tag.Content, &members); err != nil {
		t.Fatal(err)
	}
	delete(members, uint64(2))
	delete(members, int64(2))
	out, err := cbor.Marshal(cbor.Tag{Number: tag.Number, Content: members})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestEATVectorFaults: the comment "/ application/cbor, …" of teep/eat_diagnostic.txt ends at its
// second slash, so the text is not diagnostic notation until that is mended.
func TestEATVectorFaults(t *testing.T) {
	text := string(vectors.Read(t, "teep/eat_diagnostic.txt"))
	var syntax *edn.SyntaxError
	if _, err := edn.Parse(text); !errors.As(err, &syntax) || syntax.Line != 16 {
		t.Fatalf("got %v, want a syntax error in line 16", err)
	}
	data := parse(t, strings.Replace(text, "application/cbor", "application cbor", 1))
	if err := cbor.Wellformed(data); err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(data, []byte("https://example.com/manifest.cbor")) {
		t.Error("the manifest URI is not in the encoding")
	}
}

// TestVectorsRoundTrip prints every binary vector and reads it back.
func TestVectorsRoundTrip(t *testing.T) {
	for name, data := range binaries(t) {
		text, err := edn.Format(data, edn.Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if again := parse(t, text); !bytes.Equal(again, data) {
			t.Errorf("%s does not survive:\n%s", name, text)
		}
	}
}

func binaries(tb testing.TB) map[string][]byte {
	tb.Helper()
	all := map[string][]byte{}
	for _, folder := range []string{"suit/.suit", "suit-trust-domains/.suit", "suit-encryption/.suit",
		"teep-es256/.cbor", "teep/.hex.txt"} {
		dir, suffix, _ := strings.Cut(folder, "/")
		for _, name := range vectors.Names(tb, dir, suffix) {
			if suffix == ".hex.txt" {
				all[name] = vectors.Hex(tb, name)
			} else {
				all[name] = vectors.Read(tb, name)
			}
		}
	}
	return all
}
