package scan_test

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/suit/internal/scan"
)

func read(data []byte) error {
	r := scan.New(data)
	if _, err := r.Item(); err != nil {
		return err
	}
	return r.Done()
}

func TestItem(t *testing.T) {
	deep := strings.Repeat("81", cbor.MaxNesting+1) + "00"
	for input, want := range map[string]error{
		"00": nil, "1818": nil, "1801": nil, "20": nil, "40": nil, "6161": nil, "80": nil, "a0": nil, "d86b00": nil,
		"f4": nil, "f5": nil, "f6": nil, "f7": nil, "f93c00": nil, "f820": nil, "1bffffffffffffffff": nil,
		"a201000200": nil, "a202000100": nil,
		"": scan.ErrTruncated, "18": scan.ErrTruncated, "41": scan.ErrTruncated, "81": scan.ErrTruncated,
		"a1": scan.ErrTruncated, "d86b": scan.ErrTruncated, "a100": scan.ErrTruncated, "5bffffffffffffffff": scan.ErrTruncated,
		"9bffffffffffffffff": scan.ErrTooMany, "9a7fffffff": scan.ErrTooMany, "bbffffffffffffffff": scan.ErrTooMany,
		"5f": scan.ErrIndefinite, "7fff": scan.ErrIndefinite, "9fff": scan.ErrIndefinite, "bfff": scan.ErrIndefinite,
		"ff": scan.ErrMalformed, "1c": scan.ErrMalformed, "3f": scan.ErrMalformed, "f818": scan.ErrMalformed, "fc": scan.ErrMalformed,
		"61ff": scan.ErrUTF8, "0000": scan.ErrTrailing, deep: scan.ErrNesting,
		"a201000100": scan.ErrDuplicate, "a20100180100": scan.ErrDuplicate, "a3020001000200": scan.ErrDuplicate,
		"81a2616100616100": scan.ErrDuplicate,
	} {
		data, err := hex.DecodeString(input)
		if err != nil {
			t.Fatal(err)
		}
		if got := read(data); !errors.Is(got, want) || (want == nil) != (got == nil) {
			t.Errorf("%s: got %v, want %v", input, got, want)
		}
	}
}

func TestTypes(t *testing.T) {
	for name, read := range map[string]func(*scan.Reader) error{
		"uint":  func(r *scan.Reader) error { _, err := r.Uint(); return err },
		"int":   func(r *scan.Reader) error { _, err := r.Int(); return err },
		"bytes": func(r *scan.Reader) error { _, err := r.Bytes(); return err },
		"text":  func(r *scan.Reader) error { _, err := r.Text(); return err },
		"array": func(r *scan.Reader) error { _, err := r.Array(); return err },
		"map":   func(r *scan.Reader) error { _, err := r.Map(); return err },
		"tag":   func(r *scan.Reader) error { _, err := r.Tag(); return err },
		"bool":  func(r *scan.Reader) error { _, err := r.Bool(); return err },
		"null":  func(r *scan.Reader) error { return r.Null() },
	} {
		for kind, data := range map[string][]byte{
			"uint": {0}, "int": {0x20}, "bytes": {0x40}, "text": {0x60}, "array": {0x80}, "map": {0xa0},
			"tag": {0xc0, 0}, "bool": {0xf5}, "null": {0xf6}, "float": {0xf9, 0, 0},
		} {
			r := scan.New(data)
			err := read(&r)
			fits := kind == name || name == "int" && kind == "uint"
			if fits != (err == nil) || !fits && !errors.Is(err, scan.ErrType) {
				t.Errorf("reading %s as %s: %v", kind, name, err)
			}
			if !fits && r.Pos() != 0 {
				t.Errorf("reading %s as %s moved on", kind, name)
			}
		}
		r := scan.New(nil)
		if read(&r) == nil {
			t.Errorf("%s is read from nothing", name)
		}
	}
	for _, big := range []string{"1b8000000000000000", "3b8000000000000000"} {
		data, _ := hex.DecodeString(big)
		r := scan.New(data)
		if v, err := r.Int(); err == nil {
			t.Errorf("%s is read as %d", big, v)
		}
	}
}

// What this package accepts, the one CBOR policy of the project accepts, and the other way round.
func FuzzSamePolicy(f *testing.F) {
	for _, seed := range []string{"00", "a201000200", "8201f6", "d86ba1614141ff", "a2410000410100", "5f41004100ff", "fb3ff0000000000000", "a20100180100"} {
		data, err := hex.DecodeString(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		mine := read(data)
		theirs := cbor.Wellformed(data)
		if mine == nil && theirs != nil {
			t.Errorf("%x: accepted here, but not by the policy: %v", data, theirs)
		}
		// Duplicates and UTF-8 are found by the policy only when it decodes, and it does not count
		// tags around tags as nesting.
		stricter := errors.Is(mine, scan.ErrDuplicate) || errors.Is(mine, scan.ErrUTF8) || errors.Is(mine, scan.ErrNesting)
		if mine != nil && theirs == nil && !stricter {
			t.Errorf("%x: accepted by the policy, but not here: %v", data, mine)
		}
		var v any
		if mine == nil || errors.Is(mine, scan.ErrDuplicate) {
			if err := cbor.Unmarshal(data, &v); err != nil && mine == nil && strings.Contains(err.Error(), "duplicate") {
				t.Errorf("%x: a duplicate key was missed", data)
			}
		}
	})
}
