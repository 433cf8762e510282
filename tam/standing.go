package tam

import (
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam/policy"
)

// The records of policy, compiled.
type (
	group struct {
		policy.Group
		match *policy.Condition
	}
	domain struct {
		policy.Domain
		members []*manifest
	}
	removal struct {
		policy.Removal
		match *policy.Condition // nil: all devices
	}
	admission struct {
		policy.Admission
		match *policy.Condition
	}
	rollout struct {
		policy.Rollout
		match    *policy.Condition // nil: all devices
		manifest *manifest
	}
)

// addPolicy compiles the records of policy and hangs them on the manifests that they speak of.
func (c *catalogue) addPolicy(o *offer, compiler *policy.Compiler) error {
	domains := make(map[string][]string)
	byName := make(map[string]*domain)
	for _, d := range o.domains {
		domains[d.Name] = d.Manifests
		one := &domain{Domain: d}
		for _, s := range d.Manifests {
			m, err := c.named(s)
			if err != nil {
				return err
			}
			m.domain = one
			one.members = append(one.members, m)
		}
		byName[d.Name] = one
		c.domains = append(c.domains, one)
	}
	if err := c.addGroups(o.groups, domains, compiler); err != nil {
		return err
	}
	for _, r := range o.removals {
		one := &removal{Removal: r}
		var err error
		if one.match, err = compileOptional(compiler, r.Match); err != nil {
			return fmt.Errorf("removal %s: %w", r.Name, err)
		}
		if d := byName[r.Domain]; d != nil {
			for _, m := range d.members {
				m.removals = append(m.removals, one)
			}
			continue
		}
		if r.Domain != "" {
			continue // the domain is gone, and with it what was meant
		}
		m, err := c.named(r.Manifest)
		if err != nil {
			return err
		}
		m.removals = append(m.removals, one)
	}
	for _, a := range o.admissions {
		match, err := compiler.Compile(a.Match)
		if err != nil {
			return fmt.Errorf("admission rule %s: %w", a.Name, err)
		}
		c.admissions = append(c.admissions, admission{a, match})
	}
	return c.addRollouts(o.rollouts, compiler)
}

func (c *catalogue) addGroups(groups []policy.Group, domains map[string][]string, compiler *policy.Compiler) error {
	for i, g := range groups {
		match, err := compiler.Compile(g.Match)
		if err != nil {
			return fmt.Errorf("group %s: %w", g.Name, err)
		}
		c.groups = append(c.groups, group{g, match})
		for s, says := range g.Expand(domains) {
			m, err := c.named(s)
			if err != nil {
				return err
			}
			m.rules = append(m.rules, policy.Rule{Group: i, Priority: g.Priority, Mode: says.Mode, Sequence: says.Sequence})
		}
	}
	for _, m := range c.order {
		policy.SortRules(m.rules)
	}
	return nil
}

func (c *catalogue) addRollouts(rollouts []policy.Rollout, compiler *policy.Compiler) error {
	for _, r := range rollouts {
		one := &rollout{Rollout: r}
		var err error
		if one.match, err = compileOptional(compiler, r.Match); err != nil {
			return fmt.Errorf("rollout %s: %w", r.Name, err)
		}
		if one.manifest, err = c.named(r.Manifest); err != nil {
			return err
		}
		if one.manifest.rollouts == nil {
			one.manifest.rollouts = make(map[uint64][]*rollout)
		}
		one.manifest.rollouts[r.Sequence] = append(one.manifest.rollouts[r.Sequence], one)
		c.rollouts = append(c.rollouts, one)
	}
	return nil
}

// named finds a manifest by its identifier as text.
func (c *catalogue) named(s string) (*manifest, error) {
	id, err := suit.ParseComponentID(s)
	if err != nil {
		return nil, fmt.Errorf("tam: stored component identifier: %w", err)
	}
	return c.manifest(id), nil
}

func compileOptional(compiler *policy.Compiler, source string) (*policy.Condition, error) {
	if source == "" {
		return nil, nil
	}
	return compiler.Compile(source)
}

// factsOf is what conditions see of a device.
func factsOf(d *Device) *policy.Facts {
	f := &policy.Facts{
		ID: d.ID, UEID: hex.EncodeToString(d.UEID), HWModel: hex.EncodeToString(d.HWModel), HWVersion: d.HWVersion,
		Attestation: d.Attestation.Status.String(), Measurement: hex.EncodeToString(d.Attestation.Measurement),
		Labels: d.Labels, FirstSeen: d.FirstSeen,
		Claims: make(map[string]string, len(d.Attestation.Reasons)), Inventory: make(map[string]uint64, len(d.Inventory)),
	}
	if text, err := attest.FormatOEMID(d.OEMID); err == nil {
		f.OEMID = text
	}
	for _, r := range d.Attestation.Reasons {
		f.Claims[r.Claim] = r.Status.String()
	}
	for _, i := range d.Inventory {
		f.Inventory[i.Manifest.String()] = i.Sequence
	}
	return f
}

// standing is what counts for one device in one revision of the catalogue at one time. Conditions are
// evaluated when something depends on them, and once.
type standing struct {
	catalogue *catalogue
	device    *Device
	now       time.Time
	facts     *policy.Facts
	groups    []membership
}

type membership int8

const (
	notAsked membership = iota
	isMember
	isNoMember
	notEvaluated // the condition failed: no member
)

// holds evaluates a condition; a nil one holds for all.
func (s *standing) holds(c *policy.Condition) (bool, error) {
	if c == nil {
		return true, nil
	}
	if s.facts == nil {
		s.facts = factsOf(s.device)
	}
	return c.Holds(s.facts)
}

func (s *standing) membership(i int) membership {
	if s.groups == nil {
		s.groups = make([]membership, len(s.catalogue.groups))
	}
	if s.groups[i] == notAsked {
		in, err := s.holds(s.catalogue.groups[i].match)
		switch {
		case err != nil:
			s.groups[i] = notEvaluated
		case in:
			s.groups[i] = isMember
		default:
			s.groups[i] = isNoMember
		}
	}
	return s.groups[i]
}

// inGroup tells whether the device is in a group; in one that does not exist, nobody is.
func (s *standing) inGroup(name string) bool {
	for i := range s.catalogue.groups {
		if s.catalogue.groups[i].Name == name {
			return s.membership(i) == isMember
		}
	}
	return false
}

// word is what counts for a manifest on the device, and who said it.
type word struct {
	mode     Mode
	sequence uint64 // the version to hold it at; 0: the newest
	source   string
}

// says finds the word that counts, in the order that package policy gives.
func (s *standing) says(m *manifest) word {
	if r := s.removed(m, 0); r != nil && r.Sequence == 0 {
		return word{ModeForbidden, 0, "removal " + r.Name}
	}
	a := &m.assignment
	w := word{mode: ModeAvailable, source: "nothing is said about it"}
	if a.Mode != "" && len(a.Devices) == 0 {
		w.mode, w.source = a.Mode, "assignment for all devices"
	}
	if a.Mode != "" && s.device.isNamed(a.Devices) {
		w.mode, w.source = a.Mode, "assignment for this device"
	} else {
		for _, rule := range m.rules {
			if s.membership(rule.Group) == isMember {
				w = word{rule.Mode, rule.Sequence, "group " + s.catalogue.groups[rule.Group].Name}
				break
			}
		}
	}
	if w.mode == ModeAvailable {
		if r := s.requiring(m, w.sequence); r != nil {
			w.mode, w.source = ModeRequired, "rollout "+r.Name
		}
	}
	return w
}

// requiring is the rollout that has the device install its version of m without asking, or nil. While that version is
// not published, or no longer offered, it requires nothing: an older one is not what it is about.
func (s *standing) requiring(m *manifest, hold uint64) *rollout {
	for _, v := range slices.Backward(m.candidates) {
		for _, r := range m.rollouts[v.Sequence] {
			if r.Require && (hold == 0 || hold == v.Sequence) && s.admits(r) && s.removed(m, max(v.Sequence, 1)) == nil {
				return r
			}
		}
	}
	return nil
}

// mode is what the device should have of the manifest.
func (s *standing) mode(m *manifest) Mode {
	if m.assignment.Mode == "" && len(m.rules) == 0 && len(m.removals) == 0 && len(m.rollouts) == 0 {
		return ModeAvailable
	}
	return s.says(m).mode
}

// removed returns the emergency removal that applies to a version here, or nil. With sequence 0 it is
// one that applies to all versions, or else to any.
func (s *standing) removed(m *manifest, sequence uint64) *removal {
	var some *removal
	for _, r := range m.removals {
		if in, err := s.holds(r.match); err != nil || !in {
			continue
		}
		if r.Sequence == 0 || sequence != 0 && sequence <= r.Sequence {
			return r
		}
		some = r
	}
	if sequence == 0 {
		return some
	}
	return nil
}

// stage tells whether a rollout chose the device, and for which stage.
func (s *standing) stage(r *rollout) (int, bool) {
	if in, err := s.holds(r.match); err != nil || !in {
		return 0, false
	}
	return r.StageOf(s.device.ID, s.inGroup), true
}

func (s *standing) admits(r *rollout) bool {
	stage, in := s.stage(r)
	return in && r.Admits(stage, s.now)
}

// offered is the version of a manifest that the device may have, or nil, and the rollout that brings it,
// if one does. What it has already stays on offer, whatever became of the rollout that brought it: devices do
// not go back to older versions, and keys and data are for the version that they have.
func (s *standing) offered(m *manifest) (*Version, *rollout) {
	if m.uniform {
		return m.offered, nil
	}
	has, _ := s.device.installed(m.id)
	hold := s.says(m).sequence
	for _, v := range slices.Backward(m.candidates) {
		if s.removed(m, max(v.Sequence, 1)) != nil {
			continue
		}
		if hold == 0 || v.Sequence == hold {
			if may, r := s.may(m, v); may {
				return v, r
			}
		}
		if v.Sequence == has.Sequence {
			return v, nil
		}
	}
	return nil, nil
}

// may tells whether rollouts let the device have a version, and which one does.
func (s *standing) may(m *manifest, v *Version) (bool, *rollout) {
	if m.released(v) {
		return true, nil
	}
	for _, r := range m.rollouts[v.Sequence] {
		if s.admits(r) {
			return true, r
		}
	}
	return false, nil
}

// mustLeave tells why something that is installed has to go, whatever else wants it; empty if nothing
// says so.
func (s *standing) mustLeave(i Installed) string {
	m := s.catalogue.manifests[i.Manifest.Key()]
	if m == nil {
		return ""
	}
	if len(m.removals) > 0 {
		if r := s.removed(m, max(i.Sequence, 1)); r != nil {
			return "removal " + r.Name
		}
	}
	if w := s.says(m); w.mode == ModeForbidden {
		return w.source
	}
	if v := m.version(i.Sequence); v != nil {
		switch w := s.catalogue.distrusted(v); {
		case w == nil || !w.Remove:
		case w == s.catalogue.revoked[v.Envelope]:
			return "revoked certificate"
		default:
			return "withdrawn key"
		}
	}
	return ""
}
