package processor

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"

	"github.com/go-teep/teep/suit"
)

// A condition returns what it measured in the parameters that it compared, so that a record of
// it tells the decision: with a satisfied condition the measured values satisfy it (SUIT report
// §3), with a failed one they do not, or there are none. satisfied, in explain.go, is the
// reverse of these functions.

func (r *run) condition(k *call) (suit.Parameters, error) {
	switch k.cmd.Code {
	case suit.CondVendorIdentifier:
		return r.checkVendor(k)
	case suit.CondClassIdentifier:
		return r.checkClass(k)
	case suit.CondDeviceIdentifier:
		return r.checkDevice(k)
	case suit.CondImageMatch:
		return r.checkImage(k, true)
	case suit.CondImageNotMatch:
		return r.checkImage(k, false)
	case suit.CondCheckContent:
		return r.checkContent(k)
	case suit.CondComponentSlot:
		return r.checkSlot(k)
	case suit.CondUseBefore:
		return r.checkUseBefore(k)
	case suit.CondMinimumBattery, suit.CondUpdateAuthorized, suit.CondVersion:
		return r.environmentCondition(k)
	case suit.CondIsDependency:
		if !k.c.dependency {
			return suit.Parameters{}, unmet("the component is not a dependency")
		}
		return suit.Parameters{}, nil
	case suit.CondDependencyIntegrity:
		return r.checkDependencyIntegrity(k)
	case suit.CondAbort:
		return suit.Parameters{}, unmet("the manifest aborts here")
	}
	return suit.Parameters{}, fail(suit.ReasonCommandUnsupported, "command %d is not supported", int64(k.cmd.Code))
}

func unset(l suit.ParameterLabel) error { return unmet("parameter %s is not set", l) }

func sameUUID(want, have suit.UUID) bool { return !have.IsZero() && want == have }

func (r *run) checkVendor(k *call) (m suit.Parameters, err error) {
	want, ok := k.args.VendorID()
	if !ok {
		return m, unset(suit.ParamVendorIdentifier)
	}
	have := suit.UUID(r.p.cfg.Platform.Identity(k.c.id).Vendor)
	if !sameUUID(want.Namespace(), have) {
		m.SetVendorID(suit.VendorID{UUID: have})
		return m, unmet("the manifest is for vendor %s, this is %s", want.Namespace(), have)
	}
	m.SetVendorID(want)
	return m, nil
}

func (r *run) checkClass(k *call) (m suit.Parameters, err error) {
	want, ok := k.args.ClassID()
	if !ok {
		return m, unset(suit.ParamClassIdentifier)
	}
	have := suit.UUID(r.p.cfg.Platform.Identity(k.c.id).Class)
	m.SetClassID(have)
	if !sameUUID(want, have) {
		return m, unmet("the manifest is for class %s, this is %s", want, have)
	}
	return m, nil
}

func (r *run) checkDevice(k *call) (m suit.Parameters, err error) {
	want, ok := k.args.DeviceID()
	if !ok {
		return m, unset(suit.ParamDeviceIdentifier)
	}
	have := suit.UUID(r.p.cfg.Platform.Identity(k.c.id).Device)
	m.SetDeviceID(have)
	if !sameUUID(want, have) {
		return m, unmet("the manifest is for device %s, this is %s", want, have)
	}
	return m, nil
}

// checkImage compares digest and, where the manifest says one, size. For a dependency the digest
// is that of its manifest (trust domains §SUIT_Dependencies), and a size means nothing, because
// an envelope may lose members without becoming another one.
func (r *run) checkImage(k *call, match bool) (m suit.Parameters, err error) {
	want, ok := k.args.Digest()
	if !ok {
		return m, unset(suit.ParamImageDigest)
	}
	have, size, err := r.measure(k, want)
	if errors.Is(err, ErrNotExist) {
		if match {
			return m, unmet("the component is empty")
		}
		return m, nil
	}
	if err != nil {
		return m, err
	}
	m.SetDigest(have)
	equal := want.Equal(have)
	if !match {
		if equal {
			return m, unmet("the component has digest %s, which it must not have", have)
		}
		return m, nil
	}
	if !k.c.dependency {
		m.SetSize(uint64(size))
	}
	if wantSize, ok := k.args.Size(); ok && !k.c.dependency && wantSize != uint64(size) {
		equal = false
	}
	if !equal {
		r.origin.failed(k.c.id)
		return m, unmet("the component has digest %s and %d bytes, the manifest wants %s", have, size, want)
	}
	r.origin.verified(k.c.id)
	return m, nil
}

func (r *run) measure(k *call, want suit.Digest) (suit.Digest, int64, error) {
	if k.c.dependency {
		e, err := r.envelope(k.n, k.c)
		if err != nil {
			return suit.Digest{}, 0, err
		}
		// The claim of the envelope counts only if the manifest in it bears it out.
		d, err := manifestDigest(e, want)
		return d, 0, err
	}
	return r.digest(k.c.id, want)
}

// checkContent compares without an early end (SUIT §8.4.9.3).
func (r *run) checkContent(k *call) (m suit.Parameters, err error) {
	want, ok := k.args.Content()
	if !ok {
		return m, unset(suit.ParamContent)
	}
	if k.c.dependency {
		return m, unmet("the component is a dependency: compare its digest")
	}
	content, err := r.tx.Content(k.c.id)
	if errors.Is(err, ErrNotExist) {
		return m, unmet("the component is empty")
	}
	if err != nil {
		return m, err
	}
	defer func() { _ = content.Close() }()
	equal := 1
	if content.Size() != int64(len(want)) {
		equal = 0
	}
	buf := make([]byte, 4096)
	for i := 0; i < len(want); i += len(buf) {
		part := want[i:min(i+len(buf), len(want))]
		have := buf[:len(part)]
		if _, err := io.ReadFull(content, have); err != nil {
			if equal == 0 {
				clear(have)
			} else {
				return m, fmt.Errorf("read component: %w", err)
			}
		}
		equal &= subtle.ConstantTimeCompare(part, have)
	}
	if equal != 1 {
		r.origin.failed(k.c.id)
		return m, unmet("the component has other content")
	}
	r.origin.verified(k.c.id)
	m.SetSize(uint64(len(want)))
	return m, nil
}

func (r *run) checkSlot(k *call) (m suit.Parameters, err error) {
	want, ok := k.args.Slot()
	if !ok {
		return m, unset(suit.ParamComponentSlot)
	}
	slots, ok := r.p.cfg.Platform.(Slots)
	if !ok {
		return m, fail(suit.ReasonCommandUnsupported, "the platform has no slots")
	}
	have, err := slots.Slot(k.c.id)
	if err != nil {
		return m, unmet("slot is not known: %w", err)
	}
	m.SetSlot(have)
	if have != want {
		return m, unmet("the component is in slot %d, not %d", have, want)
	}
	return m, nil
}

func (r *run) checkUseBefore(k *call) (m suit.Parameters, err error) {
	limit, ok := k.args.UseBefore()
	if !ok {
		return m, unset(suit.ParamUseBefore)
	}
	now := r.p.cfg.Platform.Now().Unix()
	if now < 0 {
		return m, unmet("the clock is before 1970")
	}
	m.SetUseBefore(uint64(now))
	if uint64(now) >= limit {
		return m, unmet("the manifest was to be used before second %d, it is %d", limit, now)
	}
	return m, nil
}

func (r *run) environmentCondition(k *call) (suit.Parameters, error) {
	env, ok := r.p.cfg.Platform.(Environment)
	if !ok {
		return suit.Parameters{}, fail(suit.ReasonCommandUnsupported, "the platform cannot answer this")
	}
	switch k.cmd.Code {
	case suit.CondMinimumBattery:
		return checkBattery(k, env)
	case suit.CondVersion:
		return checkVersion(k, env)
	}
	return r.checkAuthorized(k, env)
}

func checkBattery(k *call, env Environment) (m suit.Parameters, err error) {
	want, ok := k.args.MinimumBattery()
	if !ok {
		return m, unset(suit.ParamMinimumBattery)
	}
	have, err := env.Battery()
	if err != nil {
		return m, unmet("battery: %w", err)
	}
	m.SetMinimumBattery(have)
	if have < want {
		return m, unmet("the battery has %d mWh, %d are needed", have, want)
	}
	return m, nil
}

func checkVersion(k *call, env Environment) (m suit.Parameters, err error) {
	want, ok := k.args.Version()
	if !ok {
		return m, unset(suit.ParamVersion)
	}
	numbers, err := env.Version(k.c.id)
	if err != nil {
		return m, unmet("version: %w", err)
	}
	have := suit.Version(numbers)
	if len(have) == 0 {
		return m, unmet("the component has no version")
	}
	m.SetVersion(suit.VersionMatch{Comparison: suit.Equal, Value: have})
	if !want.Matches(have) {
		return m, unmet("the component has version %s, the manifest wants %s", have, want)
	}
	return m, nil
}

func (r *run) checkAuthorized(k *call, env Environment) (m suit.Parameters, err error) {
	priority, ok := k.args.UpdatePriority()
	if !ok {
		return m, unset(suit.ParamUpdatePriority)
	}
	yes, err := env.Authorized(r.ctx, priority)
	if err != nil {
		return m, unmet("authorization: %w", err)
	}
	if !yes {
		return m, unmet("an update of priority %d is not authorized now", priority)
	}
	m.SetUpdatePriority(priority)
	return m, nil
}
