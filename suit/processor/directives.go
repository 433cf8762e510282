package processor

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/go-teep/teep/suit"
)

// apply implements machine.
func (r *run) apply(k *call) (suit.Parameters, error) {
	if k.cmd.Code.IsCondition() {
		return r.condition(k)
	}
	switch k.cmd.Code {
	case suit.DirFetch:
		return r.fetch(k)
	case suit.DirWrite:
		return suit.Parameters{}, r.write(k)
	case suit.DirCopy:
		return suit.Parameters{}, r.copy(k)
	case suit.DirSwap:
		return suit.Parameters{}, r.swap(k)
	case suit.DirInvoke:
		return suit.Parameters{}, r.invoke(k)
	case suit.DirWait:
		return suit.Parameters{}, r.wait(k)
	case suit.DirUnlink:
		return suit.Parameters{}, r.unlink(k)
	}
	return suit.Parameters{}, fail(suit.ReasonCommandUnsupported, "command %d is not supported", int64(k.cmd.Code))
}

// alter is asked before a component changes: a dependency changes only by being fetched, and what
// other manifests refer to must not change (trust domains §suit-directive-unlink).
func (r *run) alter(k *call, c *component) error {
	if c.dependency {
		return fail(suit.ReasonOperationFailed, "the component is a dependency: it can only be fetched, processed and unlinked")
	}
	if err := r.unreferenced(c.id); err != nil {
		return err
	}
	// Rights were checked for what the manifest says itself; the source of a swap may come from
	// a dependent's parameters.
	if !allowsCommand(k.n.rights.find(c.id), k.cmd.Code) {
		return fail(suit.ReasonComponentUnauthorised, "the signer may not apply %s to %s", k.cmd.Code, c.id)
	}
	delete(r.unlinked[k.n.id.Key()], c.key())
	r.changed = true
	return nil
}

// source is the component that copy and swap take from.
func (r *run) source(k *call) (*component, error) {
	index, ok := k.args.SourceComponent()
	if !ok {
		return nil, fail(suit.ReasonOperationFailed, "parameter %s is not set", suit.ParamSourceComponent)
	}
	c, err := k.n.at(index)
	if err != nil {
		return nil, err
	}
	switch {
	case c.dependency:
		return nil, fail(suit.ReasonOperationFailed, "source component %d is a dependency", index)
	case c == k.c:
		return nil, fail(suit.ReasonOperationFailed, "source component %d is the destination", index)
	}
	return c, nil
}

// copy makes the component hold what its source holds, decrypted if there is encryption info
// (firmware encryption §directive-copy).
func (r *run) copy(k *call) error {
	if err := r.alter(k, k.c); err != nil {
		return err
	}
	src, err := r.source(k)
	if err != nil {
		return err
	}
	if info, ok := r.encryptionInfo(k); ok {
		return r.copyDecrypted(k, src, info)
	}
	if size, ok := k.args.Size(); ok {
		if err := r.checkSize(src.id, size); err != nil {
			return err
		}
	}
	if err := r.tx.Copy(k.c.id, src.id); err != nil {
		return missingSource(src, err)
	}
	r.origin.copied(k.c.id, src.id)
	return nil
}

func missingSource(src *component, err error) error {
	if errors.Is(err, ErrNotExist) {
		return fmt.Errorf("source component %s is empty: %w", src.id, err)
	}
	return err
}

func (r *run) checkSize(id suit.ComponentID, want uint64) error {
	content, err := r.tx.Content(id)
	if err != nil {
		return err
	}
	defer func() { _ = content.Close() }()
	if uint64(content.Size()) != want {
		err := fmt.Errorf("%s has %d bytes, image-size says %d", id, content.Size(), want)
		if uint64(content.Size()) == want+tagSize {
			err = fmt.Errorf("%w: %w", err, errNoInfo)
		}
		return err
	}
	return nil
}

func (r *run) copyDecrypted(k *call, src *component, info []byte) error {
	content, err := r.tx.Content(src.id)
	if err != nil {
		return missingSource(src, err)
	}
	defer func() { _ = content.Close() }()
	from := r.origin.get(src.id)
	o, err := r.store(k, content, info)
	if err != nil {
		return err
	}
	switch {
	case from == nil: // untouched, and so vouched for before
		o.trusted = true
	case o.trusted: // by its tag, and the ciphertext with it
		o.from = from
		r.origin.verified(k.c.id)
	default:
		o.trusted, o.from = from.trusted, from
	}
	return nil
}

// write stores suit-parameter-content. The manifest's signature vouches for it, also when it is
// encrypted (firmware encryption §payload-integrity-validation).
func (r *run) write(k *call) error {
	if err := r.alter(k, k.c); err != nil {
		return err
	}
	content, ok := k.args.Content()
	if !ok {
		return fail(suit.ReasonOperationFailed, "parameter %s is not set", suit.ParamContent)
	}
	info, _ := r.encryptionInfo(k)
	o, err := r.store(k, bytes.NewReader(content), info)
	if err != nil {
		return err
	}
	o.trusted = true
	return nil
}

func (r *run) swap(k *call) error {
	if err := r.alter(k, k.c); err != nil {
		return err
	}
	src, err := r.source(k)
	if err != nil {
		return err
	}
	if err := r.alter(k, src); err != nil {
		return err
	}
	if err := r.tx.Swap(k.c.id, src.id); err != nil {
		return missingSource(src, err)
	}
	r.origin.swapped(k.c.id, src.id)
	return nil
}

// wait blocks until the platform says that the events came, or the time of the run is over.
func (r *run) wait(k *call) error {
	env, ok := r.p.cfg.Platform.(Environment)
	if !ok {
		return fail(suit.ReasonCommandUnsupported, "the platform cannot wait for events")
	}
	event, ok := k.args.WaitInfo()
	if !ok {
		return fail(suit.ReasonOperationFailed, "parameter %s is not set", suit.ParamWaitInfo)
	}
	if event.Time != nil && !r.comesWithin(*event.Time) {
		return fmt.Errorf("%w: the time to wait for is beyond the time of this run", ErrLimit)
	}
	if err := env.Wait(r.ctx, event); err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	return nil
}

// comesWithin spares the platform a wait that cannot end in time.
func (r *run) comesWithin(second uint64) bool {
	last := r.p.cfg.Platform.Now().Add(r.p.cfg.Limits.Time).Unix()
	return last >= 0 && second <= uint64(last)
}

// invoke makes what was loaded durable and starts the component (SUIT §8.4.10.7).
func (r *run) invoke(k *call) error {
	if k.c.dependency {
		return fail(suit.ReasonOperationFailed, "the component is a dependency: process it instead")
	}
	if k.f.phase != suit.LabelInvoke {
		return fail(suit.ReasonCommandUnsupported, "a component is started in suit-invoke only")
	}
	args, _ := k.args.InvokeArgs()
	if r.dryRun {
		return nil
	}
	if r.pending != nil {
		if err := r.pending(k); err != nil {
			return fmt.Errorf("report before invocation: %w", err)
		}
	}
	if err := r.turn(); err != nil {
		return err
	}
	if err := r.p.cfg.Platform.Invoke(r.ctx, k.c.id, args); err != nil {
		return fmt.Errorf("invoke: %w", err)
	}
	return nil
}

// turn commits, if there is anything, and goes on with a new transaction.
func (r *run) turn() error {
	if id, bad := r.origin.unverified(); bad {
		return fmt.Errorf("component %s: %w", id, ErrUnverified)
	}
	if !r.changed {
		return nil
	}
	if err := r.tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	tx, err := r.p.cfg.Platform.Begin(r.ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	r.tx, r.origin, r.changed = tx, newOrigins(), false
	return nil
}
