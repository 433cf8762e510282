package tam_test

import (
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
)

// release describes an envelope to build.
type release struct {
	name         string // component acme/<name>, manifest acme/<name>/suit
	sequence     uint64
	payload      string
	dependencies []string
	by           *cose.Key // signer; the publisher acme by default
	chain        [][]byte  // its certificates, if it shows some
	change       func(*suit.Builder)
}

func manifestID(name string) suit.ComponentID { return suit.NewComponentID("acme", name, "suit") }

func componentID(name string) suit.ComponentID { return suit.NewComponentID("acme", name) }

// forClass begins a shared sequence as devices want it: with what the manifest is for.
func forClass(p suit.Parameters) suit.Sequence {
	vendor := suit.VendorID{UUID: suit.NewVendorID("example.com")}
	p.SetVendorID(vendor)
	p.SetClassID(suit.NewClassID(vendor, []byte("class")))
	return suit.Sequence{suit.SetComponentIndex(0), suit.OverrideParameters(p),
		suit.Condition(suit.CondVendorIdentifier, suit.ReportAll), suit.Condition(suit.CondClassIdentifier, suit.ReportAll)}
}

func (w *world) envelope(r release) []byte {
	w.t.Helper()
	var shared, install suit.Parameters
	shared.SetDigest(suit.NewDigest([]byte(r.payload)))
	shared.SetSize(uint64(len(r.payload)))
	install.SetURI("#payload")
	b := suit.Builder{Integrated: map[string][]byte{"#payload": []byte(r.payload)}}
	m := &b.Manifest
	m.SequenceNumber = r.sequence
	m.ComponentID = manifestID(r.name)
	m.Common.Components = []suit.ComponentID{componentID(r.name)}
	for i, d := range r.dependencies {
		m.Common.Components = append(m.Common.Components, manifestID(d))
		m.Common.Dependencies = append(m.Common.Dependencies, suit.Dependency{Index: uint64(i + 1)})
	}
	m.Common.SharedSequence.Commands = forClass(shared)
	m.Install.Commands = suit.Sequence{
		suit.SetComponentIndex(0), suit.OverrideParameters(install),
		suit.Directive(suit.DirFetch, suit.ReportAll), suit.Condition(suit.CondImageMatch, suit.ReportAll),
	}
	if r.change != nil {
		r.change(&b)
	}
	e, err := b.Build()
	must(w.t, err)
	if r.by == nil {
		r.by = w.author
	}
	by := signer(w.t, r.by)
	if r.chain != nil {
		by, err = cose.NewCertified(by, r.chain)
		must(w.t, err)
	}
	must(w.t, e.Sign(rand.Reader, by))
	return e.Encode()
}

func (w *world) publish(r release) *tam.Version {
	w.t.Helper()
	v, err := w.tam.Publish(ctx(), w.envelope(r), "")
	must(w.t, err)
	return v
}

func TestPublishDescribes(t *testing.T) {
	w := newWorld(t)
	v := w.publish(release{name: "app", sequence: 7, payload: "code", dependencies: []string{"runtime"}})
	if !v.Manifest.Equal(manifestID("app")) || v.Sequence != 7 || v.Publisher != "acme" ||
		len(v.Components) != 1 || !v.Components[0].ID.Equal(componentID("app")) || v.Components[0].Size != 4 ||
		string(v.Components[0].Digest) != string(suit.NewDigest([]byte("code")).Bytes) ||
		len(v.Dependencies) != 1 || !v.Dependencies[0].Equal(manifestID("runtime")) {
		t.Fatalf("described as %+v", v)
	}
}

func TestPublishRefuses(t *testing.T) {
	w := newWorld(t)
	w.publish(release{name: "app", sequence: 5, payload: "five"})
	revoked := key(t, cose.AlgEd25519)
	_, err := w.tam.AddPublisher(ctx(), "gone", []*cose.Key{revoked.Public()}, []suit.ComponentID{suit.NewComponentID("acme")})
	must(t, err)
	must(t, w.store.RevokePublisher(ctx(), "gone", w.clock.read()))
	good := w.envelope(release{name: "app", sequence: 6, payload: "six"})

	for _, test := range []struct {
		name     string
		envelope []byte
		as       string
		want     error
		says     string
	}{
		{"empty", nil, "", tam.ErrEnvelope, ""},
		{"garbage", []byte("not an envelope"), "", tam.ErrEnvelope, ""},
		{"truncated", good[:len(good)-1], "", tam.ErrEnvelope, ""},
		{"followed by more", append(append([]byte{}, good...), 0), "", tam.ErrEnvelope, ""},
		{"unknown signer", w.envelope(release{name: "app", sequence: 6, payload: "six", by: key(t, cose.AlgESP256)}), "",
			tam.ErrUnknownSigner, "register the key"},
		{"revoked signer", w.envelope(release{name: "app", sequence: 6, payload: "six", by: revoked}), "", tam.ErrUnknownSigner, ""},
		{"not signed", unsigned(t, good), "", tam.ErrUnknownSigner, ""},
		{"same sequence number", w.envelope(release{name: "app", sequence: 5, payload: "other"}), "",
			tam.ErrSequence, "the newest published is 5"},
		{"lower sequence number", w.envelope(release{name: "app", sequence: 4, payload: "four"}), "", tam.ErrSequence, "higher"},
		{"tampered payload", replace(t, good, "#payload", "sIx"), "", tam.ErrTampered, "does not match"},
		{"payload that nothing uses", add(t, good, "#more", "x"), "", tam.ErrEnvelope, "not used"},
		{"tampered manifest", flip(good, "acme"), "", tam.ErrTampered, ""},
		{"manifest outside of the prefixes", w.envelope(release{name: "app", sequence: 6, payload: "six", change: func(b *suit.Builder) {
			b.Manifest.ComponentID = suit.NewComponentID("other", "suit")
		}}), "", tam.ErrPrefix, "manifest 'other'/'suit'"},
		{"component outside of the prefixes", w.envelope(release{name: "app", sequence: 6, payload: "six", change: func(b *suit.Builder) {
			b.Manifest.Common.Components = []suit.ComponentID{suit.NewComponentID("acme2")}
		}}), "", tam.ErrPrefix, "component 'acme2'"},
		{"payload without a digest", w.envelope(release{name: "app", sequence: 6, payload: "six", change: func(b *suit.Builder) {
			b.Manifest.Common.SharedSequence.Commands = forClass(suit.Parameters{})
		}}), "", tam.ErrEnvelope, "no image digest"},
		{"another publisher's token", good, "somebody", tam.ErrNotYourSigner, "acme"},
	} {
		t.Run(test.name, func(t *testing.T) {
			v, err := w.tam.Publish(ctx(), test.envelope, test.as)
			if !errors.Is(err, test.want) {
				t.Fatalf("got %+v, %v; want %v", v, err, test.want)
			}
			if !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %q does not say %q", err, test.says)
			}
		})
	}
	list, err := w.store.ListVersions(ctx(), tam.VersionCursor{}, 10)
	must(t, err)
	if len(list) != 1 {
		t.Fatalf("%d versions stored, want the first alone", len(list))
	}
	if _, err := w.tam.Publish(ctx(), good, "acme"); err != nil {
		t.Fatalf("the good one is refused after all: %v", err)
	}
}

func unsigned(t *testing.T, data []byte) []byte {
	t.Helper()
	e, err := suit.ParseEnvelope(data)
	must(t, err)
	e.AuthBlocks = nil
	return e.Encode()
}

func replace(t *testing.T, data []byte, uri, payload string) []byte {
	t.Helper()
	e, err := suit.ParseEnvelope(data)
	must(t, err)
	e.RemoveIntegrated(uri)
	must(t, e.AddIntegrated(uri, []byte(payload)))
	return e.Encode()
}

func add(t *testing.T, data []byte, uri, payload string) []byte {
	t.Helper()
	e, err := suit.ParseEnvelope(data)
	must(t, err)
	must(t, e.AddIntegrated(uri, []byte(payload)))
	return e.Encode()
}

// flip changes one bit in the first occurrence of text.
func flip(data []byte, text string) []byte {
	changed := append([]byte{}, data...)
	changed[strings.Index(string(data), text)] ^= 1
	return changed
}

func TestAddPublisherRefuses(t *testing.T) {
	w := newWorld(t)
	prefix := []suit.ComponentID{suit.NewComponentID("x")}
	keys := []*cose.Key{key(t, cose.AlgESP256)}
	for name, test := range map[string]struct {
		name     string
		keys     []*cose.Key
		prefixes []suit.ComponentID
		want     error
	}{
		"no name":         {"", keys, prefix, tam.ErrPublisher},
		"long name":       {strings.Repeat("x", 65), keys, prefix, tam.ErrPublisher},
		"no key":          {"p", nil, prefix, tam.ErrPublisher},
		"no prefix":       {"p", keys, nil, tam.ErrPublisher},
		"encryption key":  {"p", []*cose.Key{cose.NewSymmetricKey(make([]byte, 16))}, prefix, tam.ErrPublisher},
		"taken name":      {"acme", keys, prefix, tam.ErrExists},
		"another's key":   {"p", []*cose.Key{w.author}, prefix, tam.ErrExists},
		"another's, too":  {"p", append(keys, w.author), prefix, tam.ErrExists},
		"the same, twice": {"p", append(keys, keys...), prefix, tam.ErrExists},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := w.tam.AddPublisher(ctx(), test.name, test.keys, test.prefixes); !errors.Is(err, test.want) {
				t.Fatalf("got %v, want %v", err, test.want)
			}
		})
	}
}
