package state

import (
	"maps"
	"slices"
	"time"

	"github.com/go-teep/teep/suit"
)

// Version is the only version of the record so far. A newer agent that changes the record raises
// it and reads the older ones; an older agent refuses what it does not know.
const Version = 1

// Record is the state of one agent. Maps are keyed by suit.ComponentID.Key, except TAMs, which is
// keyed by the name of the TAM's trust anchor.
//
//	state-record = {
//	  1: 1,                           ; version
//	  2: bstr .cbor anchor-set,       ; trust anchors, see package trust
//	  ? 3: [+ component],
//	  ? 4: [+ manifest],
//	  ? 5: [+ highest-sequence],
//	  ? 6: [+ requested],
//	  ? 7: [+ SUIT_Component_Identifier],  ; installed, and no longer needed by any application
//	  ? 8: [+ SUIT_Component_Identifier],  ; left; their sealed application data is to be removed
//	  ? 9: pending,
//	  ? 10: [+ tam],
//	  ? 11: [+ bstr],                 ; X.509 CRLs in force, in DER
//	  ? 12: [+ bstr],                 ; certificates below the authorities that issued some of them, in DER
//	}
type Record struct {
	Anchors    []byte
	Components map[string]Component
	Manifests  map[string]Manifest
	// Sequences are the highest sequence numbers ever installed. They outlive their manifests:
	// what was removed does not come back older (SUIT §8.4.2).
	Sequences map[string]Sequence
	Requested map[string]Request
	Unneeded  map[string]suit.ComponentID
	Leaving   map[string]suit.ComponentID
	Pending   *Pending
	TAMs      map[string]TAM
	// Revocations are the revocation lists in force that an authority of the anchors signed, or one of
	// RevocationIssuers, which were seen below an authority. They are kept because files come from
	// outside: an older one, or none, takes no revocation back.
	Revocations       [][]byte
	RevocationIssuers [][]byte
}

// Component is a component that the device has.
//
//	component = {
//	  1: SUIT_Component_Identifier,
//	  2: tstr,                        ; owner: the name of the TAM's trust anchor
//	  ? 3: [sha256: bstr .size 32, size: uint],
//	  ? 4: bstr .cbor SUIT_Parameters,
//	}
type Component struct {
	ID    suit.ComponentID
	Owner string
	// Content names the blob that the component holds; nil if only parameters are known.
	Content *Content
	// Parameters is what the manifest said of it, an encoded SUIT_Parameters map, or nil.
	Parameters []byte
}

// Content names a blob.
type Content struct {
	SHA256 [32]byte
	Size   int64
}

// Manifest is an installed manifest.
//
//	manifest = {
//	  1: SUIT_Component_Identifier,
//	  2: tstr,                        ; owner
//	  3: uint,                        ; sequence number
//	  4: bstr .cbor SUIT_Envelope,    ; without integrated payloads
//	  5: [int, bstr],                 ; SUIT_Digest of the bstr-wrapped manifest
//	  6: bstr,                        ; thumbprint of the signer's key
//	  ? 7: bool,                      ; root: installed for its own sake
//	  ? 8: [+ SUIT_Component_Identifier],  ; dependents
//	  ? 9: [+ SUIT_Component_Identifier],  ; components
//	  ? 10: [+ dependency],
//	  ? 11: [+ bstr],                 ; prefix of its component identifiers
//	}
type Manifest struct {
	ID         suit.ComponentID
	Owner      string
	Sequence   uint64
	Envelope   []byte
	Digest     suit.Digest
	Signer     []byte
	Root       bool
	Dependents []suit.ComponentID
	Components []suit.ComponentID
	// Dependencies are the manifests that this one needs; Prefix stands before its component
	// identifiers (trust domains §SUIT_Dependencies), usually nil.
	Dependencies []Dependency
	Prefix       suit.ComponentID
}

// Dependency is one edge to a manifest that is needed.
//
//	dependency = [
//	  SUIT_Component_Identifier,      ; how the dependent speaks of it
//	  SUIT_Component_Identifier,      ; the manifest
//	  [int, bstr],                    ; SUIT_Digest
//	]
type Dependency struct {
	Component, ID suit.ComponentID
	Digest        suit.Digest
}

// Sequence is the highest sequence number that a manifest component identifier ever had, and the
// digest of the manifest that had it.
//
//	highest-sequence = [SUIT_Component_Identifier, uint, [int, bstr]]
type Sequence struct {
	ID      suit.ComponentID
	Highest uint64
	Digest  suit.Digest
}

// Request is a component that an application on the device asked for and that is not installed.
//
//	requested = { 1: SUIT_Component_Identifier, 2: tstr, ? 3: uint, ? 4: [sha256: bstr .size 32, size: uint] }
type Request struct {
	ID suit.ComponentID
	// TAM is the name of the trust anchor that was chosen to serve it.
	TAM string
	// MinSequence is the smallest acceptable manifest sequence number; 0 for any.
	MinSequence uint64
	// Binary names the blob with the binary that the application brought, of the version with
	// that sequence number; nil if it brought none.
	Binary *Content
}

// Pending is an Update that was accepted and is not finished. Its message waits in a blob, so
// that an agent that was killed goes on with it.
//
//	pending = {
//	  1: [sha256: bstr .size 32, size: uint],
//	  2: tstr,                        ; TAM
//	  3: int,                         ; accepted at, seconds since 1970
//	  ? 4: uint,                      ; how often it was begun
//	}
type Pending struct {
	Message  Content
	TAM      string
	Since    time.Time
	Attempts uint64
}

// TAM is what the agent remembers of a TAM.
//
//	tam = {
//	  1: tstr,                        ; name of the trust anchor
//	  ? 2: int,                       ; contact was last begun at, seconds since 1970
//	  ? 3: query,
//	  ? 4: bool,                      ; the transport failed since the last QueryRequest
//	  ? 5: uint,                      ; consecutive failures
//	  ? 6: int,                       ; not to be contacted before, seconds since 1970
//	  ? 7: bstr,                      ; a finished reply that may not have reached it
//	  ? 8: passport,
//	  ? 9: [+ bstr .size 16],         ; Updates that are finished, oldest first
//	}
type TAM struct {
	Name        string
	LastContact time.Time
	Query       *Query
	Failed      bool
	Failures    uint64
	NotBefore   time.Time
	Reply       []byte
	Passport    *Passport
	// Updates are truncated SHA-256 digests of the last Updates that were finished, so that a
	// replay is known as one.
	Updates [][]byte
}

// Query is what the last QueryRequest of a TAM said, as far as it matters later: how to protect
// SUIT Reports, and whether an unsolicited QueryResponse is possible (TEEP §7.2).
//
//	query = {
//	  1: uint,                        ; data-item-requested
//	  2: [int, int, int, int],        ; the SUIT profile that was chosen
//	  3: bstr,                        ; thumbprint of the key that signed
//	  ? 4: bool,                      ; it carried neither token nor challenge
//	  ? 5: int,                       ; the key's certificate expires at, seconds since 1970
//	  ? 6: bool,                      ; timestamps count as fresh
//	  ? 7: [ + tstr ],                ; media types that it wants Evidence to be
//	}
type Query struct {
	DataItems  uint64
	Profile    [4]int64
	Key        []byte
	Anonymous  bool
	KeyExpires time.Time
	Timestamps bool
	Formats    []string
}

// Passport is an Attestation Result that a TAM passed back, for other relying parties
// (TEEP §4.4, RFC 9334 §5.1).
//
//	passport = { 1: tstr, 2: bstr, 3: int }  ; media type, result, received at
type Passport struct {
	Format   string
	Result   []byte
	Received time.Time
}

// New returns the record of an agent that has trust anchors and nothing else.
func New(anchors []byte) *Record {
	return &Record{
		Anchors:    anchors,
		Components: map[string]Component{},
		Manifests:  map[string]Manifest{},
		Sequences:  map[string]Sequence{},
		Requested:  map[string]Request{},
		Unneeded:   map[string]suit.ComponentID{},
		Leaving:    map[string]suit.ComponentID{},
		TAMs:       map[string]TAM{},
	}
}

// Clone returns a copy whose maps can be edited. Values are shared: they are replaced, not edited.
func (r *Record) Clone() *Record {
	c := *r
	c.Components = maps.Clone(r.Components)
	c.Manifests = maps.Clone(r.Manifests)
	c.Sequences = maps.Clone(r.Sequences)
	c.Requested = maps.Clone(r.Requested)
	c.Unneeded = maps.Clone(r.Unneeded)
	c.Leaving = maps.Clone(r.Leaving)
	c.TAMs = maps.Clone(r.TAMs)
	if r.Pending != nil {
		p := *r.Pending
		c.Pending = &p
	}
	return &c
}

// Blobs returns the SHA-256 of every blob that the record names.
func (r *Record) Blobs() map[[32]byte]bool {
	named := make(map[[32]byte]bool, len(r.Components)+len(r.Requested)+1)
	for _, q := range r.Requested {
		if q.Binary != nil {
			named[q.Binary.SHA256] = true
		}
	}
	for _, c := range r.Components {
		if c.Content != nil {
			named[c.Content.SHA256] = true
		}
	}
	if r.Pending != nil {
		named[r.Pending.Message.SHA256] = true
	}
	return named
}

// Installer returns the manifest that installed a component: the one that lists it. Of several,
// which happens when a manifest and its dependency speak of the same component, the dependency
// counts.
func (r *Record) Installer(id suit.ComponentID) (Manifest, bool) {
	var found *Manifest
	for _, key := range slices.Sorted(maps.Keys(r.Manifests)) {
		m := r.Manifests[key]
		if !m.Lists(id) {
			continue
		}
		if found == nil || slices.ContainsFunc(m.Dependents, found.ID.Equal) {
			found = &m
		}
	}
	if found == nil {
		return Manifest{}, false
	}
	return *found, true
}

// Lists tells whether the manifest installed or refers to the component.
func (m *Manifest) Lists(id suit.ComponentID) bool {
	return slices.ContainsFunc(m.Components, id.Equal)
}

// Installed tells whether the device holds content for the component.
func (r *Record) Installed(id suit.ComponentID) bool {
	c, ok := r.Components[id.Key()]
	return ok && c.Content != nil
}
