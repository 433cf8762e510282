package suit_test

import (
	"bytes"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/suit"
)

var (
	genBytes     = rapid.SliceOfN(rapid.Byte(), 0, 40)
	genComponent = rapid.Custom(func(t *rapid.T) suit.ComponentID {
		return rapid.SliceOfN(genBytes, 0, 4).Draw(t, "component")
	})
	genVersion = rapid.Custom(func(t *rapid.T) suit.Version {
		return append(suit.Version{rapid.Int64Min(0).Draw(t, "major")},
			rapid.SliceOfN(rapid.Int64(), 0, 4).Draw(t, "rest")...)
	})
	genMatch = rapid.Custom(func(t *rapid.T) suit.VersionMatch {
		return suit.VersionMatch{Comparison: suit.Comparison(rapid.Uint64Range(1, 5).Draw(t, "c")), Value: genVersion.Draw(t, "v")}
	})
	genDigest = rapid.Custom(func(t *rapid.T) suit.Digest {
		alg := rapid.SampledFrom([]cose.Algorithm{cose.AlgSHA256, cose.AlgSHA384, cose.AlgSHA512}).Draw(t, "hash")
		d, err := suit.NewDigestWith(alg, genBytes.Draw(t, "data"))
		if err != nil {
			t.Fatal(err)
		}
		return d
	})
	genParameters = rapid.Custom(drawParameters)
)

// wrappedInfo is a COSE_Encrypt with one recipient, [h”, {5: h”}, nil, [[h”, {1: -3}, h”]]], tagged.
var wrappedInfo = []byte{0xd8, 96, 0x84, 0x40, 0xa1, 0x05, 0x40, 0xf6, 0x81, 0x83, 0x40, 0xa1, 0x01, 0x22, 0x40}

func drawParameters(t *rapid.T) suit.Parameters {
	var p suit.Parameters
	number := rapid.Uint64()
	for range rapid.IntRange(1, 5).Draw(t, "parameters") {
		var err error
		switch rapid.IntRange(1, 22).Draw(t, "which") {
		case 1:
			p.SetVendorID(suit.VendorID{UUID: suit.NewVendorID(rapid.String().Draw(t, "domain"))})
		case 2:
			p.SetVendorID(suit.NewPEN(rapid.Uint32().Draw(t, "pen")))
		case 3:
			p.SetClassID(suit.NewVendorID("class"))
		case 4:
			p.SetDigest(genDigest.Draw(t, "digest"))
		case 5:
			p.SetSize(number.Draw(t, "size"))
		case 6:
			p.SetSlot(number.Draw(t, "slot"))
		case 7:
			p.SetURI(rapid.String().Draw(t, "uri"))
		case 8:
			p.SetContent(genBytes.Draw(t, "content"))
		case 9:
			p.SetSourceComponent(number.Draw(t, "source"))
		case 10:
			p.SetInvokeArgs(genBytes.Draw(t, "args"))
		case 11:
			p.SetFetchArguments(genBytes.Draw(t, "args"))
		case 12:
			p.SetStrictOrder(rapid.Bool().Draw(t, "strict"))
		case 13:
			p.SetSoftFailure(rapid.Bool().Draw(t, "soft"))
		case 14:
			p.SetUseBefore(number.Draw(t, "time"))
		case 15:
			p.SetMinimumBattery(number.Draw(t, "mWh"))
		case 16:
			p.SetUpdatePriority(rapid.Int64().Draw(t, "priority"))
		case 17:
			err = p.SetVersion(genMatch.Draw(t, "version"))
		case 18:
			day, network := rapid.Uint64Range(0, 6).Draw(t, "day"), rapid.Int64().Draw(t, "network")
			err = p.SetWaitInfo(suit.WaitEvent{DayOfWeek: &day, Network: &network,
				OtherDeviceVersion: &suit.OtherDeviceVersion{Device: []byte{1}, Matches: []suit.VersionMatch{genMatch.Draw(t, "m")}}})
		case 19:
			bits, when := rapid.Uint64().Draw(t, "bits"), rapid.Uint64().Draw(t, "when")
			err = p.SetComponentMetadata(suit.ComponentMetadata{DefaultPermissions: &bits, FileType: suit.FileSymlink,
				ModificationTime: &when, Creator: suit.ActorID{0x18, 0x64},
				GroupPermissions: []suit.ActorPermission{{Actor: suit.ActorID{0x61, 'b'}, Permissions: 3}, {Actor: suit.ActorID{1}, Permissions: 1}}})
		case 20:
			p2 := rapid.Int64Range(-1000, -1).Draw(t, "custom")
			err = p.SetRaw(suit.ParameterLabel(p2), []byte{0xf5})
		case 21:
			p.SetDeviceID(suit.NewVendorID(rapid.String().Draw(t, "device")))
		case 22:
			err = p.SetEncryptionInfo(wrappedInfo)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func drawSequence(t *rapid.T, depth int, shared bool) suit.Sequence {
	seq := make(suit.Sequence, rapid.IntRange(1, 4).Draw(t, "commands"))
	for i := range seq {
		seq[i] = drawCommand(t, depth, shared)
	}
	return seq
}

func drawCommand(t *rapid.T, depth int, shared bool) suit.Command {
	policy := suit.ReportingPolicy(rapid.Uint64Range(0, 15).Draw(t, "policy"))
	condition := suit.Condition(rapid.SampledFrom([]suit.CommandCode{1, 2, 3, 4, 5, 6, 7, 8, 14, 24, 25, 26, 27, 28}).Draw(t, "condition"), policy)
	index := rapid.Uint64Range(0, 3)
	kind := rapid.IntRange(0, 9).Draw(t, "kind")
	switch {
	case shared && (kind == 1 || kind == 2 || kind == 6 || kind == 7):
		return condition // parameters may be custom ones, which the shared sequence refuses
	case kind == 1:
		return suit.OverrideParameters(genParameters.Draw(t, "p"))
	case kind == 2:
		return suit.SetParameters(genParameters.Draw(t, "p"))
	case kind == 3:
		return rapid.SampledFrom([]suit.Command{suit.SetComponentIndex(0), suit.SetAllComponents(), suit.SetComponentIndexes(1, 0),
			suit.SetComponentIndexes(5)}).Draw(t, "index")
	case kind == 4 && depth < 4:
		list := []suit.Sequence{drawSequence(t, depth+1, shared), drawSequence(t, depth+1, shared)}
		if rapid.Bool().Draw(t, "nil") {
			list = append(list, nil)
		}
		return suit.TryEach(list...)
	case kind == 5 && depth < 4:
		return suit.RunSequence(drawSequence(t, depth+1, shared))
	case kind == 6:
		return suit.OverrideMultiple(suit.ComponentParameters{Index: index.Draw(t, "i"), Parameters: genParameters.Draw(t, "p")},
			suit.ComponentParameters{Index: 10, Parameters: genParameters.Draw(t, "p")})
	case kind == 7:
		return suit.Directive(rapid.SampledFrom([]suit.CommandCode{11, 18, 21, 22, 23, 29, 31, 33}).Draw(t, "directive"), policy)
	case kind == 8:
		return suit.CopyParams(suit.CopyParameters{Source: index.Draw(t, "i"), Labels: []suit.ParameterLabel{21, -300}})
	case kind == 9 && !shared:
		return suit.Command{Code: -300, Custom: []byte{0x61, 'x'}}
	}
	return condition
}

func drawManifest(t *rapid.T) suit.Manifest {
	m := suit.Manifest{SequenceNumber: rapid.Uint64Max(1<<62).Draw(t, "number")}
	m.Common.Components = rapid.SliceOfN(genComponent, 1, 4).Draw(t, "components")
	m.Common.SharedSequence.Commands = drawSequence(t, 1, true)
	if rapid.Bool().Draw(t, "dependency") {
		m.Common.Dependencies = []suit.Dependency{{Index: 0}, {Index: 7, Prefix: genComponent.Draw(t, "prefix")}}
	}
	if rapid.Bool().Draw(t, "named") {
		uri := rapid.String().Draw(t, "uri")
		m.ReferenceURI, m.ComponentID, m.SetVersion = &uri, genComponent.Draw(t, "id"), genVersion.Draw(t, "version")
	}
	for _, label := range suit.SectionLabels() {
		if rapid.Bool().Draw(t, "present") {
			m.Section(label).Commands = drawSequence(t, 1, false)
		}
	}
	if rapid.Bool().Draw(t, "text") {
		m.Text.Languages = suit.Text{
			"en":    {Manifest: map[suit.TextLabel]string{1: rapid.String().Draw(t, "text"), -5: "own"}},
			"de-AT": {Components: []suit.ComponentText{{ID: m.Common.Components[0], Text: map[suit.ComponentTextLabel]string{5: "x"}}}},
		}
	}
	if rapid.Bool().Draw(t, "coswid") {
		m.CoSWID.Tag = []byte{0xa1, 0x00, 0x61, 'x'}
	}
	return m
}

// Parsing what was built and building it again gives the same bytes, which are deterministic.
func TestBuildParseIdentity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawManifest(t)
		data, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if !cbor.IsDeterministic(data) {
			t.Fatalf("not deterministic: %x", data)
		}
		parsed, err := suit.ParseManifest(data)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parsed.Encode()
		if err != nil || !bytes.Equal(data, again) {
			t.Fatalf("built %x, then %x (%v)", data, again, err)
		}
		checkOffsets(t, parsed)

		severable := rapid.SliceOfNDistinct(rapid.SampledFrom([]suit.Label{14, 15, 16, 18, 20, 23}), 0, 6, rapid.ID[suit.Label]).Draw(t, "severable")
		e, err := suit.Builder{Manifest: m, Severable: severable, Integrated: map[string][]byte{"#a": data}}.Build()
		if err != nil {
			t.Fatal(err)
		}
		back, err := suit.ParseEnvelope(e.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(back.Encode(), e.Encode()) {
			t.Fatal("envelope changes when it is parsed and encoded")
		}
		if _, err := back.UnverifiedManifest(); err != nil {
			t.Fatal(err)
		}
		if s, err := suit.Annotate(e.Encode()); err != nil || s == "" {
			t.Fatal(err)
		}
	})
}

// Every command is found at its offset in the section, nested ones included.
func checkOffsets(t *rapid.T, m *suit.Manifest) {
	for _, label := range append(suit.SectionLabels(), suit.LabelCommon) {
		s := m.Section(label)
		s.Commands.Walk(func(c *suit.Command) bool {
			code, err := cbor.Marshal(int64(c.Code))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(s.Raw[c.Offset:], code) {
				t.Fatalf("%v: %v is not at offset %d", label, c.Code, c.Offset)
			}
			return true
		})
	}
}

func TestParametersAreValues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, q := genParameters.Draw(t, "p"), genParameters.Draw(t, "q")
		before := p.Clone()
		c := p
		c.Override(q)
		c.SetURI("changed")
		c.Delete(p.Labels()[0])
		if !p.Equal(before) {
			t.Fatal("changing a copy changed the original")
		}
		o := p
		o.Override(q)
		for _, label := range q.Labels() {
			want, _ := q.Raw(label)
			if got, _ := o.Raw(label); !bytes.Equal(got, want) {
				t.Fatalf("override left %v", label)
			}
		}
		s := p
		s.SetMissing(q)
		for _, label := range p.Labels() {
			want, _ := p.Raw(label)
			if got, _ := s.Raw(label); !bytes.Equal(got, want) {
				t.Fatalf("set-if-missing changed %v", label)
			}
		}
		data, err := p.MarshalCBOR()
		if err != nil {
			t.Fatal(err)
		}
		var back suit.Parameters
		if err := back.UnmarshalCBOR(data); err != nil || !back.Equal(p) {
			t.Fatalf("parameters do not come back: %v", err)
		}
	})
}

func TestComponentIDText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := genComponent.Draw(t, "id")
		back, err := suit.ParseComponentID(id.String())
		if err != nil || !back.Equal(id) {
			t.Fatalf("%v reads back as %v (%v)", id, back, err)
		}
		var decoded suit.ComponentID
		data, err := id.MarshalCBOR()
		if err != nil {
			t.Fatal(err)
		}
		if err := decoded.UnmarshalCBOR(data); err != nil || !decoded.Equal(id) || decoded.Key() != string(data) {
			t.Fatalf("%v decodes to %v (%v)", id, decoded, err)
		}
	})
	for _, bad := range []string{"/", "a/", "/a", "a//b", "h'0'", "h'00", "'a", "a'b", "'a'b"} {
		if id, err := suit.ParseComponentID(bad); err == nil {
			t.Errorf("%q is read as %v", bad, id)
		}
	}
	if id, err := suit.ParseComponentID("hello/manifest"); err != nil || !reflect.DeepEqual(id, suit.NewComponentID("hello", "manifest")) {
		t.Errorf("got %v, %v", id, err)
	}
}
