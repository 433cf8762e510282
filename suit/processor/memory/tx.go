package memory

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
)

// tx works on a clone of the generation it began with.
type tx struct {
	p    *Platform
	base *generation
	g    *generation
	boot int
	done bool
}

// Begin implements [processor.Platform].
func (p *Platform) Begin(ctx context.Context) (processor.Tx, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.faults.crashed {
		return nil, ErrCrashed
	}
	return &tx{p: p, base: p.current, g: p.current.clone(), boot: p.faults.boot}, nil
}

// use checks that the transaction still lives; the caller holds p.mu.
func (t *tx) use() error {
	switch {
	case t.p.faults.crashed || t.boot != t.p.faults.boot:
		return ErrCrashed
	case t.done:
		return ErrDone
	}
	return nil
}

// change is use for what changes state, and counts the step.
func (t *tx) change(s Step) error {
	if err := t.use(); err != nil {
		return err
	}
	return t.p.step(s)
}

func notExist(what string, id suit.ComponentID) error {
	return fmt.Errorf("memory: %s %s: %w", what, id, processor.ErrNotExist)
}

type content struct{ *bytes.Reader }

func (content) Close() error { return nil }

func (t *tx) Content(id suit.ComponentID) (processor.Content, error) {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	if err := t.use(); err != nil {
		return nil, err
	}
	b, ok := t.g.content[id.Key()]
	if !ok {
		return nil, notExist("content of", id)
	}
	return content{bytes.NewReader(b.data)}, nil
}

func (t *tx) Create(id suit.ComponentID) (processor.Writer, error) {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	if err := t.use(); err != nil {
		return nil, err
	}
	return &writer{t: t, id: id.Clone()}, nil
}

func (t *tx) set(id suit.ComponentID, b *blob) {
	t.g.content[id.Key()], t.g.names[id.Key()] = b, id.Clone()
}

func (t *tx) Adopt(id suit.ComponentID, d suit.Digest) error {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	if err := t.use(); err != nil {
		return err
	}
	b := t.p.find(d)
	if b == nil {
		return notExist("content "+d.String()+" for", id)
	}
	if err := t.change(StepAdopt); err != nil {
		return err
	}
	t.set(id, b)
	return nil
}

// find looks content up by its digest; the caller holds p.mu. Content is filed by SHA-256, and
// searched for by any other hash.
func (p *Platform) find(d suit.Digest) *blob {
	if d.Algorithm == cose.AlgSHA256 {
		return p.blobs[string(d.Bytes)]
	}
	for _, b := range p.blobs {
		if d.Matches(b.data) {
			return b
		}
	}
	return nil
}

func (t *tx) Copy(dst, src suit.ComponentID) error {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	b, ok := t.g.content[src.Key()]
	if !ok {
		return notExist("content of", src)
	}
	if err := t.change(StepCopy); err != nil {
		return err
	}
	t.set(dst, b)
	return nil
}

func (t *tx) Swap(a, b suit.ComponentID) error {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	ca, okA := t.g.content[a.Key()]
	cb, okB := t.g.content[b.Key()]
	if !okA || !okB {
		return notExist("one of", slices.Concat(a, b))
	}
	if err := t.change(StepSwap); err != nil {
		return err
	}
	t.set(a, cb)
	t.set(b, ca)
	return nil
}

func (t *tx) Remove(id suit.ComponentID) error {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	if err := t.change(StepRemove); err != nil {
		return err
	}
	delete(t.g.content, id.Key())
	delete(t.g.parameters, id.Key())
	return nil
}

func (t *tx) SetParameters(id suit.ComponentID, v suit.Parameters) error {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	if err := t.change(StepParameters); err != nil {
		return err
	}
	t.g.parameters[id.Key()], t.g.names[id.Key()] = v, id.Clone()
	return nil
}

func (t *tx) Manifest(id suit.ComponentID) (processor.ManifestRecord, error) {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	if err := t.use(); err != nil {
		return processor.ManifestRecord{}, err
	}
	r, ok := t.g.manifests[id.Key()]
	if !ok {
		return processor.ManifestRecord{}, notExist("manifest", id)
	}
	return cloneRecord(r), nil
}

func (t *tx) Manifests() ([]processor.ManifestRecord, error) {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	if err := t.use(); err != nil {
		return nil, err
	}
	var all []processor.ManifestRecord
	for _, r := range t.g.manifests {
		all = append(all, cloneRecord(r))
	}
	return all, nil
}

func (t *tx) PutManifest(r processor.ManifestRecord) error {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	if err := t.change(StepPutManifest); err != nil {
		return err
	}
	key := r.ID.Key()
	t.g.manifests[key], t.g.names[key] = cloneRecord(r), r.ID.Clone()
	if h, ok := t.g.highest[key]; !ok || r.SequenceNumber > h.number {
		t.g.highest[key] = highest{number: r.SequenceNumber, digest: r.Digest.Clone()}
	}
	return nil
}

func (t *tx) RemoveManifest(id suit.ComponentID) error {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	if err := t.change(StepRemoveManifest); err != nil {
		return err
	}
	delete(t.g.manifests, id.Key())
	return nil
}

func (t *tx) HighestSequence(id suit.ComponentID) (uint64, error) {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	if err := t.use(); err != nil {
		return 0, err
	}
	return t.g.highest[id.Key()].number, nil
}

// HighestDigest implements [processor.SequenceDigest].
func (t *tx) HighestDigest(id suit.ComponentID) (suit.Digest, error) {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	if err := t.use(); err != nil {
		return suit.Digest{}, err
	}
	h, ok := t.g.highest[id.Key()]
	if !ok {
		return suit.Digest{}, notExist("sequence number of", id)
	}
	return h.digest.Clone(), nil
}

// Commit replaces the generation. Two transactions that began with the same one cannot both win.
func (t *tx) Commit() error {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	if err := t.change(StepCommit); err != nil {
		return err
	}
	if t.p.current != t.base {
		return fmt.Errorf("memory: the device changed since the transaction began: try again")
	}
	t.p.current, t.done = t.g, true
	t.p.collect()
	// From here on the new generation stands, whatever the caller is told.
	t.p.faults.steps++
	if f := &t.p.faults; f.crashAt != 0 && f.steps >= f.crashAt {
		f.crashed = true
		return ErrCrashed
	}
	return nil
}

func (t *tx) Rollback() error {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	t.done = true
	return nil
}

// collect forgets finished content that no component holds; the caller holds p.mu.
func (p *Platform) collect() {
	used := map[string]*blob{}
	for _, b := range p.current.content {
		used[b.key()] = b
	}
	p.blobs = used
}

// writer buffers until Commit, which is where a real device would sync.
type writer struct {
	t    *tx
	id   suit.ComponentID
	buf  bytes.Buffer
	done bool
}

func (w *writer) Write(b []byte) (int, error) {
	w.t.p.mu.Lock()
	defer w.t.p.mu.Unlock()
	if w.done {
		return 0, ErrDone
	}
	if err := w.t.change(StepWrite); err != nil {
		return 0, err
	}
	return w.buf.Write(b)
}

func (w *writer) Commit() error {
	w.t.p.mu.Lock()
	defer w.t.p.mu.Unlock()
	if w.done {
		return ErrDone
	}
	if err := w.t.change(StepSync); err != nil {
		return err
	}
	b := newBlob(w.buf.Bytes())
	w.t.p.blobs[b.key()] = b
	w.t.set(w.id, b)
	w.done = true
	return nil
}

func (w *writer) Abort() error {
	w.done = true
	return nil
}
