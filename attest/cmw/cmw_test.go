package cmw_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/cmw"
	"github.com/go-teep/teep/cose"
)

// TestTagNumber holds the transform of RFC 9277 Appendix B at its borders.
func TestTagNumber(t *testing.T) {
	for format, want := range map[uint16]uint64{0: 1668546817, 1: 1668546818, 254: 1668547071, 255: 1668547073, 65024: 1668612095} {
		if got, ok := cmw.TagNumber(format); !ok || got != want {
			t.Errorf("%d: %d, %v; want %d", format, got, ok, want)
		}
	}
	for _, format := range []uint16{65025, 65535} {
		if got, ok := cmw.TagNumber(format); ok {
			t.Errorf("%d has tag %d", format, got)
		}
	}
}

func messages() map[string]cmw.Message {
	record := &cmw.Record{MediaType: "application/example", Value: []byte{1, 2}, Indicator: cmw.Evidence}
	return map[string]cmw.Message{
		"record":         {Record: record},
		"no indicator":   {Record: &cmw.Record{MediaType: "application/example", Value: []byte{}}},
		"content format": {Record: &cmw.Record{ContentFormat: 263, Value: []byte{0xa0}}},
		"tag":            {Record: &cmw.Record{ContentFormat: 30001, Value: []byte{0xa0}, Tagged: true}},
		"collection": {Collection: &cmw.Collection{Type: "tag:example.com,2026:x", Members: map[string]cmw.Message{
			"a": {Record: record},
			"b": {Collection: &cmw.Collection{Members: map[string]cmw.Message{"c": {Record: record}}}},
		}}},
	}
}

func TestRoundTrip(t *testing.T) {
	for name, m := range messages() {
		data, err := m.Encode()
		if err != nil {
			t.Fatal(name, err)
		}
		back, err := cmw.Parse(data)
		if err != nil || !reflect.DeepEqual(back, m) {
			t.Errorf("%s: %+v, %v", name, back, err)
		}
		for n := range data {
			if _, err := cmw.Parse(data[:n]); !errors.Is(err, attest.ErrFormat) {
				t.Errorf("%s cut to %d bytes: %v", name, n, err)
			}
		}
		if _, err := cmw.Parse(append(bytes.Clone(data), 0)); !errors.Is(err, attest.ErrFormat) {
			t.Errorf("%s with a byte after it: %v", name, err)
		}
	}
}

// TestWireForms reads forms written by hand from the CDDL.
func TestWireForms(t *testing.T) {
	for text, typ := range map[string]string{
		"82" + "190107" + "41a0":                   "application/eat+cwt",
		"83" + "63612f62" + "41a0" + "04":          "a/b",
		"da63740209" + "41a0":                      "application/eat+cwt", // 263 = 255 + 8
		"a1" + "6161" + "82" + "63612f62" + "41a0": "",
		"82" + "197531" + "41a0":                   "",
	} {
		data, _ := hex.DecodeString(text)
		m, err := cmw.Parse(data)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if m.Record != nil && m.Record.Type() != typ {
			t.Errorf("%s is %q", text, m.Record.Type())
		}
	}
}

func TestRefused(t *testing.T) {
	deep := "82" + "63612f62" + "41a0"
	for range cmw.MaxDepth + 1 {
		deep = "a1" + "6161" + deep
	}
	for name, text := range map[string]string{
		"empty":                  "",
		"integer":                "00",
		"JSON record":            hex.EncodeToString([]byte(`["application/x","AA"]`)),
		"one member":             "81" + "63612f62",
		"four members":           "84" + "63612f62" + "41a0" + "04" + "04",
		"no type":                "82" + "60" + "41a0",
		"type is bytes":          "82" + "4161" + "41a0",
		"Content-Format too big": "82" + "1a00010000" + "41a0",
		"negative format":        "82" + "20" + "41a0",
		"value is text":          "82" + "63612f62" + "6161",
		"indicator zero":         "83" + "63612f62" + "41a0" + "00",
		"indicator 33 bits":      "83" + "63612f62" + "41a0" + "1b0000000100000000",
		"indicator negative":     "83" + "63612f62" + "41a0" + "20",
		"indicator float":        "83" + "63612f62" + "41a0" + "f93c00",
		"indefinite record":      "9f" + "63612f62" + "41a0" + "ff",
		"tag of none":            "c1" + "41a0",
		"tag in the gap":         "da63740200" + "41a0", // d&0xff == 255
		"tag above":              "da63750000" + "41a0",
		"tag around a map":       "da63740101" + "a0",
		"empty collection":       "a0",
		"only a type":            "a1" + "685f5f636d77635f74" + "63783a79",
		"type is a record":       "a2" + "685f5f636d77635f74" + "82" + "63612f62" + "41a0" + "6161" + "82" + "63612f62" + "41a0",
		"label is bytes":         "a1" + "4161" + "82" + "63612f62" + "41a0",
		"label twice":            "a2" + "6161" + "82" + "63612f62" + "41a0" + "6161" + "82" + "63612f62" + "41a0",
		"too deep":               deep,
		"member is text":         "a1" + "6161" + "6161",
	} {
		data, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(name, err)
		}
		if m, err := cmw.Parse(data); !errors.Is(err, attest.ErrFormat) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	if _, err := cmw.Parse(make([]byte, cmw.MaxBytes+1)); !errors.Is(err, attest.ErrFormat) {
		t.Error(err)
	}
}

func TestEncodeRefuses(t *testing.T) {
	one := cmw.Message{Record: &cmw.Record{ContentFormat: 1}}
	for name, m := range map[string]cmw.Message{
		"nothing":           {},
		"both":              {Record: one.Record, Collection: &cmw.Collection{Members: map[string]cmw.Message{"a": one}}},
		"tag with a type":   {Record: &cmw.Record{MediaType: "a/b", Tagged: true}},
		"tag out of range":  {Record: &cmw.Record{ContentFormat: 65025, Tagged: true}},
		"tag that says":     {Record: &cmw.Record{ContentFormat: 1, Tagged: true, Indicator: cmw.Evidence}},
		"empty collection":  {Collection: &cmw.Collection{}},
		"reserved label":    {Collection: &cmw.Collection{Members: map[string]cmw.Message{"__cmwc_t": one}}},
		"empty label":       {Collection: &cmw.Collection{Members: map[string]cmw.Message{"": one}}},
		"member of nothing": {Collection: &cmw.Collection{Members: map[string]cmw.Message{"a": {}}}},
		"long type":         {Record: &cmw.Record{MediaType: strings.Repeat("a", cmw.MaxTypeBytes+1)}},
		"too large":         {Record: &cmw.Record{ContentFormat: 1, Value: make([]byte, cmw.MaxBytes)}},
	} {
		if data, err := m.Encode(); err == nil {
			t.Errorf("%s: %x", name, data)
		}
	}
}

// recorder accepts one media type and notes what it was given.
type recorder struct {
	accepts string
	got     attest.Evidence
}

func (r *recorder) Accepts(mediaType string) bool { return mediaType == r.accepts }

func (r *recorder) Appraise(_ context.Context, e attest.Evidence, _ attest.Expectation) (*attest.Result, error) {
	r.got = e
	return &attest.Result{Status: attest.StatusWarning}, nil
}

func (r *recorder) Peek(e attest.Evidence) ([]byte, *cose.Key, error) {
	r.got = e
	return []byte("n"), nil, nil
}

func TestVerifierDispatches(t *testing.T) {
	ctx := context.Background()
	a := &recorder{accepts: "application/a"}
	b := &recorder{accepts: "application/eat+cwt"}
	c := &recorder{accepts: cmw.CollectionMediaType("tag:example.com,2026:x")}
	v := cmw.NewVerifier(a, b, c)
	encode := func(m cmw.Message) attest.Evidence {
		data, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return attest.Evidence{MediaType: cmw.MediaType, Payload: data}
	}
	wrapped, err := cmw.Wrap(attest.Evidence{MediaType: "application/a", Payload: []byte("1")})
	if err != nil {
		t.Fatal(err)
	}
	collection := encode(messages()["collection"])
	for _, c := range []struct {
		e    attest.Evidence
		to   *recorder
		want []byte
	}{
		{wrapped, a, []byte("1")},
		{attest.Evidence{MediaType: "application/a", Payload: []byte("2")}, a, []byte("2")},
		{encode(messages()["content format"]), b, []byte{0xa0}},
		{encode(cmw.Message{Record: &cmw.Record{ContentFormat: 263, Value: []byte("3"), Tagged: true}}), b, []byte("3")},
		{collection, c, collection.Payload},
		{attest.Evidence{MediaType: c.accepts, Payload: collection.Payload}, c, collection.Payload},
	} {
		if !v.Accepts(c.e.MediaType) {
			t.Errorf("%s is not accepted", c.e.MediaType)
		}
		if _, err := v.Appraise(ctx, c.e, attest.Expectation{}); err != nil || !bytes.Equal(c.to.got.Payload, c.want) {
			t.Errorf("%+v: %+v, %v", c.e, c.to.got, err)
		}
		c.to.got = attest.Evidence{}
		if _, _, err := v.Peek(c.e); err != nil || !bytes.Equal(c.to.got.Payload, c.want) {
			t.Errorf("peek %+v: %+v, %v", c.e, c.to.got, err)
		}
	}
	twice, err := cmw.Record{MediaType: cmw.MediaType, Value: wrapped.Payload}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		e    attest.Evidence
		want error
	}{
		"unknown inside":         {encode(messages()["record"]), attest.ErrUnknownType},
		"unknown Content-Format": {encode(messages()["tag"]), attest.ErrUnknownType},
		"unknown type":           {attest.Evidence{MediaType: "application/b"}, attest.ErrUnknownType},
		"a result":               {encode(cmw.Message{Record: &cmw.Record{MediaType: "application/a", Indicator: cmw.AttestationResults}}), attest.ErrFormat},
		"no collection type":     {encode(cmw.Message{Collection: &cmw.Collection{Members: map[string]cmw.Message{"a": messages()["record"]}}}), attest.ErrFormat},
		"record in a record":     {attest.Evidence{MediaType: cmw.MediaType, Payload: twice}, attest.ErrFormat},
		"not CBOR":               {attest.Evidence{MediaType: cmw.MediaType, Payload: []byte{0xff}}, attest.ErrFormat},
	} {
		if r, err := v.Appraise(ctx, c.e, attest.Expectation{}); !errors.Is(err, c.want) || r != nil {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
	if v.Accepts("application/cmw+json") || v.Accepts("") {
		t.Error("accepts what it cannot open")
	}
}

// FuzzParseStable: a wrapper that parses encodes, and stays the same.
func FuzzParseStable(f *testing.F) {
	for _, m := range messages() {
		data, err := m.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := cmw.Parse(data)
		if err != nil {
			if !errors.Is(err, attest.ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		again, err := m.Encode()
		if err != nil {
			t.Fatalf("%x parsed and does not encode: %v", data, err)
		}
		back, err := cmw.Parse(again)
		if err != nil || !reflect.DeepEqual(back, m) {
			t.Fatalf("%x became %x: %v", data, again, err)
		}
	})
}
