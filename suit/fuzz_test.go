package suit_test

import (
	"bytes"
	"testing"

	"github.com/go-teep/teep/suit"
)

func FuzzParseEnvelope(f *testing.F) {
	for _, v := range signedVectors(f) {
		f.Add(v.data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = suit.Annotate(data)
		e, err := suit.ParseEnvelope(data)
		if err != nil {
			return
		}
		again, err := suit.ParseEnvelope(e.Encode())
		if err != nil {
			t.Fatalf("%x is accepted, but not as it encodes: %v", data, err)
		}
		if !bytes.Equal(again.Encode(), e.Encode()) || !bytes.Equal(again.ManifestBytes, e.ManifestBytes) {
			t.Fatal("encoding is not stable")
		}
		_, _ = e.UnverifiedManifest()
	})
}

func FuzzParseManifest(f *testing.F) {
	for _, v := range signedVectors(f) {
		e, err := suit.ParseEnvelope(v.data)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(e.ManifestBytes)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := suit.ParseManifest(data)
		if err != nil {
			return
		}
		encoded, err := m.Encode()
		if err != nil {
			t.Fatalf("%x is accepted, but does not encode: %v", data, err)
		}
		again, err := suit.ParseManifest(encoded)
		if err != nil {
			t.Fatal(err)
		}
		twice, err := again.Encode()
		if err != nil || !bytes.Equal(encoded, twice) {
			t.Fatalf("encoding is not stable: %x then %x (%v)", encoded, twice, err)
		}
	})
}

func FuzzParseReport(f *testing.F) {
	for _, r := range exampleReports() {
		data, err := r.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := suit.ParseReport(data)
		if err != nil {
			return
		}
		encoded, err := r.Encode()
		if err != nil {
			t.Fatalf("%x is accepted, but does not encode: %v", data, err)
		}
		again, err := suit.ParseReport(encoded)
		if err != nil {
			t.Fatal(err)
		}
		twice, err := again.Encode()
		if err != nil || !bytes.Equal(encoded, twice) {
			t.Fatalf("encoding is not stable: %x then %x (%v)", encoded, twice, err)
		}
	})
}
