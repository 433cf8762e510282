package processor

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
)

// Authority says whose manifests are accepted, and what each signer may do (SUIT §9). Its
// answers must not depend on anything in the manifest: it is asked before that is parsed.
// Implementations are safe for concurrent use.
type Authority interface {
	cose.KeySource
	// Rights are those of the key that a signature was verified with. ok is false for a key
	// that has none, which refuses the manifest.
	Rights(signer *cose.Key) (r Rights, ok bool)
}

// InstalledAuthority is an Authority that holds manifests that are installed against other rules than
// those that come in: a signer's certificate that ended since does not stop what it authorized.
type InstalledAuthority interface {
	Authority
	// Installed is asked in its place for manifests that were accepted before.
	Installed() Authority
}

// Rights are what one signer may do. The zero value permits nothing.
type Rights struct {
	// Components grants access by component identifier. A component of a manifest, and its
	// manifest-component-id, need a grant with a fitting prefix.
	Components []ComponentRights
	// MinSequence and MaxSequence bound the sequence numbers that the signer may use; a
	// MaxSequence of 0 is no upper bound. A trust anchor that is being retired gets one.
	MinSequence, MaxSequence uint64
}

// ComponentRights grants access to every component whose identifier begins with Prefix. The
// empty prefix stands for all components.
type ComponentRights struct {
	Prefix suit.ComponentID
	// Commands lists the conditions and directives that may be applied; nil means all that
	// the processor supports. Commands that only steer the processor (set-component-index,
	// try-each, run-sequence, and the ones that set parameters) are always permitted.
	Commands []suit.CommandCode
	// Parameters lists the parameters that may be set; nil means all. Strict order and soft
	// failure belong to no component and are always permitted.
	Parameters []suit.ParameterLabel
}

// AllComponents grants everything: for a device with one trusted signer (SUIT §9, first model).
func AllComponents() Rights {
	return Rights{Components: []ComponentRights{{Prefix: suit.ComponentID{}}}}
}

// find returns the grants for a component. Several may fit; what one of them permits is permitted.
func (r Rights) find(id suit.ComponentID) []ComponentRights {
	var fit []ComponentRights
	for _, c := range r.Components {
		if id.HasPrefix(c.Prefix) {
			fit = append(fit, c)
		}
	}
	return fit
}

func allowsCommand(grants []ComponentRights, c suit.CommandCode) bool {
	return slices.ContainsFunc(grants, func(g ComponentRights) bool {
		return g.Commands == nil || slices.Contains(g.Commands, c)
	})
}

func allowsParameter(grants []ComponentRights, p suit.ParameterLabel) bool {
	return slices.ContainsFunc(grants, func(g ComponentRights) bool {
		return g.Parameters == nil || slices.Contains(g.Parameters, p)
	})
}

// Signer is one entry of a [Signers] list.
type Signer struct {
	Key    *cose.Key
	Rights Rights
}

// Signers is an Authority that is a fixed list of keys.
type Signers struct {
	keys    cose.KeySet
	entries []Signer
}

// NewSigners makes an Authority of public (or symmetric) keys and their rights. A key that
// appears twice is an error, because it would be unclear which rights count.
func NewSigners(entries ...Signer) (*Signers, error) {
	keys := make([]*cose.Key, len(entries))
	for i, e := range entries {
		if e.Key == nil {
			return nil, fmt.Errorf("processor: signer %d has no key", i)
		}
		if slices.ContainsFunc(entries[:i], func(o Signer) bool { return o.Key.Equal(e.Key) }) {
			return nil, fmt.Errorf("processor: signer %d has the key of an earlier one: merge their rights", i)
		}
		keys[i] = e.Key
	}
	set, err := cose.NewKeySet(keys...)
	if err != nil {
		return nil, fmt.Errorf("processor: signers: %w", err)
	}
	return &Signers{keys: set, entries: slices.Clone(entries)}, nil
}

// VerifiersFor implements [cose.KeySource].
func (s *Signers) VerifiersFor(alg cose.Algorithm, h cose.Headers) []cose.Verifier {
	return s.keys.VerifiersFor(alg, h)
}

// Rights implements [Authority].
func (s *Signers) Rights(signer *cose.Key) (Rights, bool) {
	for _, e := range s.entries {
		if signer != nil && e.Key.Equal(signer) {
			return e.Rights, true
		}
	}
	return Rights{}, false
}

var errNoRights = errors.New("the signature is valid, but its key has no rights here")
