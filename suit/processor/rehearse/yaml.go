package rehearse

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
)

// Options are what a description cannot say itself.
type Options struct {
	// Name is the name of the description in errors.
	Name string
	// ReadFile reads the files that the description names. Nil refuses all of them.
	ReadFile func(name string) ([]byte, error)
}

// ParseYAML reads a description. It is strict: keys that it does not know, wrong types and
// contradictions are an [*Error] with line and column.
func ParseYAML(source []byte, o Options) (*Device, error) {
	r := &reader{o: o}
	root := r.document(source)
	if r.err != nil {
		return nil, r.err
	}
	d := r.device(root)
	if r.err != nil {
		return nil, r.err
	}
	return d, nil
}

func (r *reader) device(n *yaml.Node) *Device {
	f := r.fields(n, "the description", "vendor", "class", "device", "components", "installed", "manifests", "payloads",
		"battery", "clock", "authorizes-priority", "events", "keys", "signers", "limits", "insecure-older-algorithms",
		"implicit-dependency-integrity")
	d := &Device{Payloads: map[string][]byte{}}
	if d.Identity = r.identity(f, processor.Identity{}); f["vendor"] == nil || f["class"] == nil {
		r.fail(n, "vendor and class are missing: every manifest is made for one of them")
	}
	if d.Components = r.prefixes(f["components"], "components"); len(d.Components) == 0 {
		r.fail(n, `components are missing: list the prefixes of the component identifiers that the device has, or "*"`)
	}
	for _, item := range r.items(f["installed"], "installed") {
		d.Installed = append(d.Installed, r.component(item, d))
	}
	for _, item := range r.items(f["manifests"], "manifests") {
		d.Manifests = append(d.Manifests, r.manifest(item))
	}
	for _, p := range r.pairs(f["payloads"], "payloads") {
		d.Payloads[p.key.Value] = r.file(p.value)
	}
	r.environment(f, d)
	for _, item := range r.items(f["keys"], "keys") {
		d.DecryptKeys = append(d.DecryptKeys, r.decryptKey(item))
	}
	for _, item := range r.items(f["signers"], "signers") {
		d.Signers = append(d.Signers, r.signer(item, d.Signers)...)
	}
	r.limits(f["limits"], &d.Limits)
	d.InsecureOlderAlgorithms = r.boolean(f["insecure-older-algorithms"], "insecure-older-algorithms")
	d.ImplicitDependencyIntegrity = r.boolean(f["implicit-dependency-integrity"], "implicit-dependency-integrity")
	return d
}

// environment reads what the conditions of the update management text ask for.
func (r *reader) environment(f map[string]*yaml.Node, d *Device) {
	if n := f["battery"]; n != nil {
		v := r.unsigned(n, "battery, in mWh,")
		d.Battery = &v
	}
	if n := f["authorizes-priority"]; n != nil {
		v, err := strconv.ParseInt(n.Value, 0, 64)
		if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || err != nil {
			r.fail(n, "authorizes-priority must be a whole number, not %s", shown(n))
		}
		d.AuthorizesPriority = &v
	}
	if n := f["clock"]; n != nil {
		t, err := time.Parse(time.RFC3339, n.Value)
		if n.Kind != yaml.ScalarNode || err != nil || t.IsZero() {
			r.fail(n, "clock must be a time such as 2026-07-01T12:00:00Z, not %s", shown(n))
		}
		d.Clock = t
	}
	for _, item := range r.items(f["events"], "events") {
		name := r.text(item, "an event")
		if !slices.Contains(EventNames(), name) {
			r.fail(item, "event %q is not known: possible are %s", name, strings.Join(EventNames(), ", "))
		}
		d.Events = append(d.Events, name)
	}
}

// identity reads vendor, class and device, with inherited values for what is not there.
func (r *reader) identity(f map[string]*yaml.Node, inherited processor.Identity) processor.Identity {
	id := inherited
	if n := f["vendor"]; n != nil {
		form, value := r.choice(n, "vendor", "domain", "uuid", "pen")
		switch form {
		case "domain":
			id.Vendor = suit.NewVendorID(r.text(value, "domain"))
		case "uuid":
			id.Vendor = r.uuid(value)
		case "pen":
			number := r.unsigned(value, "pen")
			if number > 1<<32-1 {
				r.fail(value, "pen %d is not a private enterprise number: it has at most 32 bits", number)
			}
			id.Vendor = suit.NewPEN(uint32(number)).Namespace()
		}
	}
	if n := f["class"]; n != nil {
		switch form, value := r.choice(n, "class", "name", "uuid"); form {
		case "name":
			id.Class = suit.NewClassID(suit.VendorID{UUID: id.Vendor}, []byte(r.text(value, "class name")))
		case "uuid":
			id.Class = r.uuid(value)
		}
	}
	if n := f["device"]; n != nil {
		_, value := r.choice(n, "device", "uuid")
		id.Device = r.uuid(value)
	}
	return id
}

func (r *reader) component(n *yaml.Node, d *Device) Component {
	f := r.fields(n, "an installed component", "id", "content", "slot", "version", "vendor", "class", "device")
	c := Component{ID: r.componentID(f["id"], n, "id")}
	if slices.ContainsFunc(d.Installed, func(o Component) bool { return o.ID.Equal(c.ID) }) {
		r.fail(n, "component %v is described twice", c.ID)
	}
	if !slices.ContainsFunc(d.Components, c.ID.HasPrefix) {
		r.fail(n, "component %v is installed, but under none of the prefixes in components", c.ID)
	}
	if f["vendor"] != nil || f["class"] != nil || f["device"] != nil {
		id := r.identity(f, d.Identity)
		c.Identity = &id
	}
	if v := f["content"]; v != nil {
		c.Content = append([]byte{}, r.bytes(v, "content")...)
	}
	if v := f["slot"]; v != nil {
		slot := r.unsigned(v, "slot")
		c.Slot = &slot
	}
	if v := f["version"]; v != nil {
		version, err := suit.ParseVersion(r.text(v, "version"))
		if err != nil {
			r.fail(v, "%w", err)
		}
		c.Version = version
	}
	return c
}

func (r *reader) manifest(n *yaml.Node) Manifest {
	f := r.fields(n, "an installed manifest", "envelope", "id", "sequence-number", "components")
	m := Manifest{Where: r.where(n)}
	if f["id"] != nil {
		m.ID = r.componentID(f["id"], n, "id")
	}
	if v := f["envelope"]; v != nil {
		m.Envelope = r.file(v)
		if _, err := suit.ParseEnvelope(m.Envelope); err != nil {
			r.fail(v, "%s is not a SUIT envelope: %w", v.Value, err)
		}
		if f["sequence-number"] != nil || f["components"] != nil {
			r.fail(n, "the envelope says sequence-number and components already: leave them out")
		}
		return m
	}
	if m.ID == nil || f["sequence-number"] == nil {
		r.fail(n, "an installed manifest needs envelope, or id and sequence-number")
		return m
	}
	m.SequenceNumber = r.unsigned(f["sequence-number"], "sequence-number")
	for _, item := range r.items(f["components"], "components") {
		m.Components = append(m.Components, r.componentID(item, n, "component"))
	}
	return m
}

func (r *reader) signer(n *yaml.Node, before []processor.Signer) []processor.Signer {
	f := r.fields(n, "a signer", "keys", "components", "commands", "parameters", "min-sequence-number", "max-sequence-number")
	grant := processor.ComponentRights{}
	for _, item := range r.items(f["commands"], "commands") {
		code := r.named(item, "command", func(i int64) string { return suit.CommandCode(i).String() })
		grant.Commands = append(grant.Commands, suit.CommandCode(code))
	}
	for _, item := range r.items(f["parameters"], "parameters") {
		label := r.named(item, "parameter", func(i int64) string { return suit.ParameterLabel(i).String() })
		grant.Parameters = append(grant.Parameters, suit.ParameterLabel(label))
	}
	var rights processor.Rights
	for _, grant.Prefix = range r.prefixes(f["components"], "components") {
		rights.Components = append(rights.Components, grant)
	}
	if f["min-sequence-number"] != nil {
		rights.MinSequence = r.unsigned(f["min-sequence-number"], "min-sequence-number")
	}
	if f["max-sequence-number"] != nil {
		rights.MaxSequence = r.unsigned(f["max-sequence-number"], "max-sequence-number")
	}
	if f["keys"] == nil || f["components"] == nil {
		r.fail(n, `a signer needs keys, and components that they may sign for: the prefixes of identifiers, or "*"`)
	}
	var signers []processor.Signer
	for _, item := range r.items(f["keys"], "keys") {
		key := r.key(item)
		if key == nil {
			continue
		}
		if key.Type() == cose.KeyTypeSymmetric {
			r.fail(item, "signers have public keys, and this is a symmetric one")
			continue
		}
		key = key.Public()
		same := func(s processor.Signer) bool { return s.Key.Equal(key) }
		if slices.ContainsFunc(before, same) || slices.ContainsFunc(signers, same) {
			r.fail(item, "this key was given already: list everything that it may sign in one place")
		}
		signers = append(signers, processor.Signer{Key: key, Rights: rights})
	}
	return signers
}

func (r *reader) limits(n *yaml.Node, l *processor.Limits) {
	if n == nil {
		return
	}
	f := r.fields(n, "limits", "envelope-bytes", "payload-bytes", "total-bytes", "components", "dependencies", "commands")
	for key, set := range map[string]func(int64){
		"envelope-bytes": func(v int64) { l.Envelope = v },
		"payload-bytes":  func(v int64) { l.Payload = v },
		"total-bytes":    func(v int64) { l.Total = v },
		"components":     func(v int64) { l.Components = int(v) },
		"dependencies":   func(v int64) { l.Dependencies = int(v) },
		"commands":       func(v int64) { l.Commands = int(v) },
	} {
		value := f[key]
		if value == nil {
			continue
		}
		v := r.unsigned(value, key)
		if v == 0 || v > 1<<31-1 && !strings.HasSuffix(key, "-bytes") || v > 1<<62 {
			r.fail(value, "%s is %d: write a number from 1", key, v)
		}
		set(int64(v))
	}
}

func (r *reader) decryptKey(n *yaml.Node) *cose.Key {
	key := r.key(n)
	if key != nil && !key.IsPrivate() && key.Type() != cose.KeyTypeSymmetric {
		r.fail(n, "%s is a public key: the device unwraps content keys with a private or a symmetric one", n.Value)
	}
	return key
}

func (r *reader) where(n *yaml.Node) string {
	return fmt.Sprintf("%s:%d", (&Error{Name: r.o.Name}).name(), n.Line)
}
