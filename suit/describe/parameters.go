package describe

import (
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/suit"
)

// parameterLabels are all parameters, in the order in which errors list them.
var parameterLabels = []suit.ParameterLabel{
	suit.ParamVendorIdentifier, suit.ParamClassIdentifier, suit.ParamDeviceIdentifier, suit.ParamImageDigest,
	suit.ParamImageSize, suit.ParamComponentSlot, suit.ParamURI, suit.ParamSourceComponent, suit.ParamContent,
	suit.ParamInvokeArgs, suit.ParamFetchArguments, suit.ParamStrictOrder, suit.ParamSoftFailure,
	suit.ParamEncryptionInfo, suit.ParamUseBefore, suit.ParamMinimumBattery, suit.ParamUpdatePriority,
	suit.ParamVersion, suit.ParamWaitInfo, suit.ParamComponentMetadata,
}

func parameterLabel(name string) (suit.ParameterLabel, bool) {
	for _, l := range parameterLabels {
		if l.String() == name {
			return l, true
		}
	}
	if n, err := strconv.ParseInt(name, 10, 64); err == nil && n < 0 {
		return suit.ParameterLabel(n), true
	}
	return 0, false
}

func (b *builder) parameters(n *yaml.Node) (suit.Parameters, error) {
	var p suit.Parameters
	list, err := b.fields(n, "parameters")
	if err != nil {
		return p, err
	}
	if len(list) == 0 {
		return p, b.errorf(n, "parameters are empty: set at least one")
	}
	for _, f := range list {
		label, ok := parameterLabel(f.key.Value)
		if !ok {
			names := make([]string, len(parameterLabels))
			for i, l := range parameterLabels {
				names[i] = l.String()
			}
			return p, b.unknown(f.key, "parameters", names)
		}
		if err := b.parameter(&p, label, f.value); err != nil {
			return p, err
		}
	}
	return p, nil
}

func (b *builder) parameter(p *suit.Parameters, label suit.ParameterLabel, n *yaml.Node) error {
	name := label.String()
	switch label {
	case suit.ParamImageSize, suit.ParamComponentSlot, suit.ParamSourceComponent, suit.ParamUseBefore,
		suit.ParamMinimumBattery:
		v, err := b.uint(n, name)
		if err != nil {
			return err
		}
		return b.setRaw(p, label, n, v)
	case suit.ParamUpdatePriority:
		v, err := b.int(n, name)
		if err != nil {
			return err
		}
		return b.setRaw(p, label, n, v)
	case suit.ParamStrictOrder, suit.ParamSoftFailure:
		v, err := b.bool(n, name)
		if err != nil {
			return err
		}
		return b.setRaw(p, label, n, v)
	case suit.ParamURI:
		v, err := b.text(n, name)
		if err != nil {
			return err
		}
		return b.setRaw(p, label, n, v)
	case suit.ParamContent, suit.ParamInvokeArgs, suit.ParamFetchArguments, suit.ParamEncryptionInfo:
		v, err := b.bytes(n, name)
		if err != nil {
			return err
		}
		return b.setRaw(p, label, n, v)
	}
	if label < 0 {
		return b.customParameter(p, label, n)
	}
	return b.structuredParameter(p, label, n)
}

func (b *builder) structuredParameter(p *suit.Parameters, label suit.ParameterLabel, n *yaml.Node) error {
	switch label {
	case suit.ParamVendorIdentifier:
		v, err := b.vendor(n)
		if err != nil {
			return err
		}
		p.SetVendorID(*v)
	case suit.ParamClassIdentifier, suit.ParamDeviceIdentifier:
		id, err := b.identifier(p, n)
		if err != nil {
			return err
		}
		return b.setRaw(p, label, n, id[:])
	case suit.ParamImageDigest:
		d, err := b.digest(n)
		if err != nil {
			return err
		}
		p.SetDigest(d)
	case suit.ParamVersion:
		return b.versionParameter(p, n)
	case suit.ParamWaitInfo:
		return b.waitParameter(p, n)
	case suit.ParamComponentMetadata:
		return b.metadataParameter(p, n)
	}
	return nil
}

// identifier reads a class or device; a class by name belongs to the vendor set beside it.
func (b *builder) identifier(p *suit.Parameters, n *yaml.Node) (suit.UUID, error) {
	var vendor *suit.VendorID
	if v, ok := p.VendorID(); ok {
		vendor = &v
	} else {
		vendor = b.defaults.vendor
	}
	u, err := b.class(n, vendor)
	if err != nil {
		return suit.UUID{}, err
	}
	return *u, nil
}

func (b *builder) setRaw(p *suit.Parameters, label suit.ParameterLabel, n *yaml.Node, v any) error {
	raw, err := cbor.Marshal(v)
	if err == nil {
		err = p.SetRaw(label, raw)
	}
	if err != nil {
		return b.errorf(n, "%w", err)
	}
	return nil
}

// customParameter takes an integer, a boolean, text or bytes.
func (b *builder) customParameter(p *suit.Parameters, label suit.ParameterLabel, n *yaml.Node) error {
	v, err := b.customValue(n)
	if err != nil {
		return err
	}
	return b.setRaw(p, label, n, v)
}

func (b *builder) customValue(n *yaml.Node) (any, error) {
	if n.Kind != yaml.ScalarNode {
		return b.bytes(n, "custom value")
	}
	switch n.Tag {
	case "!!int":
		return b.int(n, "custom value")
	case "!!bool":
		return b.bool(n, "custom value")
	case "!!null":
		return nil, nil
	}
	return b.text(n, "custom value")
}

var comparisons = map[string]suit.Comparison{
	">": suit.Greater, ">=": suit.GreaterEqual, "=": suit.Equal, "<=": suit.LesserEqual, "<": suit.Lesser,
}

// versionMatch reads an operator and a version, such as ">=1.2".
func (b *builder) versionMatch(n *yaml.Node) (suit.VersionMatch, error) {
	s, err := b.text(n, "version")
	if err != nil {
		return suit.VersionMatch{}, err
	}
	operator := strings.TrimRight(s[:len(s)-len(strings.TrimLeft(s, "<>="))], " ")
	c, ok := comparisons[operator]
	if !ok {
		return suit.VersionMatch{}, b.errorf(n, "version %q must begin with >, >=, =, <= or <, as in \">=1.2\"", s)
	}
	v, err := suit.ParseVersion(strings.TrimSpace(s[len(operator):]))
	if err != nil {
		return suit.VersionMatch{}, b.errorf(n, "%w", err)
	}
	return suit.VersionMatch{Comparison: c, Value: v}, nil
}

func (b *builder) versionParameter(p *suit.Parameters, n *yaml.Node) error {
	m, err := b.versionMatch(n)
	if err != nil {
		return err
	}
	if err := p.SetVersion(m); err != nil {
		return b.errorf(n, "%w", err)
	}
	return nil
}

func (b *builder) waitParameter(p *suit.Parameters, n *yaml.Node) error {
	var w suit.WaitEvent
	signed := map[string]**int64{"authorization": &w.Authorization, "power": &w.Power, "network": &w.Network}
	unsigned := map[string]**uint64{
		"time": &w.Time, "time-of-day": &w.TimeOfDay, "day-of-week": &w.DayOfWeek,
		"time-of-day-utc": &w.TimeOfDayUTC, "day-of-week-utc": &w.DayOfWeekUTC,
	}
	m, err := b.mapping(n, "wait-info", waitKeys...)
	if err != nil {
		return err
	}
	for key, value := range m {
		switch {
		case signed[key] != nil:
			v, err := b.int(value, key)
			if err != nil {
				return err
			}
			*signed[key] = &v
		case unsigned[key] != nil:
			v, err := b.uint(value, key)
			if err != nil {
				return err
			}
			*unsigned[key] = &v
		default:
			if w.OtherDeviceVersion, err = b.otherDevice(value); err != nil {
				return err
			}
		}
	}
	if err := p.SetWaitInfo(w); err != nil {
		return b.errorf(n, "%w", err)
	}
	return nil
}

func (b *builder) otherDevice(n *yaml.Node) (*suit.OtherDeviceVersion, error) {
	m, err := b.mapping(n, "other-device-version", otherDeviceKeys...)
	if err != nil {
		return nil, err
	}
	if m["device"] == nil || m["versions"] == nil {
		return nil, b.errorf(n, "other-device-version needs device and versions")
	}
	o := &suit.OtherDeviceVersion{}
	if o.Device, err = b.bytes(m["device"], "device"); err != nil {
		return nil, err
	}
	list, err := b.items(m["versions"], "versions")
	if err != nil {
		return nil, err
	}
	for _, item := range list {
		match, err := b.versionMatch(item)
		if err != nil {
			return nil, err
		}
		o.Matches = append(o.Matches, match)
	}
	return o, nil
}

// metadataParameter reads the members that a file system needs; actors are text or numbers.
func (b *builder) metadataParameter(p *suit.Parameters, n *yaml.Node) error {
	m, err := b.mapping(n, "component-metadata", metadataKeys...)
	if err != nil {
		return err
	}
	var meta suit.ComponentMetadata
	for key, dst := range map[string]**uint64{
		"default-permissions": &meta.DefaultPermissions, "modification-time": &meta.ModificationTime,
		"creation-time": &meta.CreationTime,
	} {
		if m[key] == nil {
			continue
		}
		v, err := b.uint(m[key], key)
		if err != nil {
			return err
		}
		*dst = &v
	}
	for key, dst := range map[string]*[]suit.ActorPermission{
		"user-permissions": &meta.UserPermissions, "group-permissions": &meta.GroupPermissions,
		"role-permissions": &meta.RolePermissions,
	} {
		if m[key] == nil {
			continue
		}
		if *dst, err = b.permissions(m[key], key); err != nil {
			return err
		}
	}
	if value := m["file-type"]; value != nil {
		i := slices.Index(fileTypes, value.Value)
		if i < 0 {
			return b.unknown(value, "file-type", fileTypes)
		}
		meta.FileType = suit.FileType(i + 1)
	}
	if value := m["creator"]; value != nil {
		if meta.Creator, err = b.actor(value); err != nil {
			return err
		}
	}
	if err := p.SetComponentMetadata(meta); err != nil {
		return b.errorf(n, "%w", err)
	}
	return nil
}

func (b *builder) permissions(n *yaml.Node, what string) ([]suit.ActorPermission, error) {
	list, err := b.fields(n, what)
	if err != nil {
		return nil, err
	}
	var permissions []suit.ActorPermission
	for _, f := range list {
		actor, err := b.actor(f.key)
		if err != nil {
			return nil, err
		}
		bits, err := b.uint(f.value, "permissions")
		if err != nil {
			return nil, err
		}
		permissions = append(permissions, suit.ActorPermission{Actor: actor, Permissions: bits})
	}
	return permissions, nil
}

const uuidTag = 37

// actor reads a user: a number, a name, {hex: …} or {uuid: …}.
func (b *builder) actor(n *yaml.Node) (suit.ActorID, error) {
	var v any
	var err error
	if n.Kind == yaml.ScalarNode && n.Tag == "!!int" {
		v, err = b.int(n, "actor")
	} else if n.Kind == yaml.ScalarNode {
		v, err = b.text(n, "actor")
	} else {
		form, value, err := b.choice(n, "actor", actorForms...)
		if err != nil {
			return nil, err
		}
		if form == "uuid" {
			u, err := b.uuid(value)
			if err != nil {
				return nil, err
			}
			return cbor.Marshal(cbor.Tag{Number: uuidTag, Content: u[:]})
		}
		if v, err = b.hex(value, "actor"); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, err
	}
	return cbor.Marshal(v)
}
