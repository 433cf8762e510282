package suit_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/suit"
)

// The helpers below write manifests by hand, so that what no builder makes can be parsed.

type dict map[any]any

func enc(t testing.TB, v any) []byte {
	t.Helper()
	data, err := cbor.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func seq(elements ...any) []any { return append([]any{}, elements...) }

func validManifest(t testing.TB) dict {
	return dict{1: 1, 2: 3, 3: enc(t, dict{2: []any{[]any{[]byte("a")}}})}
}

func manifestWith(t testing.TB, change func(dict)) []byte {
	t.Helper()
	m := validManifest(t)
	change(m)
	return enc(t, map[any]any(m))
}

// install is a manifest with an install section.
func install(t testing.TB, commands ...any) []byte {
	return manifestWith(t, func(m dict) { m[20] = enc(t, seq(commands...)) })
}

func shared(t testing.TB, commands ...any) []byte {
	return manifestWith(t, func(m dict) {
		m[3] = enc(t, dict{2: []any{[]any{[]byte("a")}}, 4: enc(t, seq(commands...))})
	})
}

func common(t testing.TB, c dict) []byte {
	return manifestWith(t, func(m dict) { m[3] = enc(t, c) })
}

func params(t testing.TB, label int, value any) []byte {
	return install(t, 20, dict{label: value})
}

var (
	goodDigest = []any{-16, bytes.Repeat([]byte{7}, 32)}
	goodUUID   = bytes.Repeat([]byte{9}, 16)
)

func TestManifestIsStrict(t *testing.T) {
	type bad struct {
		name   string
		data   []byte
		want   string // in the error
		reason suit.Reason
	}
	nested := enc(t, seq(3, 15))
	for range suit.MaxSequenceDepth {
		nested = enc(t, seq(32, nested))
	}
	many := make([]any, suit.MaxComponents+1)
	for i := range many {
		many[i] = []any{}
	}
	const (
		parse     = suit.ReasonCBORParse
		command   = suit.ReasonCommandUnsupported
		parameter = suit.ReasonParameterUnsupported
		component = suit.ReasonComponentUnsupported
	)
	for _, tc := range []bad{
		{"not a map", enc(t, 5), "manifest: wrong type", parse},
		{"empty", nil, "manifest", parse},
		{"version 2", manifestWith(t, func(m dict) { m[1] = 2 }), "manifest-version", parse},
		{"version 0", manifestWith(t, func(m dict) { m[1] = 0 }), "manifest-version", parse},
		{"version as text", manifestWith(t, func(m dict) { m[1] = "1" }), "manifest-version", parse},
		{"no version", manifestWith(t, func(m dict) { delete(m, 1) }), "manifest-version: is missing", parse},
		{"no sequence number", manifestWith(t, func(m dict) { delete(m, 2) }), "manifest-sequence-number: is missing", parse},
		{"no common", manifestWith(t, func(m dict) { delete(m, 3) }), "common: is missing", parse},
		{"negative sequence number", manifestWith(t, func(m dict) { m[2] = -1 }), "manifest-sequence-number", parse},
		{"common not wrapped", manifestWith(t, func(m dict) { m[3] = dict{} }), "common", parse},
		{"reference URI as bytes", manifestWith(t, func(m dict) { m[4] = []byte("u") }), "reference-uri", parse},
		{"component id as text", manifestWith(t, func(m dict) { m[5] = "x" }), "manifest-component-id", parse},
		{"empty set-version", manifestWith(t, func(m dict) { m[6] = enc(t, []int{}) }), "set-version", parse},
		{"pre-release first", manifestWith(t, func(m dict) { m[6] = enc(t, []int{-1}) }), "set-version", parse},
		{"unknown member", manifestWith(t, func(m dict) { m[30] = 1 }), "unknown(30)", parse},
		{"custom member", manifestWith(t, func(m dict) { m[-300] = 1 }), "custom(-300)", parse},
		{"text key", manifestWith(t, func(m dict) { m["a"] = 1 }), "manifest", parse},
		{"validate severed", manifestWith(t, func(m dict) { m[7] = goodDigest }), "validate", parse},
		{"uninstall severed", manifestWith(t, func(m dict) { m[24] = goodDigest }), "uninstall", parse},
		{"digest too short", manifestWith(t, func(m dict) { m[20] = []any{-16, []byte{1}} }), "install: digest has 1 bytes", parse},
		{"digest by shake", manifestWith(t, func(m dict) { m[20] = []any{-18, goodUUID} }), "install", suit.ReasonAlgUnsupported},
		{"digest extended", manifestWith(t, func(m dict) { m[20] = append(seq(goodDigest...), 1) }), "install", parse},
		{"coswid not CBOR", manifestWith(t, func(m dict) { m[14] = []byte{0xff} }), "coswid", parse},
		{"coswid with duplicate keys", manifestWith(t, func(m dict) { m[14] = []byte{0xa2, 1, 1, 1, 1} }), "coswid", parse},
		{"section empty", install(t), "install: is empty", parse},
		{"section odd", install(t, 3), "install: has an odd number", parse},
		{"section not wrapped", manifestWith(t, func(m dict) { m[7] = seq(3, 15) }), "validate", parse},
		{"trailing in section", manifestWith(t, func(m dict) { m[7] = append(enc(t, seq(3, 15)), 0) }), "validate: bytes follow", parse},

		{"no components list elements", common(t, dict{2: []any{}}), "common: components: is empty", parse},
		{"component is bytes", common(t, dict{2: []any{[]byte("a")}}), "components[0]", parse},
		{"too many components", common(t, dict{2: many}), "components: has 4097", component},
		{"unknown common member", common(t, dict{3: 1}), "common: key 3", parse},
		{"no dependencies", common(t, dict{1: dict{}}), "dependencies: is empty", parse},
		{"dependency metadata unknown", common(t, dict{1: dict{0: dict{2: 1}}}), "dependencies[0]", parse},
		{"dependency index negative", common(t, dict{1: dict{-1: dict{}}}), "dependencies", parse},
		{"dependency index too large", common(t, dict{1: dict{100000: dict{}}}), "dependencies", component},
		{"dependencies unsorted", common(t, dict{1: cbor.RawMessage{0xa2, 1, 0xa0, 0, 0xa0}}), "ascend", parse},

		{"unknown command", install(t, 99, 0), "install[0]: unknown(99)", command},
		{"command 0", install(t, 0, 0), "install[0]", command},
		{"unassigned negative command", install(t, -10, 0), "install[0]", command},
		{"command as text", install(t, "x", 0), "install[0]", parse},
		{"second command", install(t, 3, 15, 21, "x"), "install[1]: directive-fetch", parse},
		{"policy negative", install(t, 3, -1), "install[0]: condition-image-match", parse},
		{"policy with more bits", install(t, 3, 16), "install[0]: condition-image-match", parse},
		{"index negative", install(t, 12, -1), "set-component-index", parse},
		{"index false", install(t, 12, false), "set-component-index", parse},
		{"index list empty", install(t, 12, []any{}), "set-component-index", parse},
		{"index list with true", install(t, 12, []any{true}), "set-component-index", parse},
		{"no parameters", install(t, 20, dict{}), "override-parameters: is empty", parse},
		{"no set parameters", install(t, 19, dict{}), "set-parameters: is empty", parse},
		{"unknown parameter", install(t, 20, dict{99: 1}), "override-parameters: parameter unknown(99)", parameter},
		{"try-each alone", install(t, 15, []any{enc(t, seq(3, 15))}), "try-each", parse},
		{"try-each nil first", install(t, 15, []any{nil, enc(t, seq(3, 15))}), "try-each: sequence 0", parse},
		{"try-each inside", install(t, 15, []any{enc(t, seq(3, 15)), enc(t, seq(3, 99))}), "try-each: sequence 1[0]: condition-image-match", parse},
		{"run-sequence not wrapped", install(t, 32, seq(3, 15)), "run-sequence", parse},
		{"too deep", manifestWith(t, func(m dict) { m[20] = nested }), "nest deeper", parse},
		{"override-multiple empty", install(t, 34, dict{}), "override-multiple", parse},
		{"override-multiple no parameters", install(t, 34, dict{0: dict{}}), "override-multiple: component 0", parse},
		{"override-multiple unsorted", install(t, 34, cbor.RawMessage{0xa2, 1, 0xa1, 14, 1, 0, 0xa1, 14, 1}), "ascend", parse},
		{"copy-params empty list", install(t, 35, dict{0: []any{}}), "copy-params", parse},
		{"custom with a map", install(t, -300, dict{}), "custom(-300)", parse},
		{"custom with true", install(t, -300, true), "custom(-300)", parse},

		{"shared fetch", shared(t, 21, 2), "common: shared-sequence[0]: directive-fetch: is not allowed", command},
		{"shared copy", shared(t, 22, 2), "shared-sequence", command},
		{"shared invoke", shared(t, 23, 2), "shared-sequence", command},
		{"shared write", shared(t, 18, 2), "shared-sequence", command},
		{"shared process-dependency", shared(t, 11, 2), "shared-sequence", command},
		{"shared custom", shared(t, -300, nil), "shared-sequence", command},
		{"shared custom parameter", shared(t, 20, dict{-300: 1}), "shared-sequence", parameter},
		{"shared fetch nested", shared(t, 32, enc(t, seq(21, 2))), "shared-sequence[0]: directive-run-sequence[0]", command},

		{"vendor short", params(t, 1, []byte{1}), "vendor-identifier", parse},
		{"vendor wrong tag", params(t, 1, cbor.Tag{Number: 37, Content: goodUUID}), "vendor-identifier", parse},
		{"vendor empty PEN", params(t, 1, cbor.Tag{Number: 112, Content: []byte{}}), "vendor-identifier", parse},
		{"vendor PEN of two arcs", params(t, 1, cbor.Tag{Number: 112, Content: []byte{1, 2}}), "vendor-identifier", parse},
		{"class as text", params(t, 2, "class"), "class-identifier", parse},
		{"device long", params(t, 24, append([]byte{1}, goodUUID...)), "device-identifier", parse},
		{"image digest not wrapped", params(t, 3, goodDigest), "image-digest", parse},
		{"image digest trailing", params(t, 3, append(enc(t, goodDigest), 0)), "image-digest", parse},
		{"size negative", params(t, 14, -1), "image-size", parse},
		{"slot as text", params(t, 5, "0"), "component-slot", parse},
		{"strict order as number", params(t, 12, 1), "strict-order", parse},
		{"soft failure null", params(t, 13, nil), "soft-failure", parse},
		{"content as text", params(t, 18, "x"), "content", parse},
		{"encryption info untagged", params(t, 19, enc(t, []any{[]byte{}, dict{}, nil, []any{}})), "encryption-info", parse},
		{"encryption info other tag", params(t, 19, enc(t, cbor.Tag{Number: 16, Content: []any{[]byte{}, dict{}, nil, []any{}}})), "encryption-info", parse},
		{"encryption info short", params(t, 19, enc(t, cbor.Tag{Number: 96, Content: []any{[]byte{}}})), "encryption-info", parse},
		{"URI as bytes", params(t, 21, []byte("u")), "uri", parse},
		{"source as list", params(t, 22, []int{1}), "source-component", parse},
		{"invoke args as text", params(t, 23, "x"), "invoke-args", parse},
		{"fetch arguments as map", params(t, 25, dict{}), "fetch-arguments", parse},
		{"use-before negative", params(t, 4, -1), "use-before", parse},
		{"battery as float", params(t, 26, 1.5), "minimum-battery", parse},
		{"priority as text", params(t, 27, "high"), "update-priority", parse},
		{"version comparison 6", params(t, 28, enc(t, []any{6, []int{1}})), "version", parse},
		{"version comparison 0", params(t, 28, enc(t, []any{0, []int{1}})), "version", parse},
		{"version empty", params(t, 28, enc(t, []any{1, []int{}})), "version", parse},
		{"wait for nothing", params(t, 29, enc(t, dict{})), "wait-info", parse},
		{"wait for unknown", params(t, 29, enc(t, dict{10: 1})), "wait-info", parameter},
		{"wait day 7", params(t, 29, enc(t, dict{7: 7})), "wait-info", parse},
		{"wait hour 24", params(t, 29, enc(t, dict{8: 86400})), "wait-info", parse},
		{"wait no versions", params(t, 29, enc(t, dict{4: []any{[]byte{1}, []any{}}})), "wait-info", parse},
		{"metadata file type 4", params(t, 30, enc(t, dict{5: 4})), "component-metadata", parse},
		{"metadata time untagged", params(t, 30, enc(t, dict{6: 5})), "component-metadata", parse},
		{"metadata no actors", params(t, 30, enc(t, dict{2: dict{}})), "component-metadata", parse},
		{"metadata actor with a line end", params(t, 30, enc(t, dict{2: dict{"a\nb": 1}})), "component-metadata", parse},
		{"metadata unknown", params(t, 30, enc(t, dict{9: 1})), "component-metadata", parameter},
		{"custom parameter as list", params(t, -300, []int{1}), "custom(-300)", parse},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := suit.ParseManifest(tc.data)
			var pe *suit.ParseError
			if !errors.As(err, &pe) {
				t.Fatalf("got %v, want a ParseError", err)
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q does not say %q", err, tc.want)
			}
			if pe.Reason != tc.reason || suit.ReasonFor(err) != tc.reason {
				t.Errorf("reason is %v, want %v", pe.Reason, tc.reason)
			}
		})
	}
}

func TestManifestDuplicateKeys(t *testing.T) {
	valid := manifestWith(t, func(dict) {})
	// A second sequence number, once in shortest form and once in two bytes.
	for _, second := range [][]byte{{2, 9}, {0x18, 2, 9}} {
		data := append([]byte{valid[0] + 1}, append(bytes.Clone(valid[1:]), second...)...)
		if _, err := suit.ParseManifest(data); err == nil || !strings.Contains(err.Error(), "duplicate") {
			t.Errorf("%x: got %v, want a duplicate key", second, err)
		}
	}
	indefinite := append([]byte{0xbf}, append(bytes.Clone(valid[1:]), 0xff)...)
	if _, err := suit.ParseManifest(indefinite); err == nil || !strings.Contains(err.Error(), "indefinite") {
		t.Errorf("indefinite length: %v", err)
	}
}

func TestUnsortedManifestIsAccepted(t *testing.T) {
	sorted := enc(t, map[any]any(validManifest(t)))
	// Members 1 and 2 change places.
	unsorted := append([]byte{sorted[0], 2, 3, 1, 1}, sorted[5:]...)
	m, err := suit.ParseManifest(unsorted)
	if err != nil {
		t.Fatal(err)
	}
	again, err := m.Encode()
	if err != nil || !bytes.Equal(again, sorted) {
		t.Errorf("it is built as %x (%v), want the canonical %x", again, err, sorted)
	}
}

func TestTextIsStrict(t *testing.T) {
	text := func(v any) []byte { return manifestWith(t, func(m dict) { m[23] = enc(t, v) }) }
	for name, data := range map[string][]byte{
		"no language":             text(dict{}),
		"language tag":            text(dict{"e n": dict{1: "x"}}),
		"long language tag":       text(dict{"abcdefghi": dict{1: "x"}}),
		"language digit":          text(dict{"1a": dict{1: "x"}}),
		"trailing hyphen":         text(dict{"en-": dict{1: "x"}}),
		"label 5":                 text(dict{"en": dict{5: "x"}}),
		"label 0":                 text(dict{"en": dict{0: "x"}}),
		"number":                  text(dict{"en": dict{1: 1}}),
		"invalid UTF-8":           manifestWith(t, func(m dict) { m[23] = []byte{0xa1, 0x62, 'e', 'n', 0xa1, 1, 0x61, 0xff} }),
		"foreign component":       manifestWith(t, func(m dict) { m[23] = []byte{0xa1, 0x62, 'e', 'n', 0xa1, 0x81, 0x41, 'b', 0xa0} }),
		"version with a line end": manifestWith(t, func(m dict) { m[23] = []byte{0xa1, 0x62, 'e', 'n', 0xa1, 0x81, 0x41, 'a', 0xa1, 8, 0x62, '1', '\n'} }),
		"escape in a version":     manifestWith(t, func(m dict) { m[23] = []byte{0xa1, 0x62, 'e', 'n', 0xa1, 0x81, 0x41, 'a', 0xa1, 7, 0x62, '1', 0x1b} }),
		"component label 9":       manifestWith(t, func(m dict) { m[23] = []byte{0xa1, 0x62, 'e', 'n', 0xa1, 0x81, 0x41, 'a', 0xa1, 9, 0x60} }),
	} {
		if _, err := suit.ParseManifest(data); err == nil || !strings.Contains(err.Error(), "text") {
			t.Errorf("%s: got %v, want an error in text", name, err)
		}
	}
	good := manifestWith(t, func(m dict) { m[23] = []byte{0xa1, 0x62, 'e', 'n', 0xa1, 0x81, 0x41, 'a', 0xa1, 8, 0x61, '1'} })
	m, err := suit.ParseManifest(good)
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Text.Languages["en"].Components[0].Text[suit.TextCurrentVersion]; got != "1" {
		t.Errorf("current version is %q", got)
	}
}

func TestEnvelopeIsStrict(t *testing.T) {
	auth := enc(t, []any{enc(t, goodDigest)})
	manifest := manifestWith(t, func(dict) {})
	with := func(change func(dict)) []byte {
		m := dict{2: auth, 3: manifest}
		change(m)
		return enc(t, map[any]any(m))
	}
	blocks := make([]any, suit.MaxAuthBlocks+2)
	for i := range blocks {
		blocks[i] = enc(t, goodDigest)
	}
	for name, data := range map[string][]byte{
		"empty":                  {},
		"a list":                 enc(t, []int{}),
		"other tag":              enc(t, cbor.Tag{Number: 1070, Content: dict{2: auth, 3: manifest}}),
		"no authentication":      with(func(m dict) { delete(m, 2) }),
		"no manifest":            with(func(m dict) { delete(m, 3) }),
		"manifest not wrapped":   with(func(m dict) { m[3] = validManifest(t) }),
		"unknown member":         with(func(m dict) { m[9] = []byte{} }),
		"validate in envelope":   with(func(m dict) { m[7] = enc(t, seq(3, 15)) }),
		"integrated as text":     with(func(m dict) { m["#a"] = "x" }),
		"wrapper empty":          with(func(m dict) { m[2] = enc(t, []any{}) }),
		"wrapper with too much":  with(func(m dict) { m[2] = enc(t, blocks) }),
		"wrapper not a list":     with(func(m dict) { m[2] = enc(t, 1) }),
		"digest not wrapped":     with(func(m dict) { m[2] = enc(t, []any{goodDigest}) }),
		"digest unsupported":     with(func(m dict) { m[2] = enc(t, []any{enc(t, []any{-18, goodUUID})}) }),
		"block not wrapped":      with(func(m dict) { m[2] = enc(t, []any{enc(t, goodDigest), 1}) }),
		"manifest before digest": append([]byte{0xa2, 3}, append(enc(t, manifest), append([]byte{2}, enc(t, auth)...)...)...),
		"duplicate manifest": append([]byte{0xa3, 2}, append(enc(t, auth),
			append([]byte{3}, append(enc(t, manifest), append([]byte{3}, enc(t, manifest)...)...)...)...)...),
	} {
		var pe *suit.ParseError
		if _, err := suit.ParseEnvelope(data); !errors.As(err, &pe) {
			t.Errorf("%s: got %v, want a ParseError", name, err)
		}
	}
	e, err := suit.ParseEnvelope(with(func(m dict) { m[1] = []any{[]byte{1}} }))
	if err != nil {
		t.Fatal(err)
	}
	if e.Delegation == nil {
		t.Error("delegation was not kept")
	}
	if _, err := e.Verify(keySet(t), suit.VerifyOptions{}); !errors.Is(err, suit.ErrManifestDigest) {
		t.Errorf("a foreign digest gives %v", err)
	}
}

// "Signature before parse": garbage inside the manifest is not noticed before verification.
func TestManifestIsNotParsedBeforeVerify(t *testing.T) {
	data := enc(t, map[any]any{2: enc(t, []any{enc(t, goodDigest)}), 3: []byte{0xff, 0xff}})
	e, err := suit.ParseEnvelope(data)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Verify(keySet(t), suit.VerifyOptions{}); !errors.Is(err, suit.ErrManifestDigest) {
		t.Errorf("got %v, want the digest to be checked first", err)
	}
}
