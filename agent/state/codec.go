package state

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/suit"
)

// ErrMalformed says that bytes are not a state record. Sealed state is authenticated before it
// gets here, so this is a defect or an agent that is too old, not an attack.
var ErrMalformed = errors.New("state: malformed record")

// ErrVersion says that a newer agent wrote the record.
var ErrVersion = errors.New("state: record of a version that this agent does not know")

type wireRecord struct {
	Version    uint64          `cbor:"1,keyasint"`
	Anchors    []byte          `cbor:"2,keyasint"`
	Components []wireComponent `cbor:"3,keyasint,omitempty"`
	Manifests  []wireManifest  `cbor:"4,keyasint,omitempty"`
	Sequences  []wireSequence  `cbor:"5,keyasint,omitempty"`
	Requested  []wireRequest   `cbor:"6,keyasint,omitempty"`
	Unneeded   [][][]byte      `cbor:"7,keyasint,omitempty"`
	Leaving    [][][]byte      `cbor:"8,keyasint,omitempty"`
	Pending    *wirePending    `cbor:"9,keyasint,omitempty"`
	TAMs       []wireTAM       `cbor:"10,keyasint,omitempty"`

	Revocations       [][]byte `cbor:"11,keyasint,omitempty"`
	RevocationIssuers [][]byte `cbor:"12,keyasint,omitempty"`
}

type wireComponent struct {
	ID         [][]byte     `cbor:"1,keyasint"`
	Owner      string       `cbor:"2,keyasint"`
	Content    *wireContent `cbor:"3,keyasint,omitempty"`
	Parameters []byte       `cbor:"4,keyasint,omitempty"`
}

type wireContent struct {
	_      struct{} `cbor:",toarray"`
	SHA256 []byte
	Size   uint64
}

type wireManifest struct {
	ID           [][]byte         `cbor:"1,keyasint"`
	Owner        string           `cbor:"2,keyasint"`
	Sequence     uint64           `cbor:"3,keyasint"`
	Envelope     []byte           `cbor:"4,keyasint"`
	Digest       wireDigest       `cbor:"5,keyasint"`
	Signer       []byte           `cbor:"6,keyasint"`
	Root         bool             `cbor:"7,keyasint,omitempty"`
	Dependents   [][][]byte       `cbor:"8,keyasint,omitempty"`
	Components   [][][]byte       `cbor:"9,keyasint,omitempty"`
	Dependencies []wireDependency `cbor:"10,keyasint,omitempty"`
	Prefix       [][]byte         `cbor:"11,keyasint,omitempty"`
}

type wireDependency struct {
	_         struct{} `cbor:",toarray"`
	Component [][]byte
	ID        [][]byte
	Digest    wireDigest
}

type wireDigest struct {
	_         struct{} `cbor:",toarray"`
	Algorithm int64
	Bytes     []byte
}

type wireSequence struct {
	_       struct{} `cbor:",toarray"`
	ID      [][]byte
	Highest uint64
	Digest  wireDigest
}

type wireRequest struct {
	ID          [][]byte `cbor:"1,keyasint"`
	TAM         string   `cbor:"2,keyasint"`
	MinSequence uint64   `cbor:"3,keyasint,omitempty"`

	Binary *wireContent `cbor:"4,keyasint,omitempty"`
}

type wirePending struct {
	Message  wireContent `cbor:"1,keyasint"`
	TAM      string      `cbor:"2,keyasint"`
	Since    int64       `cbor:"3,keyasint"`
	Attempts uint64      `cbor:"4,keyasint,omitempty"`
}

type wireTAM struct {
	Name        string        `cbor:"1,keyasint"`
	LastContact int64         `cbor:"2,keyasint,omitempty"`
	Query       *wireQuery    `cbor:"3,keyasint,omitempty"`
	Failed      bool          `cbor:"4,keyasint,omitempty"`
	Failures    uint64        `cbor:"5,keyasint,omitempty"`
	NotBefore   int64         `cbor:"6,keyasint,omitempty"`
	Reply       []byte        `cbor:"7,keyasint,omitempty"`
	Passport    *wirePassport `cbor:"8,keyasint,omitempty"`
	Updates     [][]byte      `cbor:"9,keyasint,omitempty"`
}

type wireQuery struct {
	DataItems  uint64   `cbor:"1,keyasint"`
	Profile    []int64  `cbor:"2,keyasint"`
	Key        []byte   `cbor:"3,keyasint"`
	Anonymous  bool     `cbor:"4,keyasint,omitempty"`
	KeyExpires int64    `cbor:"5,keyasint,omitempty"`
	Timestamps bool     `cbor:"6,keyasint,omitempty"`
	Formats    []string `cbor:"7,keyasint,omitempty"`
}

type wirePassport struct {
	Format   string `cbor:"1,keyasint"`
	Result   []byte `cbor:"2,keyasint"`
	Received int64  `cbor:"3,keyasint"`
}

// Encode returns the record's bytes. The same record always gives the same bytes.
func (r *Record) Encode() ([]byte, error) {
	w := wireRecord{Version: Version, Anchors: notNil(r.Anchors), Unneeded: ids(sorted(r.Unneeded)), Leaving: ids(sorted(r.Leaving)), Revocations: r.Revocations, RevocationIssuers: r.RevocationIssuers}
	for _, c := range sorted(r.Components) {
		w.Components = append(w.Components, wireComponent{ID: c.ID, Owner: c.Owner, Content: c.Content.wire(), Parameters: c.Parameters})
	}
	for _, m := range sorted(r.Manifests) {
		w.Manifests = append(w.Manifests, m.wire())
	}
	for _, s := range sorted(r.Sequences) {
		w.Sequences = append(w.Sequences, wireSequence{ID: s.ID, Highest: s.Highest, Digest: wireDigestOf(s.Digest)})
	}
	for _, q := range sorted(r.Requested) {
		w.Requested = append(w.Requested, wireRequest{ID: q.ID, TAM: q.TAM, MinSequence: q.MinSequence, Binary: q.Binary.wire()})
	}
	if p := r.Pending; p != nil {
		w.Pending = &wirePending{Message: *p.Message.wire(), TAM: p.TAM, Since: p.Since.Unix(), Attempts: p.Attempts}
	}
	for _, t := range sorted(r.TAMs) {
		w.TAMs = append(w.TAMs, t.wire())
	}
	data, err := cbor.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	return data, nil
}

func (m *Manifest) wire() wireManifest {
	w := wireManifest{
		ID: m.ID, Owner: m.Owner, Sequence: m.Sequence, Envelope: notNil(m.Envelope), Digest: wireDigestOf(m.Digest),
		Signer: notNil(m.Signer), Root: m.Root, Dependents: ids(m.Dependents), Components: ids(m.Components), Prefix: m.Prefix,
	}
	for _, d := range m.Dependencies {
		w.Dependencies = append(w.Dependencies, wireDependency{Component: d.Component, ID: d.ID, Digest: wireDigestOf(d.Digest)})
	}
	return w
}

func (w *wireManifest) manifest() Manifest {
	m := Manifest{
		ID: w.ID, Owner: w.Owner, Sequence: w.Sequence, Envelope: w.Envelope, Digest: w.Digest.digest(),
		Signer: w.Signer, Root: w.Root, Dependents: componentIDs(w.Dependents), Components: componentIDs(w.Components), Prefix: w.Prefix,
	}
	for _, d := range w.Dependencies {
		m.Dependencies = append(m.Dependencies, Dependency{Component: d.Component, ID: d.ID, Digest: d.Digest.digest()})
	}
	return m
}

func wireDigestOf(d suit.Digest) wireDigest {
	return wireDigest{Algorithm: int64(d.Algorithm), Bytes: notNil(d.Bytes)}
}

func (w wireDigest) digest() suit.Digest {
	return suit.Digest{Algorithm: cose.Algorithm(w.Algorithm), Bytes: w.Bytes}
}

func (t *TAM) wire() wireTAM {
	w := wireTAM{Name: t.Name, LastContact: seconds(t.LastContact), Failed: t.Failed, Failures: t.Failures,
		NotBefore: seconds(t.NotBefore), Reply: t.Reply, Updates: t.Updates}
	if q := t.Query; q != nil {
		w.Query = &wireQuery{DataItems: q.DataItems, Profile: q.Profile[:], Key: notNil(q.Key), Anonymous: q.Anonymous,
			KeyExpires: seconds(q.KeyExpires), Timestamps: q.Timestamps, Formats: q.Formats}
	}
	if p := t.Passport; p != nil {
		w.Passport = &wirePassport{Format: p.Format, Result: notNil(p.Result), Received: seconds(p.Received)}
	}
	return w
}

// Decode reads a record. It accepts exactly what Encode produces.
func Decode(data []byte) (*Record, error) {
	var head struct {
		Version uint64 `cbor:"1,keyasint"`
	}
	if err := cbor.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if head.Version != Version {
		return nil, fmt.Errorf("%w: %d, this agent writes %d; start the agent that wrote it, or a newer one", ErrVersion, head.Version, Version)
	}
	var w wireRecord
	if err := cbor.Unmarshal(data, &w); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	r, err := w.record()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	again, err := r.Encode()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if !bytes.Equal(again, data) {
		return nil, fmt.Errorf("%w: unknown, doubled or misordered members", ErrMalformed)
	}
	return r, nil
}

func (w *wireRecord) record() (*Record, error) {
	r := New(w.Anchors)
	r.Revocations, r.RevocationIssuers = w.Revocations, w.RevocationIssuers
	for _, c := range w.Components {
		content, err := c.Content.content()
		if err != nil {
			return nil, fmt.Errorf("component %s: %w", suit.ComponentID(c.ID), err)
		}
		id := suit.ComponentID(c.ID)
		r.Components[id.Key()] = Component{ID: id, Owner: c.Owner, Content: content, Parameters: c.Parameters}
	}
	for _, m := range w.Manifests {
		r.Manifests[suit.ComponentID(m.ID).Key()] = m.manifest()
	}
	for _, s := range w.Sequences {
		id := suit.ComponentID(s.ID)
		r.Sequences[id.Key()] = Sequence{ID: id, Highest: s.Highest, Digest: s.Digest.digest()}
	}
	for _, q := range w.Requested {
		id := suit.ComponentID(q.ID)
		binary, err := q.Binary.content()
		if err != nil {
			return nil, fmt.Errorf("binary for component %s: %w", id, err)
		}
		r.Requested[id.Key()] = Request{ID: id, TAM: q.TAM, MinSequence: q.MinSequence, Binary: binary}
	}
	for _, id := range componentIDs(w.Unneeded) {
		r.Unneeded[id.Key()] = id
	}
	for _, id := range componentIDs(w.Leaving) {
		r.Leaving[id.Key()] = id
	}
	if p := w.Pending; p != nil {
		message, err := p.Message.content()
		if err != nil {
			return nil, fmt.Errorf("pending Update: %w", err)
		}
		r.Pending = &Pending{Message: *message, TAM: p.TAM, Since: time.Unix(p.Since, 0), Attempts: p.Attempts}
	}
	for _, t := range w.TAMs {
		tam, err := t.tam()
		if err != nil {
			return nil, err
		}
		r.TAMs[t.Name] = tam
	}
	return r, nil
}

func (t *wireTAM) tam() (TAM, error) {
	tam := TAM{Name: t.Name, LastContact: instant(t.LastContact), Failed: t.Failed, Failures: t.Failures,
		NotBefore: instant(t.NotBefore), Reply: t.Reply, Updates: t.Updates}
	if q := t.Query; q != nil {
		if len(q.Profile) != 4 {
			return TAM{}, fmt.Errorf("TAM %q: a SUIT profile has 4 algorithms, not %d", t.Name, len(q.Profile))
		}
		tam.Query = &Query{DataItems: q.DataItems, Profile: [4]int64(q.Profile), Key: q.Key, Anonymous: q.Anonymous,
			KeyExpires: instant(q.KeyExpires), Timestamps: q.Timestamps, Formats: q.Formats}
	}
	if p := t.Passport; p != nil {
		tam.Passport = &Passport{Format: p.Format, Result: p.Result, Received: instant(p.Received)}
	}
	return tam, nil
}

func (c *Content) wire() *wireContent {
	if c == nil {
		return nil
	}
	return &wireContent{SHA256: slices.Clone(c.SHA256[:]), Size: uint64(c.Size)}
}

func (w *wireContent) content() (*Content, error) {
	if w == nil {
		return nil, nil
	}
	if len(w.SHA256) != 32 || w.Size > 1<<62 {
		return nil, fmt.Errorf("blob with a digest of %d bytes and size %d", len(w.SHA256), w.Size)
	}
	return &Content{SHA256: [32]byte(w.SHA256), Size: int64(w.Size)}, nil
}

// sorted returns a map's values in the order of its keys.
func sorted[V any](m map[string]V) []V {
	values := make([]V, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		values = append(values, m[key])
	}
	return values
}

func ids(in []suit.ComponentID) [][][]byte {
	out := make([][][]byte, len(in))
	for i, id := range in {
		out[i] = id
	}
	return out
}

func componentIDs(in [][][]byte) []suit.ComponentID {
	if len(in) == 0 {
		return nil
	}
	out := make([]suit.ComponentID, len(in))
	for i, id := range in {
		out[i] = id
	}
	return out
}

// seconds and instant keep the zero time zero.
func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func instant(s int64) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(s, 0)
}

func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
