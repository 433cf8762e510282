package processor

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/suit"
)

// run is one procedure in one transaction. It is the machine of the interpreter.
type run struct {
	p    *Processor
	ctx  context.Context
	x    *interpreter
	tx   Tx
	rep  *reporter
	root *node
	// proc is what is being done; phases are its sections.
	proc   Procedure
	dryRun bool
	// pending is told before a component is started; nil if nobody asked.
	pending func(k *call) error

	// group are the manifests that this run installs or replaces, by identifier: their
	// references do not stand in its way.
	group map[string]bool
	// nodes are the manifests of the tree by identifier, for finding two versions of one.
	nodes map[string]*node
	// incoming are envelopes of dependencies that were fetched, available those that came
	// along, in the order given.
	incoming  map[string]*suit.Envelope
	available []*suit.Envelope
	// unlinked are components that a manifest gave up in this run.
	unlinked map[string]map[string]bool
	// cause is the unlink because of which manifests are being removed; nil when the procedure ends.
	cause *suit.Record
	// consumed is the encryption info that decrypted a dependency's envelope.
	consumed map[string]string
	origin   *origins
	// changed tells that there is something to commit.
	changed bool
	refs    map[string][]suit.ComponentID
	stored  int64
	buf     []byte
}

func (p *Processor) newRun(ctx context.Context, tx Tx, proc Procedure, rep *reporter, trail func(Step)) *run {
	r := &run{p: p, ctx: ctx, tx: tx, rep: rep, proc: proc,
		group: map[string]bool{}, nodes: map[string]*node{}, incoming: map[string]*suit.Envelope{},
		unlinked: map[string]map[string]bool{}, consumed: map[string]string{}, origin: newOrigins()}
	r.x = newInterpreter(ctx, r, p.cfg.Limits)
	r.x.record = rep.record
	if trail != nil {
		r.x.trail = trail
	}
	return r
}

// authenticate verifies an envelope and finds what its signers may do. Nothing inside the
// manifest was parsed before this (SUIT §6.2). installed says that this very manifest is installed.
func (p *Processor) authenticate(e *suit.Envelope, installed bool) (*suit.Authenticated, Rights, error) {
	authority := p.cfg.Authority
	if i, ok := authority.(InstalledAuthority); ok && installed {
		authority = i.Installed()
	}
	a, err := e.Verify(authority, suit.VerifyOptions{Algorithms: p.cfg.Algorithms, MACKeys: p.cfg.MACKeys})
	if err != nil {
		return nil, Rights{}, authenticationFailure(err)
	}
	var (
		rights Rights
		known  bool
		number = a.Manifest.SequenceNumber
		bounds error
	)
	for _, key := range a.Signers {
		r, ok := authority.Rights(key)
		if !ok {
			continue
		}
		known = true
		if number < r.MinSequence || r.MaxSequence != 0 && number > r.MaxSequence {
			bounds = fmt.Errorf("the signer may not use sequence number %d: it is limited to %d and above, up to %d (0: any)",
				number, r.MinSequence, r.MaxSequence)
			continue
		}
		rights.Components = append(rights.Components, r.Components...)
	}
	switch {
	case !known:
		return nil, Rights{}, &Failure{Reason: suit.ReasonUnauthorised, Err: errNoRights}
	case rights.Components == nil && bounds != nil:
		return nil, Rights{}, &Failure{Reason: suit.ReasonUnauthorised, Err: bounds}
	}
	return a, rights, nil
}

func authenticationFailure(err error) *Failure {
	f := &Failure{Reason: suit.ReasonFor(err), Err: err}
	if f.Reason == suit.ReasonUnauthorised && errors.Is(err, cose.ErrAlgorithm) && !errors.Is(err, cose.ErrSignature) {
		f.Reason = suit.ReasonAlgUnsupported
	}
	return f
}

func signerOf(a *suit.Authenticated) []byte {
	if a.Signer == nil {
		return nil
	}
	return a.Signer.Thumbprint()
}

// parse reads the outside of an envelope within the limits.
func (p *Processor) parse(data []byte) (*suit.Envelope, error) {
	if int64(len(data)) > p.cfg.Limits.Envelope {
		return nil, fail(suit.ReasonOperationFailed, "%w: the envelope has %d bytes, at most %d are accepted",
			ErrLimit, len(data), p.cfg.Limits.Envelope)
	}
	e, err := suit.ParseEnvelope(data)
	if err != nil {
		return nil, asFailure(err)
	}
	return e, nil
}

// prepare makes the node of an authenticated manifest and checks everything that does not need
// the transaction.
func (p *Processor) prepare(a *suit.Authenticated, rights Rights, parent *node, id, prefix suit.ComponentID) (*node, error) {
	n, err := newNode(parent, a.Manifest, id, prefix)
	if err != nil {
		return nil, err
	}
	n.envelope, n.rights, n.digest, n.signer = a.Envelope, rights, a.Envelope.Digest, signerOf(a)
	return n, nil
}

// checkID holds the place where a manifest is recorded against the rights of its signer: without
// that, a manifest could put itself where another author's belongs (trust domains §10).
func checkID(n *node) error {
	if len(n.rights.find(n.id)) == 0 {
		f := fail(suit.ReasonComponentUnauthorised, "the signer has no rights to this manifest-component-id")
		f.Manifest, f.Component = n.path, n.id
		return f
	}
	return nil
}

// checkSequence compares with the highest number that was ever committed (SUIT §8.4.2). It tells
// whether this very manifest is installed.
func (r *run) checkSequence(n *node) (installed bool, err error) {
	record, err := r.tx.Manifest(n.id)
	present := err == nil
	if err != nil && !errors.Is(err, ErrNotExist) {
		return false, fmt.Errorf("read manifest record: %w", err)
	}
	if present && record.Digest.Equal(n.digest) {
		return true, nil
	}
	highest, err := r.tx.HighestSequence(n.id)
	if err != nil {
		return false, fmt.Errorf("read sequence number: %w", err)
	}
	last, known, err := r.highestDigest(n.id)
	if err != nil {
		return false, err
	}
	number := n.manifest.SequenceNumber
	switch {
	case number > highest:
		return false, nil
	case number < highest, present, known && !last.Equal(n.digest):
	case known, highest == 0:
		// The same manifest again after it was uninstalled, or number 0 where there was none.
		return false, nil
	}
	f := fail(suit.ReasonOperationFailed, "%w: this is %d, installed was %d", ErrDowngrade, number, highest)
	f.Manifest, f.Component = n.path, n.id
	return false, f
}

func (r *run) highestDigest(id suit.ComponentID) (d suit.Digest, known bool, err error) {
	tx, ok := r.tx.(SequenceDigest)
	if !ok {
		return d, false, nil
	}
	d, err = tx.HighestDigest(id)
	if errors.Is(err, ErrNotExist) {
		return d, false, nil
	}
	if err != nil {
		return d, false, fmt.Errorf("read sequence number: %w", err)
	}
	return d, true, nil
}

// unpinned checks that no manifest outside of this run needs the version that is there.
func (r *run) unpinned(n *node) error {
	record, err := r.tx.Manifest(n.id)
	if errors.Is(err, ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read manifest record: %w", err)
	}
	for _, d := range record.Dependents {
		if !r.group[d.Key()] {
			f := fail(suit.ReasonOperationFailed, "%w: %s depends on the installed version", ErrReferenced, d)
			f.Manifest, f.Component = n.path, n.id
			return f
		}
	}
	return nil
}

// manifestDigest is the digest of the manifest in its byte string (SUIT §8.3).
func manifestDigest(e *suit.Envelope, want suit.Digest) (suit.Digest, error) {
	wrapped, err := cbor.Marshal(e.ManifestBytes)
	if err != nil {
		return suit.Digest{}, err
	}
	return suit.NewDigestWith(want.Algorithm, wrapped)
}
