package suit_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
)

// The vendor is that of the SUIT examples, whose text names its domain.
func TestUUIDs(t *testing.T) {
	vendor := suit.NewVendorID("arm.com")
	if got := vendor.String(); got != "fa6b4a53-d5ad-5fdf-be9d-e663e4d41ffe" {
		t.Errorf("vendor of arm.com is %s", got)
	}
	back, err := suit.ParseUUID("FA6B4A53-D5AD-5FDF-BE9D-E663E4D41FFE")
	if err != nil || back != vendor {
		t.Errorf("upper case reads as %v, %v", back, err)
	}
	class := suit.NewClassID(suit.VendorID{UUID: vendor}, []byte("model"))
	if class[6]>>4 != 5 || class[8]>>6 != 2 {
		t.Errorf("class %v is not of version 5", class)
	}
	// SUIT §8.4.8.1 derives the namespace from that of object identifiers.
	oid, err := suit.ParseUUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")
	if err != nil {
		t.Fatal(err)
	}
	pen := suit.NewUUIDv5(oid, []byte{0xd8, 0x6f, 0x45, 0x2b, 0x06, 0x01, 0x04, 0x01})
	if got := pen.String(); got != "47fbdabb-f2e4-55f0-bb39-3620c2f6df4e" {
		t.Errorf("namespace of private enterprise numbers is %s", got)
	}
	number := suit.NewPEN(32473) // example.com's, RFC 5612
	want := suit.NewUUIDv5(pen, []byte{0xd8, 0x70, 0x43, 0x81, 0xfd, 0x59})
	if number.Namespace() != want {
		t.Errorf("vendor 32473 is %x, %v", number.PEN, number.Namespace())
	}
	for _, bad := range []string{"", "fa6b4a53d5ad5fdfbe9de663e4d41ffe", "fa6b4a53-d5ad-5fdf-be9d-e663e4d41ff", "ga6b4a53-d5ad-5fdf-be9d-e663e4d41ffe", "fa6b4a5--d5ad-5fdf-be9d-e663e4d41ffee"} {
		if u, err := suit.ParseUUID(bad); err == nil {
			t.Errorf("%q reads as %v", bad, u)
		}
	}
}

func TestVersions(t *testing.T) {
	// The examples of update management §5.4.1.
	for s, want := range map[string]suit.Version{
		"1.2.3": {1, 2, 3}, "1.2-rc.3": {1, 2, -1, 3}, "1.2-beta": {1, 2, -2}, "1.2-alpha": {1, 2, -3},
		"1.2.3-alpha.4": {1, 2, 3, -3, 4}, "2025.12.6": {2025, 12, 6}, "0": {0},
	} {
		got, err := suit.ParseVersion(s)
		if err != nil || got.Compare(want) != 0 || len(got) != len(want) {
			t.Errorf("%s is %v (%v), want %v", s, []int64(got), err, []int64(want))
		}
		if got.String() != s {
			t.Errorf("%s is written as %s", s, got)
		}
	}
	for _, bad := range []string{"", "v1", "1.2.3.4", "1.2.3+build", "1.2-pre", "1..2", "1.-2", "-1", "1-rc.", "1.2-rc.x", "99999999999999999999"} {
		if v, err := suit.ParseVersion(bad); err == nil {
			t.Errorf("%q reads as %v", bad, []int64(v))
		}
	}
	order := []string{"1.9", "2.0-alpha", "2.0-beta", "2.0-rc.1", "2.0-rc.2", "2.0.0", "2.0.1", "2.1"}
	for i := range order[1:] {
		a, _ := suit.ParseVersion(order[i])
		b, _ := suit.ParseVersion(order[i+1])
		if a.Compare(b) >= 0 || b.Compare(a) <= 0 {
			t.Errorf("%v is not before %v", a, b)
		}
	}
}

func TestVersionMatch(t *testing.T) {
	for _, tc := range []struct {
		comparison suit.Comparison
		value      string
		asserted   string
		want       bool
	}{
		{suit.Equal, "1", "1.2.3", true}, // stops when the manifest's numbers are consumed
		{suit.Equal, "1.2.3", "1.2", false},
		{suit.Equal, "1.2", "1.3", false},
		{suit.GreaterEqual, "1.0", "1.0.7", true},
		{suit.Lesser, "1.10", "1.9.9", true},
		{suit.Lesser, "1.10", "1.10.0", false},
		{suit.Greater, "1.2", "1.2.9", false},
		{suit.Greater, "1.2", "1.3", true},
		{suit.LesserEqual, "1.2", "1.2.9", true},
		{suit.LesserEqual, "1.2", "1.3", false},
		{suit.GreaterEqual, "2.0.0", "2.0-rc.1", false},
		{suit.Comparison(0), "1", "1", false},
		{suit.Comparison(6), "1", "1", false},
	} {
		value, err := suit.ParseVersion(tc.value)
		if err != nil {
			t.Fatal(err)
		}
		asserted, err := suit.ParseVersion(tc.asserted)
		if err != nil {
			t.Fatal(err)
		}
		if got := (suit.VersionMatch{Comparison: tc.comparison, Value: value}).Matches(asserted); got != tc.want {
			t.Errorf("%v%v on %v is %v", tc.comparison, value, asserted, got)
		}
	}
}

func TestDigests(t *testing.T) {
	for _, alg := range []cose.Algorithm{cose.AlgSHA256, cose.AlgSHA384, cose.AlgSHA512} {
		d, err := suit.NewDigestWith(alg, []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		if !d.Matches([]byte("x")) || d.Matches([]byte("y")) || d.Matches(nil) {
			t.Errorf("%v matches wrongly", d)
		}
		data, err := d.MarshalCBOR()
		if err != nil {
			t.Fatal(err)
		}
		var back suit.Digest
		if err := back.UnmarshalCBOR(data); err != nil || !back.Equal(d) {
			t.Errorf("%v comes back as %v, %v", d, back, err)
		}
	}
	if _, err := suit.NewDigestWith(-18, nil); !errors.Is(err, suit.ErrHash) || suit.ReasonFor(err) != suit.ReasonAlgUnsupported {
		t.Errorf("SHAKE128 gives %v", err)
	}
	var zero suit.Digest
	if zero.Matches(nil) || !zero.IsZero() {
		t.Error("the zero digest matches")
	}
	if _, err := zero.Hash(); !errors.Is(err, suit.ErrHash) {
		t.Errorf("the zero digest hashes: %v", err)
	}
}

func TestComponentCapability(t *testing.T) {
	below := suit.ComponentCapability{ID: suit.NewComponentID("a"), Prefix: true}
	exact := suit.ComponentCapability{ID: suit.NewComponentID("a")}
	for id, want := range map[string][2]bool{"a": {true, true}, "a/b": {true, false}, "b": {false, false}, "": {false, false}} {
		parsed, err := suit.ParseComponentID(id)
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]bool{below.Supports(parsed), exact.Supports(parsed)}; got != want {
			t.Errorf("%q: got %v, want %v", id, got, want)
		}
	}
}

func TestAnnotateRefuses(t *testing.T) {
	for _, bad := range [][]byte{nil, {0xff}, {0x01, 0x01}, {0x9f, 0xff}, {0x62, 0xff, 0xff}} {
		if s, err := suit.Annotate(bad); err == nil {
			t.Errorf("%x is shown as %s", bad, s)
		}
	}
}

// Text of a manifest must not control the terminal that shows it.
func TestAnnotateEscapes(t *testing.T) {
	m := simpleManifest()
	m.Text.Languages["en"].Manifest[suit.TextManifestDescription] = "red \x1b[31m, right to left \u202e, quote \" and \U000e0041"
	s, err := suit.Annotate(built(t, suit.Builder{Manifest: m}).Encode())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range s {
		if r == 0x1b || r == 0x202e || r == 0xe0041 {
			t.Errorf("%q is shown as it is", r)
		}
	}
}

// Nor fill it, however much text there is.
func TestAnnotateBoundsText(t *testing.T) {
	for size, whole := range map[int]bool{1024: true, 1025: false, 100_000: false} {
		m := simpleManifest()
		long := strings.Repeat("ä", size/2) + strings.Repeat("x", size%2)
		m.Text.Languages["en"].Manifest[suit.TextManifestDescription] = long
		s, err := suit.Annotate(built(t, suit.Builder{Manifest: m}).Encode())
		if err != nil {
			t.Fatal(err)
		}
		shown := strings.Count(s, "ä")
		if shown < 500 || shown > 512 || strings.Contains(s, long) != whole || strings.Contains(s, fmt.Sprintf(`"... / %d bytes of text /`, size)) == whole || !utf8.ValidString(s) {
			t.Errorf("of %d bytes, %d letters are shown", size, shown)
		}
	}
}
