package tam

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam/policy"
)

// Expectations of the revision that a record has before a change, beside the number itself.
const (
	// ExpectNew: there is no such record yet.
	ExpectNew int64 = 0
	// ExpectAny: whatever is there is replaced.
	ExpectAny int64 = -1
)

// SetGroup creates or replaces a group and returns its new revision. The error is
// [policy.ErrInvalid], a [*policy.ConflictError] when it would contradict what is there, or
// [ErrConflict] when the record is not as expected.
func (t *TAM) SetGroup(ctx context.Context, g policy.Group, expect int64) (int64, error) {
	if err := g.Check(t.compiler); err != nil {
		return 0, err
	}
	return t.save(ctx, KindGroup, g.Name, expect, "group.set", func(o *offer) (any, string, error) {
		return g, g.Describe(), t.sound(o, func(n *offer) { n.setGroup(g) })
	})
}

// DeleteGroup removes a group. What its devices have stays until something else says otherwise.
func (t *TAM) DeleteGroup(ctx context.Context, name string, expect int64) error {
	return t.remove(ctx, KindGroup, name, expect, func(o *offer) error {
		for _, r := range o.rollouts {
			if uses := slices.ContainsFunc(r.Stages, func(s policy.Stage) bool { return s.Group == name }); uses && (r.State.Active() || r.State == policy.StateProposed) {
				return fmt.Errorf("%w: rollout %s has a stage for group %s: abort it first", policy.ErrInvalid, r.Name, name)
			}
		}
		return t.sound(o, func(n *offer) {
			n.groups = slices.DeleteFunc(slices.Clone(n.groups), func(g policy.Group) bool { return g.Name == name })
		})
	})
}

// SetDomain creates or replaces a security domain. Its owner must be a publisher that may sign for every
// manifest, and no manifest may be in another domain.
func (t *TAM) SetDomain(ctx context.Context, d policy.Domain, expect int64) (int64, error) {
	if err := d.Check(); err != nil {
		return 0, err
	}
	return t.save(ctx, KindDomain, d.Name, expect, "domain.set", func(o *offer) (any, string, error) {
		if err := o.ownsAll(&d); err != nil {
			return nil, "", err
		}
		return d, d.Describe(), t.sound(o, func(n *offer) { n.setDomain(d) })
	})
}

// ownsAll checks a domain against its publisher and the other domains.
func (o *offer) ownsAll(d *policy.Domain) error {
	n := slices.IndexFunc(o.publishers, func(p Publisher) bool { return p.Name == d.Owner })
	if n < 0 {
		return fmt.Errorf("%w: there is no publisher %q: a domain is of one publisher", policy.ErrInvalid, d.Owner)
	}
	for _, m := range d.Manifests {
		id, err := suit.ParseComponentID(m)
		if err != nil {
			return fmt.Errorf("%w: %w", policy.ErrInvalid, err)
		}
		if !slices.ContainsFunc(o.publishers[n].Prefixes, id.HasPrefix) {
			return fmt.Errorf("%w: publisher %s may not sign for %s: a domain is of one publisher", policy.ErrInvalid, d.Owner, m)
		}
		for _, other := range o.domains {
			if other.Name != d.Name && slices.Contains(other.Manifests, m) {
				return fmt.Errorf("%w: %s is in domain %s already: a manifest is in one domain", policy.ErrInvalid, m, other.Name)
			}
		}
	}
	return nil
}

// DeleteDomain dissolves a security domain. Its manifests stay where they are.
func (t *TAM) DeleteDomain(ctx context.Context, name string, expect int64) error {
	return t.remove(ctx, KindDomain, name, expect, func(o *offer) error {
		for _, g := range o.groups {
			if slices.ContainsFunc(g.Components, func(c policy.Component) bool { return c.Domain == name }) {
				return fmt.Errorf("%w: group %s speaks of domain %s: change the group first", policy.ErrInvalid, g.Name, name)
			}
		}
		for _, r := range o.removals {
			if r.Domain == name {
				return fmt.Errorf("%w: removal %s is of domain %s: lift it first", policy.ErrInvalid, r.Name, name)
			}
		}
		return nil
	})
}

// SetRemoval orders an emergency removal. It counts from the next message of each device on.
func (t *TAM) SetRemoval(ctx context.Context, r policy.Removal, by policy.Person, expect int64) (int64, error) {
	if err := r.Check(t.compiler); err != nil {
		return 0, err
	}
	r.By, r.At = by.Name, t.clock().UTC()
	return t.save(ctx, KindRemoval, r.Name, expect, "removal.set", func(o *offer) (any, string, error) {
		if r.Domain != "" && !slices.ContainsFunc(o.domains, func(d policy.Domain) bool { return d.Name == r.Domain }) {
			return nil, "", fmt.Errorf("%w: there is no domain %q", policy.ErrInvalid, r.Domain)
		}
		return r, r.Describe(), nil
	})
}

// DeleteRemoval lifts an emergency removal: devices may have again what it took.
func (t *TAM) DeleteRemoval(ctx context.Context, name string, expect int64) error {
	return t.remove(ctx, KindRemoval, name, expect, nil)
}

// SetAdmission creates or replaces a rule that accepts new devices.
func (t *TAM) SetAdmission(ctx context.Context, a policy.Admission, expect int64) (int64, error) {
	if err := a.Check(t.compiler); err != nil {
		return 0, err
	}
	return t.save(ctx, KindAdmission, a.Name, expect, "admission.set", func(*offer) (any, string, error) {
		return a, a.Describe(), nil
	})
}

// DeleteAdmission removes a rule. What it accepted stays accepted.
func (t *TAM) DeleteAdmission(ctx context.Context, name string, expect int64) error {
	return t.remove(ctx, KindAdmission, name, expect, nil)
}

// ChangeAssignment replaces the assignment of a manifest by what change makes of the stored one, nil for none: an assignment,
// or nil for none. newest is the highest sequence number that was published of the manifest. Where that would contradict what is
// there, the error is a [*policy.ConflictError]. If anything is changed meanwhile, change is asked again. It is
// [ErrNotFound] when there is none and shall be none.
func (t *TAM) ChangeAssignment(ctx context.Context, manifest suit.ComponentID, change func(old *Assignment, newest uint64) (*Assignment, error)) (*Assignment, error) {
	for range 10 {
		catalogue, err := t.store.CatalogueRevision(ctx)
		if err != nil {
			return nil, fmt.Errorf("tam: reading the catalogue's revision: %w", err)
		}
		o, err := readOffer(ctx, t.store)
		if err != nil {
			return nil, fmt.Errorf("tam: reading the catalogue: %w", err)
		}
		var old *Assignment
		if n := slices.IndexFunc(o.assignments, func(a Assignment) bool { return a.Manifest.Equal(manifest) }); n >= 0 {
			old = &o.assignments[n]
		}
		a, err := change(old, o.newest(manifest))
		switch {
		case err != nil:
			return nil, err
		case a == nil && old == nil:
			return nil, ErrNotFound
		}
		if err := t.sound(o, func(n *offer) { n.setAssignment(manifest, a) }); err != nil {
			return nil, err
		}
		if err = t.store.SwapAssignment(ctx, manifest, old, a, catalogue); !errors.Is(err, ErrConflict) {
			return a, err
		}
	}
	return nil, ErrConflict
}

// newest is the highest sequence number that was ever published of a manifest; 0 when none was.
func (o *offer) newest(manifest suit.ComponentID) (sequence uint64) {
	for i := range o.versions {
		if v := &o.versions[i]; v.Manifest.Equal(manifest) {
			sequence = max(sequence, v.Sequence)
		}
	}
	return sequence
}

func (o *offer) setGroup(g policy.Group) {
	o.groups = append(slices.DeleteFunc(slices.Clone(o.groups), func(x policy.Group) bool { return x.Name == g.Name }), g)
}

func (o *offer) setDomain(d policy.Domain) {
	o.domains = append(slices.DeleteFunc(slices.Clone(o.domains), func(x policy.Domain) bool { return x.Name == d.Name }), d)
}

func (o *offer) setAssignment(manifest suit.ComponentID, a *Assignment) {
	o.assignments = slices.DeleteFunc(slices.Clone(o.assignments), func(x Assignment) bool { return x.Manifest.Equal(manifest) })
	if a != nil {
		o.assignments = append(o.assignments, *a)
	}
}

// sound checks that a change brings no contradiction that was not there before, and that what it names
// exists.
func (t *TAM) sound(o *offer, change func(*offer)) error {
	n := *o
	change(&n)
	if len(n.groups) > policy.MaxGroups {
		return fmt.Errorf("%w: there are %d groups already, which is the limit: join some", policy.ErrInvalid, policy.MaxGroups)
	}
	for _, g := range n.groups {
		for _, c := range g.Components {
			if c.Domain != "" && !slices.ContainsFunc(n.domains, func(d policy.Domain) bool { return d.Name == c.Domain }) {
				return fmt.Errorf("%w: group %s speaks of domain %s, which does not exist", policy.ErrInvalid, g.Name, c.Domain)
			}
		}
	}
	before, err := t.conflicts(o)
	if err != nil {
		return err
	}
	after, err := t.conflicts(&n)
	if err != nil {
		return err
	}
	if found := policy.New(before, after); len(found) > 0 {
		return &policy.ConflictError{Conflicts: found}
	}
	return nil
}

// conflicts finds the contradictions of an offer.
func (t *TAM) conflicts(o *offer) ([]policy.Conflict, error) {
	c, err := o.build(t.compiler, t.clock())
	if err != nil {
		return nil, err
	}
	domains := make(map[string][]string)
	for _, d := range o.domains {
		domains[d.Name] = d.Manifests
	}
	var defaults []policy.Default
	for _, a := range o.assignments {
		if len(a.Devices) == 0 {
			defaults = append(defaults, policy.Default{Manifest: a.Manifest.String(), Mode: a.Mode})
		}
	}
	return policy.Conflicts(o.groups, defaults, domains, c.needs), nil
}

// needs implements [policy.Dependencies].
func (c *catalogue) needs(manifest string, sequence uint64) []policy.Need {
	m, err := c.named(manifest)
	if err != nil {
		return nil
	}
	var needs []policy.Need
	for _, v := range slices.Backward(m.candidates) {
		if sequence != 0 && v.Sequence != sequence {
			continue
		}
		for _, id := range v.Dependencies {
			need := policy.Need{Manifest: id.String()}
			// Of a version that a rollout brings, the rollout decides whether what it names fits.
			if named := c.byDigest[string(v.pin(id))]; named != nil && (sequence != 0 || m.released(v)) {
				need.Sequence = named.Sequence
			}
			needs = append(needs, need)
		}
		break
	}
	return needs
}

// save stores a record that check made, if nothing that it was checked against changed meanwhile.
func (t *TAM) save(ctx context.Context, kind RecordKind, name string, expect int64, action string, check func(*offer) (any, string, error)) (int64, error) {
	return t.saveWith(ctx, kind, name, expect, action, nil, check)
}

// saveWith is save, and appends an event to the feed.
func (t *TAM) saveWith(ctx context.Context, kind RecordKind, name string, expect int64, action string, e *Event, check func(*offer) (any, string, error)) (int64, error) {
	for range 10 {
		catalogue, o, revision, err := t.before(ctx, kind, name)
		if err != nil {
			return 0, err
		}
		if expect != ExpectAny && revision != expect {
			return 0, ErrConflict
		}
		v, detail, err := check(o)
		if err != nil {
			return 0, err
		}
		data, err := json.Marshal(v)
		if err != nil {
			return 0, fmt.Errorf("tam: %s %s: %w", kind, name, err)
		}
		err = t.store.ChangePolicy(ctx, PolicyChange{
			Kind: kind, Name: name, Revision: revision, Data: data, Catalogue: catalogue, Action: action, Detail: detail, Event: e,
		})
		if !errors.Is(err, ErrConflict) {
			if revision == 0 {
				revision = catalogue // where new records begin
			}
			return revision + 1, err
		}
	}
	return 0, ErrConflict
}

func (t *TAM) remove(ctx context.Context, kind RecordKind, name string, expect int64, check func(*offer) error) error {
	for range 10 {
		catalogue, o, revision, err := t.before(ctx, kind, name)
		switch {
		case err != nil:
			return err
		case revision == 0:
			return ErrNotFound
		case expect != ExpectAny && revision != expect:
			return ErrConflict
		}
		if check != nil {
			if err := check(o); err != nil {
				return err
			}
		}
		err = t.store.ChangePolicy(ctx, PolicyChange{
			Kind: kind, Name: name, Revision: revision, Catalogue: catalogue, Action: string(kind) + ".delete", Detail: "removed",
		})
		if !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return ErrConflict
}

// before reads what a change is checked against. The revision of the catalogue first: what is read
// after it may be newer, and then the change is tried again.
func (t *TAM) before(ctx context.Context, kind RecordKind, name string) (catalogue int64, o *offer, revision int64, err error) {
	if catalogue, err = t.store.CatalogueRevision(ctx); err != nil {
		return 0, nil, 0, fmt.Errorf("tam: reading the catalogue's revision: %w", err)
	}
	if o, err = readOffer(ctx, t.store); err != nil {
		return 0, nil, 0, fmt.Errorf("tam: reading the catalogue: %w", err)
	}
	r, err := t.store.PolicyRecord(ctx, kind, name)
	switch {
	case errors.Is(err, ErrNotFound):
		return catalogue, o, 0, nil
	case err != nil:
		return 0, nil, 0, fmt.Errorf("tam: reading %s %s: %w", kind, name, err)
	}
	return catalogue, o, r.Revision, nil
}

// NewestSequence is the highest sequence number that was ever published of a manifest; 0 when none was.
func (t *TAM) NewestSequence(ctx context.Context, manifest suit.ComponentID) (uint64, error) {
	c, err := t.currentCatalogue(ctx)
	if err != nil {
		return 0, err
	}
	m := c.manifests[manifest.Key()]
	if m == nil || len(m.versions) == 0 {
		return 0, nil
	}
	return m.versions[len(m.versions)-1].Sequence, nil
}
