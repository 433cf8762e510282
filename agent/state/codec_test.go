package state_test

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/go-teep/teep/agent/state"
	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/suit"
)

// full is a record in which every member is set.
func full() *state.Record {
	hello, manifest := suit.NewComponentID("hello"), suit.NewComponentID("hello", "manifest")
	digest := suit.NewDigest([]byte("manifest"))
	content := &state.Content{SHA256: [32]byte{1, 2, 3}, Size: 77}
	at := time.Unix(1_780_000_000, 0)
	r := state.New([]byte{0xa0})
	r.Components[hello.Key()] = state.Component{ID: hello, Owner: "one", Content: content, Parameters: []byte{0xa1, 0x0e, 0x18, 0x4d}}
	r.Manifests[manifest.Key()] = state.Manifest{
		ID: manifest, Owner: "one", Sequence: 4, Envelope: []byte{0xa0}, Digest: digest, Signer: []byte{9}, Root: true,
		Dependents: []suit.ComponentID{suit.NewComponentID("top")}, Components: []suit.ComponentID{hello},
		Dependencies: []state.Dependency{{Component: suit.NewComponentID("c"), ID: suit.NewComponentID("d"), Digest: digest}},
		Prefix:       suit.NewComponentID("p"),
	}
	r.Sequences[manifest.Key()] = state.Sequence{ID: manifest, Highest: 5, Digest: digest}
	wanted := suit.NewComponentID("wanted")
	r.Requested[wanted.Key()] = state.Request{ID: wanted, TAM: "two", MinSequence: 3, Binary: &state.Content{SHA256: [32]byte{7}, Size: 9}}
	r.Unneeded[hello.Key()] = hello
	r.Leaving[wanted.Key()] = wanted
	r.Pending = &state.Pending{Message: *content, TAM: "one", Since: at, Attempts: 2}
	r.TAMs["one"] = state.TAM{
		Name: "one", LastContact: at, Failed: true, Failures: 3, NotBefore: at, Reply: []byte{1},
		Query:    &state.Query{DataItems: 15, Profile: [4]int64{-16, -9, -29, 1}, Key: []byte{2}, Anonymous: true, KeyExpires: at, Timestamps: true, Formats: []string{"a/b"}},
		Passport: &state.Passport{Format: "f", Result: []byte{3}, Received: at},
		Updates:  [][]byte{make([]byte, 16)},
	}
	r.Revocations, r.RevocationIssuers = [][]byte{{0x30, 0x00}}, [][]byte{{0x30, 0x01}}
	return r
}

func TestRoundTrip(t *testing.T) {
	for name, r := range map[string]*state.Record{"empty": state.New([]byte{}), "full": full()} {
		data, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := state.Decode(data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(r, again) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, again, r)
		}
	}
}

// TestEveryMemberIsSet: a member that a round trip forgets would be lost at the next start.
func TestEveryMemberIsSet(t *testing.T) {
	var check func(path string, v reflect.Value)
	check = func(path string, v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			if !v.IsNil() {
				check(path, v.Elem())
				return
			}
		case reflect.Map:
			for _, k := range v.MapKeys() {
				check(path+"[]", v.MapIndex(k))
			}
		case reflect.Struct:
			if v.Type() == reflect.TypeFor[time.Time]() {
				break
			}
			for i := range v.NumField() {
				if f := v.Type().Field(i); f.IsExported() {
					check(path+"."+f.Name, v.Field(i))
				}
			}
		}
		if v.IsZero() || v.Kind() == reflect.Map && v.Len() == 0 {
			t.Errorf("%s is not set: the round trip does not test it", path)
		}
	}
	check("record", reflect.ValueOf(full()))
}

func TestDecodeRefuses(t *testing.T) {
	data, err := full().Encode()
	if err != nil {
		t.Fatal(err)
	}
	edit := func(f func(m map[int64]cbor.RawMessage)) []byte {
		m := map[int64]cbor.RawMessage{}
		if err := cbor.Unmarshal(data, &m); err != nil {
			t.Fatal(err)
		}
		f(m)
		out, err := cbor.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for name, bad := range map[string][]byte{
		"nothing":        {},
		"no map":         {0x80},
		"trailing bytes": append(bytes.Clone(data), 0),
		"truncated":      data[:len(data)-1],
		"unknown member": edit(func(m map[int64]cbor.RawMessage) { m[99] = cbor.RawMessage{0} }),
		"no anchors":     edit(func(m map[int64]cbor.RawMessage) { delete(m, 2) }),
		"short digest":   edit(func(m map[int64]cbor.RawMessage) { m[9] = cbor.RawMessage{0xa3, 1, 0x82, 0x41, 0, 1, 2, 0x60, 3, 1} }),
		"component twice": edit(func(m map[int64]cbor.RawMessage) {
			one := bytes.Clone(m[3][1:])
			m[3] = append(append(cbor.RawMessage{0x82}, one...), one...)
		}),
		"empty list": edit(func(m map[int64]cbor.RawMessage) { m[3] = cbor.RawMessage{0x80} }),
	} {
		if _, err := state.Decode(bad); !errors.Is(err, state.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	newer := edit(func(m map[int64]cbor.RawMessage) { m[1] = cbor.RawMessage{2} })
	if _, err := state.Decode(newer); !errors.Is(err, state.ErrVersion) {
		t.Errorf("a newer version: %v", err)
	}
}

func TestCloneIsIndependent(t *testing.T) {
	r := full()
	c := r.Clone()
	clear(c.Components)
	clear(c.TAMs)
	c.Pending.Attempts = 99
	if !reflect.DeepEqual(r, full()) {
		t.Error("editing a clone changes the record")
	}
}

func TestInstallerOfASharedComponent(t *testing.T) {
	r := full()
	hello := suit.NewComponentID("hello")
	top := suit.NewComponentID("top")
	r.Manifests[top.Key()] = state.Manifest{ID: top, Components: []suit.ComponentID{hello}}
	if m, ok := r.Installer(hello); !ok || !m.ID.Equal(suit.NewComponentID("hello", "manifest")) {
		t.Errorf("got %v", m.ID)
	}
}

// FuzzRecord: what is accepted encodes back to the same bytes.
func FuzzRecord(f *testing.F) {
	for _, r := range []*state.Record{state.New([]byte{}), full()} {
		data, err := r.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := state.Decode(data)
		if err != nil {
			return
		}
		again, err := r.Encode()
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("%x encodes to %x, %v", data, again, err)
		}
		r.Blobs()
		for _, c := range r.Components {
			r.Installer(c.ID)
		}
	})
}
