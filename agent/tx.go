package agent

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/go-teep/teep/agent/state"
	"github.com/go-teep/teep/agent/trust"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
	"github.com/go-teep/teep/tee"
)

// tx is one generation being prepared for one TAM. Content is written to blobs at once, which
// nothing names yet; everything else waits in the maps until Commit replaces the record. What
// belongs to another TAM is out of reach. One goroutine uses a tx.
type tx struct {
	a    *Agent
	tam  *trust.TAM
	base *state.Record
	// anchors are those by which it is decided what may be changed: it is not committed under others.
	anchors *trust.Set
	// readOnly is set while an application is started: then nothing may change.
	readOnly bool
	done     bool

	// A nil value is a removal.
	components map[string]*state.Component
	manifests  map[string]*state.Manifest
	sequences  map[string]state.Sequence
}

func (a *Agent) begin(tam *trust.TAM, anchors *trust.Set, readOnly bool) *tx {
	return &tx{
		a: a, tam: tam, base: a.snapshot(), anchors: anchors, readOnly: readOnly,
		components: map[string]*state.Component{}, manifests: map[string]*state.Manifest{},
		sequences: map[string]state.Sequence{},
	}
}

// component returns what the transaction sees: nil if nothing is there.
func (t *tx) component(id suit.ComponentID) (*state.Component, error) {
	c, staged := t.components[id.Key()]
	if !staged {
		if sealed, ok := t.base.Components[id.Key()]; ok {
			c = &sealed
		}
	}
	if c != nil && c.Owner != t.tam.Name {
		return nil, fmt.Errorf("component %s %w", id, errNotOwner)
	}
	return c, nil
}

// change is component for what is about to be changed.
func (t *tx) change(id suit.ComponentID) (state.Component, error) {
	switch {
	case t.done:
		return state.Component{}, errTxDone
	case t.readOnly:
		return state.Component{}, errReadOnly
	case !t.tam.MayManage(id):
		return state.Component{}, fmt.Errorf("component %s %w", id, errNotGranted)
	}
	c, err := t.component(id)
	if err != nil {
		return state.Component{}, err
	}
	if c == nil {
		return state.Component{ID: id.Clone(), Owner: t.tam.Name}, nil
	}
	return *c, nil
}

var errTxDone = errors.New("agent: transaction is over")

// content is what a component that must be there holds.
func (t *tx) content(id suit.ComponentID) (state.Content, error) {
	c, err := t.component(id)
	switch {
	case err != nil:
		return state.Content{}, err
	case c == nil || c.Content == nil:
		return state.Content{}, fmt.Errorf("component %s: %w", id, processor.ErrNotExist)
	}
	return *c.Content, nil
}

// Content implements processor.Tx.
func (t *tx) Content(id suit.ComponentID) (processor.Content, error) {
	c, err := t.content(id)
	if err != nil {
		return nil, err
	}
	blob, err := t.a.store.OpenBlob(c.SHA256)
	if err != nil {
		return nil, fmt.Errorf("component %s: %w", id, err)
	}
	return blob, nil
}

// Create implements processor.Tx.
func (t *tx) Create(id suit.ComponentID) (processor.Writer, error) {
	if _, err := t.change(id); err != nil {
		return nil, err
	}
	blob, err := t.a.store.CreateBlob()
	if err != nil {
		return nil, err
	}
	return &writer{BlobWriter: blob, t: t, id: id.Clone()}, nil
}

type writer struct {
	tee.BlobWriter
	t   *tx
	id  suit.ComponentID
	sum []byte // once it is known
}

// Digest implements processor.Digester: the store names blobs by their digest.
func (w *writer) Digest() suit.Digest { return suit.Digest{Algorithm: cose.AlgSHA256, Bytes: w.sum} }

// Commit makes the blob durable, and the component's content within the transaction.
func (w *writer) Commit() error {
	sum, size, err := w.BlobWriter.Commit()
	if err != nil {
		return err
	}
	w.sum = sum[:]
	return w.t.stage(w.id, &state.Content{SHA256: sum, Size: size})
}

func (t *tx) stage(id suit.ComponentID, content *state.Content) error {
	c, err := t.change(id)
	if err != nil {
		return err
	}
	c.Content = content
	t.components[id.Key()] = &c
	return nil
}

// Adopt implements processor.Tx. Content that the record names is adopted only from components of
// the same TAM: who merely knows the digest of another's secret does not get it. Blobs that
// nothing names were finished by this very Update, before a fault or a crash: the store is swept
// before another one begins.
func (t *tx) Adopt(id suit.ComponentID, d suit.Digest) error {
	missing := fmt.Errorf("content %s for component %s: %w", d, id, processor.ErrNotExist)
	if _, err := t.change(id); err != nil {
		return err
	}
	if d.Algorithm != suit.NewDigest(nil).Algorithm || len(d.Bytes) != 32 {
		return missing // blobs go by SHA-256
	}
	sum := [32]byte(d.Bytes)
	if t.base.Blobs()[sum] && !t.holds(sum) {
		return missing
	}
	size, err := t.a.store.StatBlob(sum)
	if errors.Is(err, tee.ErrNotExist) {
		return missing
	} else if err != nil {
		return err
	}
	return t.stage(id, &state.Content{SHA256: sum, Size: size})
}

// holds tells whether a component of the TAM, or a request to it, has the content.
func (t *tx) holds(sum [32]byte) bool {
	has := func(c state.Component) bool {
		return c.Owner == t.tam.Name && c.Content != nil && c.Content.SHA256 == sum
	}
	for _, c := range t.base.Components {
		if has(c) {
			return true
		}
	}
	for _, q := range t.base.Requested {
		if q.TAM == t.tam.Name && q.Binary != nil && q.Binary.SHA256 == sum {
			return true // an app brought it, for this TAM to say what it is
		}
	}
	for _, c := range t.components {
		if c != nil && has(*c) {
			return true
		}
	}
	return false
}

// Copy implements processor.Tx.
func (t *tx) Copy(dst, src suit.ComponentID) error {
	c, err := t.content(src)
	if err != nil {
		return err
	}
	return t.stage(dst, &c)
}

// Swap implements processor.Tx.
func (t *tx) Swap(a, b suit.ComponentID) error {
	ca, err := t.content(a)
	if err != nil {
		return err
	}
	cb, err := t.content(b)
	if err != nil {
		return err
	}
	if err := t.stage(a, &cb); err != nil {
		return err
	}
	return t.stage(b, &ca)
}

// Remove implements processor.Tx.
func (t *tx) Remove(id suit.ComponentID) error {
	if _, err := t.change(id); err != nil {
		return err
	}
	t.components[id.Key()] = nil
	return nil
}

// SetParameters implements processor.Tx. While an application is started, what its manifest says
// is what it said when it was installed.
func (t *tx) SetParameters(id suit.ComponentID, p suit.Parameters) error {
	if t.readOnly {
		return nil
	}
	c, err := t.change(id)
	if err != nil {
		return err
	}
	if c.Parameters, err = p.MarshalCBOR(); err != nil {
		return err
	}
	t.components[id.Key()] = &c
	return nil
}

func (t *tx) manifest(id suit.ComponentID) (*state.Manifest, error) {
	m, staged := t.manifests[id.Key()]
	if !staged {
		if sealed, ok := t.base.Manifests[id.Key()]; ok {
			m = &sealed
		}
	}
	if m != nil && m.Owner != t.tam.Name {
		return nil, fmt.Errorf("manifest %s %w", id, errNotOwner)
	}
	return m, nil
}

// Manifest implements processor.Tx.
func (t *tx) Manifest(id suit.ComponentID) (processor.ManifestRecord, error) {
	m, err := t.manifest(id)
	if err != nil {
		return processor.ManifestRecord{}, err
	}
	if m == nil {
		return processor.ManifestRecord{}, fmt.Errorf("manifest %s: %w", id, processor.ErrNotExist)
	}
	return toProcessor(*m), nil
}

// Manifests implements processor.Tx: those of the TAM.
func (t *tx) Manifests() ([]processor.ManifestRecord, error) {
	all := maps.Clone(t.base.Manifests)
	for key, m := range t.manifests {
		delete(all, key)
		if m != nil {
			all[key] = *m
		}
	}
	var records []processor.ManifestRecord
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if m := all[key]; m.Owner == t.tam.Name {
			records = append(records, toProcessor(m))
		}
	}
	return records, nil
}

// PutManifest implements processor.Tx.
func (t *tx) PutManifest(r processor.ManifestRecord) error {
	switch {
	case t.done:
		return errTxDone
	case t.readOnly:
		return errReadOnly
	case !t.tam.MayManage(r.ID):
		return fmt.Errorf("manifest %s %w", r.ID, errNotGranted)
	}
	if _, err := t.manifest(r.ID); err != nil {
		return err
	}
	for _, id := range r.Components {
		if _, err := t.component(id); err != nil {
			return err
		}
	}
	m := fromProcessor(r)
	m.Owner = t.tam.Name
	t.manifests[r.ID.Key()] = &m
	if s, ok := t.sequence(r.ID); !ok || r.SequenceNumber >= s.Highest {
		t.sequences[r.ID.Key()] = state.Sequence{ID: m.ID, Highest: r.SequenceNumber, Digest: m.Digest}
	}
	return nil
}

// RemoveManifest implements processor.Tx. The sequence number stays.
func (t *tx) RemoveManifest(id suit.ComponentID) error {
	switch {
	case t.done:
		return errTxDone
	case t.readOnly:
		return errReadOnly
	}
	if _, err := t.manifest(id); err != nil {
		return err
	}
	t.manifests[id.Key()] = nil
	return nil
}

func (t *tx) sequence(id suit.ComponentID) (state.Sequence, bool) {
	if s, ok := t.sequences[id.Key()]; ok {
		return s, true
	}
	s, ok := t.base.Sequences[id.Key()]
	return s, ok
}

// HighestSequence implements processor.Tx. It is the device's, whoever installed it.
func (t *tx) HighestSequence(id suit.ComponentID) (uint64, error) {
	s, _ := t.sequence(id)
	return s.Highest, nil
}

// HighestDigest implements processor.SequenceDigest.
func (t *tx) HighestDigest(id suit.ComponentID) (suit.Digest, error) {
	s, ok := t.sequence(id)
	if !ok {
		return suit.Digest{}, fmt.Errorf("sequence number of manifest %s: %w", id, processor.ErrNotExist)
	}
	return s.Digest, nil
}

// Rollback implements processor.Tx.
func (t *tx) Rollback() error {
	t.done = true
	return nil
}
