package suit_test

import (
	"bytes"
	"path"
	"slices"
	"testing"

	"github.com/go-teep/teep/suit"
)

// Each byte of each vector is changed in turn. The result is refused, or it says the same as the
// original in everything that is signed.
func TestFlippedBytes(t *testing.T) {
	keys := trustAnchor(t)
	for _, v := range signedVectors(t) {
		if v.unsigned {
			continue
		}
		t.Run(path.Base(v.name), func(t *testing.T) {
			original := verified(t, v, keys)
			accepted := 0
			for i := range v.data {
				for _, bit := range []byte{0x01, 0x20, 0x80} {
					flipped := slices.Clone(v.data)
					flipped[i] ^= bit
					_, _ = suit.Annotate(flipped) // must not panic
					e, err := suit.ParseEnvelope(flipped)
					if err != nil {
						continue
					}
					a, err := e.Verify(keys, options(v))
					if err != nil {
						continue
					}
					accepted++
					if !bytes.Equal(a.Manifest.Raw, original.Manifest.Raw) {
						t.Fatalf("byte %d, bit %#x: another manifest was accepted", i, bit)
					}
					sameSections(t, original.Manifest, a.Manifest)
				}
			}
			// What may change is the tag of the envelope, the unprotected headers, and the keys
			// and contents of integrated payloads, which are checked by their digests later.
			if unsigned := unsignedBytes(original.Envelope); accepted > 3*unsigned {
				t.Errorf("%d changes were accepted, only %d bytes are not signed", accepted, unsigned)
			}
		})
	}
}

func unsignedBytes(e *suit.Envelope) int {
	n := 8
	for uri, content := range e.Integrated {
		n += len(uri) + len(content) + 8
	}
	return n
}

func sameSections(t *testing.T, want, got *suit.Manifest) {
	t.Helper()
	for _, label := range suit.SectionLabels() {
		w, g := want.Section(label), got.Section(label)
		if g.Available() && !bytes.Equal(w.Raw, g.Raw) {
			t.Fatalf("another %v was accepted", label)
		}
	}
	if got.Text.Raw != nil && !bytes.Equal(want.Text.Raw, got.Text.Raw) {
		t.Fatal("another text was accepted")
	}
}

func TestTruncatedVectors(t *testing.T) {
	for _, v := range signedVectors(t) {
		for n := range v.data {
			if _, err := suit.ParseEnvelope(v.data[:n]); err == nil {
				t.Fatalf("%s: the first %d bytes of %d are accepted", v.name, n, len(v.data))
			}
		}
		if _, err := suit.ParseEnvelope(append(slices.Clone(v.data), 0)); err == nil {
			t.Fatalf("%s: a trailing byte is accepted", v.name)
		}
	}
}
