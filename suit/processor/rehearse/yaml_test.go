package rehearse_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor/rehearse"
)

func TestParseYAML(t *testing.T) {
	b := newBench(t)
	d := b.described(`
vendor: {pen: 32473}
class: {uuid: fa6b4a53-d5ad-5fdf-be9d-e663e4d41ffe}
device: {uuid: fa6b4a53-d5ad-5fdf-be9d-e663e4d41fff}
components: ["'hello'", [{hex: "00"}], "*"]
installed:
  - {id: hello/config, content: {hex: "0001"}}
  - {id: [{uuid: fa6b4a53-d5ad-5fdf-be9d-e663e4d41ffe}], content: {file: hello.wasm}, vendor: {domain: example.org}}
  - {id: [empty], slot: 3}
manifests:
  - {id: [lib, manifest], sequence-number: 7, components: [[lib]]}
signers:
  - keys: [dev.pub.pem, stranger.pub.pem]
    components: [[hello]]
    commands: [fetch, condition-image-match, 3]
    min-sequence-number: 2
limits: {total-bytes: 0x1000, components: 3}
insecure-older-algorithms: true
implicit-dependency-integrity: true
`)
	if d.Identity.Vendor != suit.NewPEN(32473).Namespace() || d.Identity.Device == d.Identity.Class {
		t.Errorf("identity is %x", d.Identity)
	}
	if len(d.Components) != 3 || d.Components[0].String() != "'hello'" || d.Components[1].String() != "h'00'" || len(d.Components[2]) != 0 {
		t.Errorf("components are %v", d.Components)
	}
	if len(d.Installed) != 3 || d.Installed[0].ID.String() != "'hello'/'config'" || string(d.Installed[0].Content) != "\x00\x01" ||
		string(d.Installed[1].Content) != "hello, world" || d.Installed[1].Identity.Vendor != suit.NewVendorID("example.org") ||
		d.Installed[2].Content != nil || *d.Installed[2].Slot != 3 {
		t.Errorf("installed are %+v", d.Installed)
	}
	if m := d.Manifests[0]; m.SequenceNumber != 7 || m.Where != "device.yaml:11" || len(m.Components) != 1 {
		t.Errorf("manifest is %+v", m)
	}
	if len(d.Signers) != 2 || d.Signers[1].Rights.MinSequence != 2 {
		t.Fatalf("signers are %+v", d.Signers)
	}
	if grant := d.Signers[0].Rights.Components[0]; len(grant.Commands) != 3 || grant.Commands[0] != suit.DirFetch || grant.Parameters != nil {
		t.Errorf("grant is %+v", grant)
	}
	if d.Limits.Total != 4096 || d.Limits.Components != 3 || !d.InsecureOlderAlgorithms || !d.ImplicitDependencyIntegrity {
		t.Errorf("device is %+v", d)
	}
}

func TestParseYAMLRefuses(t *testing.T) {
	const head = "vendor: {domain: a}\nclass: {name: b}\ncomponents: [[hello]]\n"
	b := newBench(t)
	b.files["junk"] = []byte("junk")
	for name, c := range map[string]struct{ text, want string }{
		"nothing":               {"", "x.yaml:1:1: the description is empty"},
		"a comment":             {"# later\n", "empty"},
		"no mapping":            {"[a]", "x.yaml:1:1: the description must be a mapping"},
		"no YAML":               {"a: b\n  - c: {\n", "x.yaml:2:1: not valid YAML"},
		"two documents":         {head + "---\n" + head, "one document"},
		"an alias":              {"vendor: &v {domain: a}\nclass: *v\n", "x.yaml:1:9: anchors"},
		"unknown key":           {head + "batery: 3\n", `x.yaml:4:1: "batery" is not known`},
		"twice":                 {head + "vendor: {domain: c}\n", "x.yaml:4:1: \"vendor\" is given twice"},
		"no vendor":             {"class: {name: b}\ncomponents: [[hello]]\n", "vendor and class are missing"},
		"no components":         {"vendor: {domain: a}\nclass: {name: b}\n", "components are missing"},
		"two vendors":           {"vendor: {domain: a, pen: 3}\n", "x.yaml:1:9: vendor needs exactly one of"},
		"zero vendor":           {"vendor: {uuid: 00000000-0000-0000-0000-000000000000}\n", "matches nothing"},
		"no UUID":               {"vendor: {uuid: a}\n", "not a UUID"},
		"a large pen":           {"vendor: {pen: 4294967296}\n", "32 bits"},
		"a number as name":      {"vendor: {domain: 3}\n", "put it into quotes"},
		"an empty identifier":   {"vendor: {domain: a}\nclass: {name: b}\ncomponents: [[]]\n", "at least one segment"},
		"a bad identifier":      {"vendor: {domain: a}\nclass: {name: b}\ncomponents: [\"'a\"]\n", "quote is not closed"},
		"no id":                 {head + "installed: [{slot: 1}]\n", "id is missing"},
		"two of one":            {head + "installed: [{id: [hello]}, {id: [hello]}]\n", "x.yaml:4:28: component 'hello' is described twice"},
		"not supported":         {head + "installed: [{id: [lib]}]\n", "under none of the prefixes"},
		"odd hex":               {head + "installed: [{id: [hello], content: {hex: abc}}]\n", "hexadecimal digits"},
		"two contents":          {head + "installed: [{id: [hello], content: {hex: ab, text: c}}]\n", "exactly one of"},
		"no file":               {head + "installed: [{id: [hello], content: {file: none}}]\n", `x.yaml:4:43: cannot read file "none"`},
		"negative slot":         {head + "installed: [{id: [hello], slot: -1}]\n", "not negative"},
		"no version":            {head + "installed: [{id: [hello], version: \"one\"}]\n", "version"},
		"no envelope":           {head + "manifests: [{envelope: junk}]\n", "not a SUIT envelope"},
		"half a manifest":       {head + "manifests: [{id: [a]}]\n", "needs envelope, or id and sequence-number"},
		"payloads as a list":    {head + "payloads: [a]\n", "must be a mapping"},
		"a full battery":        {head + "battery: full\n", "x.yaml:4:10: battery, in mWh, must be a number"},
		"priority as text":      {head + "authorizes-priority: high\n", "whole number"},
		"no time":               {head + "clock: noon\n", "2026-07-01T12:00:00Z"},
		"unknown event":         {head + "events: [lunch]\n", `event "lunch" is not known: possible are authorization`},
		"public key":            {head + "keys: [dev.pub.pem]\n", "is a public key"},
		"no key":                {head + "keys: [junk]\n", "neither a PEM file"},
		"signer without rights": {head + "signers: [{keys: [dev.pub.pem]}]\n", "a signer needs keys, and components"},
		"signer twice":          {head + "signers:\n  - {keys: [dev.pub.pem], components: [[a]]}\n  - {keys: [dev.pub.pem], components: [[b]]}\n", "x.yaml:6:13: this key was given already"},
		"unknown command":       {head + "signers: [{keys: [dev.pub.pem], components: [[a]], commands: [dance]}]\n", `command "dance" is not known`},
		"unknown parameter":     {head + "signers: [{keys: [dev.pub.pem], components: [[a]], parameters: [dance]}]\n", `parameter "dance" is not known`},
		"no limit":              {head + "limits: {components: 0}\n", "write a number from 1"},
		"a maybe":               {head + "insecure-older-algorithms: maybe\n", "true or false"},
		"too long":              {strings.Repeat("#", 1<<20+1), "at most"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := rehearse.ParseYAML([]byte(c.text), rehearse.Options{Name: "x.yaml", ReadFile: b.files.read})
			var e *rehearse.Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if _, err := rehearse.ParseYAML([]byte(head+"keys: [a]\n"), rehearse.Options{}); err == nil || !strings.Contains(err.Error(), "description:4:8: cannot read") {
		t.Errorf("without files: %v", err)
	}
}

func FuzzParseYAMLNeverPanics(f *testing.F) {
	b := newBench(f)
	f.Add([]byte(board))
	f.Add([]byte("vendor: {pen: 1}\nclass: {uuid: x}\ninstalled: [{id: [{hex: 00}], slot: 1}]\nlimits: {commands: 1}\n"))
	f.Add([]byte("manifests: [{id: a, sequence-number: 1}]\nevents: [time]\nclock: 2026-07-01T00:00:00Z\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := rehearse.ParseYAML(text, rehearse.Options{Name: "x", ReadFile: b.files.read})
		var e *rehearse.Error
		switch {
		case err != nil && !errors.As(err, &e):
			t.Fatalf("not an Error: %v", err)
		case err != nil && e.Line < 1:
			t.Fatalf("names no line: %v", err)
		case err == nil && (len(d.Components) == 0 || d.Identity.Vendor == [16]byte{}):
			t.Fatalf("accepted %q", text)
		}
	})
}
