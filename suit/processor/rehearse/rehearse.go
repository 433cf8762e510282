package rehearse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
	"github.com/go-teep/teep/suit/processor/memory"
)

// Run is what is rehearsed.
type Run struct {
	// Envelope holds the manifest. Required.
	Envelope []byte
	// Procedure is what is done with it. What cannot be done with a manifest that is not
	// installed is done after installing it.
	Procedure processor.Procedure
	// ManifestID stands in for the manifest-component-id of a manifest that has none.
	ManifestID suit.ComponentID
	// Dependencies are envelopes that came along.
	Dependencies [][]byte
	// Payloads, DecryptKeys and Signers are added to those of the description.
	Payloads    map[string][]byte
	DecryptKeys cose.DecryptKeys
	Signers     []processor.Signer
	// InsecureUnverified runs manifests whoever signed them, or nobody, as if a key with all
	// rights had signed them. The digests in the envelopes are checked all the same.
	InsecureUnverified bool
	// Now is the time of a device whose description has none.
	Now time.Time
	// Rand is needed with InsecureUnverified.
	Rand io.Reader
}

// Outcome is what the device would have done.
type Outcome struct {
	// Procedure is the one that ended: the update, if the manifest had to be installed first and
	// could not be.
	Procedure processor.Procedure
	// Manifest is what the envelope holds, also if nobody whom the device trusts has signed it;
	// nil if it cannot be parsed.
	Manifest *suit.Manifest
	// Trail are the commands of the procedure, Report what the device would send.
	Trail  []processor.Step
	Report *suit.Report
	// Failure is why the device refuses; nil if it does not.
	Failure *processor.Failure
	// Fetches and Invocations are those of the procedure.
	Fetches     []memory.Fetch
	Invocations []memory.Invocation
	// Changes are those that the procedure left on the device.
	Changes []Change
}

// ErrNoSigners says that nobody's manifests are accepted.
var ErrNoSigners = errors.New("rehearse: the device trusts nobody: describe its signers")

// Rehearse runs a manifest on the device. The error is about the description or the run: that the
// device refuses the manifest is an outcome.
func (d *Device) Rehearse(ctx context.Context, r Run) (*Outcome, error) {
	s, err := d.stage(&r)
	if err != nil {
		return nil, err
	}
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	o := &Outcome{Procedure: processor.ProcedureUpdate, Manifest: peek(r.Envelope)}
	if r.Procedure != processor.ProcedureUpdate {
		id, err := s.install(ctx, o)
		if err != nil || o.Failure != nil {
			return o, err
		}
		o.Procedure = r.Procedure
		return o, s.watch(o, func(trail func(processor.Step)) (*suit.Report, error) { return s.installed(ctx, id, trail) })
	}
	return o, s.watch(o, func(trail func(processor.Step)) (*suit.Report, error) {
		return s.update(ctx, r.Envelope, r.ManifestID, trail)
	})
}

// peek parses a manifest for the outcome's sake; nothing is decided by it.
func peek(envelope []byte) *suit.Manifest {
	e, err := suit.ParseEnvelope(envelope)
	if err != nil {
		return nil
	}
	m, err := e.UnverifiedManifest()
	if err != nil {
		return nil
	}
	return m
}

// stage is one device while it is rehearsed on.
type stage struct {
	d        *Device
	r        *Run
	platform *platform
	p        *processor.Processor
	// sign prepares envelopes for an authority that checks nothing.
	sign func([]byte) []byte
}

func (d *Device) stage(r *Run) (*stage, error) {
	s := &stage{d: d, r: r, platform: newPlatform(d, r), sign: func(e []byte) []byte { return e }}
	switch r.Procedure {
	case processor.ProcedureUpdate, processor.ProcedureValidate, processor.ProcedureInvoke, processor.ProcedureUninstall:
	default:
		return nil, fmt.Errorf("rehearse: procedure %d does not exist", r.Procedure)
	}
	if len(d.Components) == 0 {
		return nil, errors.New("rehearse: the device has no components: name the prefixes of their identifiers")
	}
	authority, err := s.trust()
	if err != nil {
		return nil, err
	}
	cfg := processor.Config{Platform: s.platform, Authority: authority, Components: d.Components, Limits: d.Limits,
		ImplicitDependencyIntegrity: d.ImplicitDependencyIntegrity}
	cfg.Algorithms = cose.DefaultSignatureAlgorithms()
	for _, signer := range slices.Concat(d.Signers, r.Signers) {
		// Who trusts such a key means its algorithm.
		if alg := signer.Key.Alg(); alg == cose.AlgMLDSA65 || alg == cose.AlgHSSLMS {
			cfg.Algorithms = append(cfg.Algorithms, alg)
		}
	}
	if d.InsecureOlderAlgorithms {
		cfg.Algorithms = append(cfg.Algorithms, cose.AlgES256, cose.AlgES384, cose.AlgEdDSA)
	}
	s.p, err = processor.New(cfg)
	return s, err
}

func (s *stage) trust() (processor.Authority, error) {
	if s.r.InsecureUnverified {
		u, err := newUnverified(s.r.Rand)
		if err != nil {
			return nil, err
		}
		s.sign = func(e []byte) []byte { return u.sign(s.r.Rand, e) }
		return u, nil
	}
	signers := append(slices.Clone(s.d.Signers), s.r.Signers...)
	if len(signers) == 0 {
		return nil, ErrNoSigners
	}
	return processor.NewSigners(signers...)
}

// prepare installs the manifests of the description.
func (s *stage) prepare(ctx context.Context) error {
	for _, m := range s.d.Manifests {
		if m.Envelope == nil {
			if err := s.recall(ctx, m); err != nil {
				return fmt.Errorf("%v: %w", m, err)
			}
			continue
		}
		if _, err := s.update(ctx, m.Envelope, m.ID, nil); err != nil {
			return fmt.Errorf("%v: the device would not have installed it: %w", m, err)
		}
	}
	return nil
}

// recall records a manifest that is known by its number.
func (s *stage) recall(ctx context.Context, m Manifest) error {
	tx, err := s.platform.Begin(ctx)
	if err != nil {
		return err
	}
	record := processor.ManifestRecord{ID: m.ID, SequenceNumber: m.SequenceNumber, Root: true, Components: m.Components,
		Digest: suit.NewDigest(nil)}
	if err := tx.PutManifest(record); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func (s *stage) update(ctx context.Context, envelope []byte, id suit.ComponentID, trail func(processor.Step)) (*suit.Report, error) {
	o := processor.UpdateOptions{ManifestID: id, Trail: trail}
	for _, d := range s.r.Dependencies {
		o.Available = append(o.Available, s.sign(d))
	}
	return s.p.Update(ctx, s.sign(envelope), o)
}

func (s *stage) installed(ctx context.Context, id suit.ComponentID, trail func(processor.Step)) (*suit.Report, error) {
	o := processor.Options{Trail: trail}
	switch s.r.Procedure {
	case processor.ProcedureValidate:
		return s.p.Validate(ctx, id, o)
	case processor.ProcedureInvoke:
		return s.p.Invoke(ctx, id, o)
	}
	return s.p.Uninstall(ctx, id, o)
}

// install makes sure that the manifest is there, and returns where it is recorded. The device's
// refusal is put into the outcome.
func (s *stage) install(ctx context.Context, o *Outcome) (suit.ComponentID, error) {
	if e, err := suit.ParseEnvelope(s.r.Envelope); err == nil {
		for _, record := range s.platform.State().Manifests {
			if record.Digest.Equal(e.Digest) {
				return record.ID, nil
			}
		}
	}
	attempt := *o
	err := s.watch(&attempt, func(trail func(processor.Step)) (*suit.Report, error) {
		return s.update(ctx, s.r.Envelope, s.r.ManifestID, trail)
	})
	if err != nil {
		return nil, err
	}
	if attempt.Failure != nil {
		*o = attempt
		return nil, nil
	}
	if o.Manifest.ComponentID != nil {
		return o.Manifest.ComponentID, nil
	}
	return s.r.ManifestID, nil
}

// watch runs a procedure and puts everything that can be seen of it into the outcome.
func (s *stage) watch(o *Outcome, run func(trail func(processor.Step)) (*suit.Report, error)) error {
	before, fetched, invoked := s.platform.State(), len(s.platform.Fetches()), len(s.platform.Invocations())
	report, err := run(func(step processor.Step) { o.Trail = append(o.Trail, step) })
	if err != nil && !errors.As(err, &o.Failure) {
		return err
	}
	o.Report = report
	o.Fetches = s.platform.Fetches()[fetched:]
	o.Invocations = s.platform.Invocations()[invoked:]
	o.Changes = changes(before, s.platform.State())
	return nil
}
