package processor_test

import (
	"context"
	"errors"
	"testing"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
)

func TestLifeOfOneComponent(t *testing.T) {
	l := newLab(t)
	l.device.Serve("https://example.com/a1", []byte("version one"))
	l.device.Serve("https://example.com/a2", []byte("version two"))
	first := l.sign(one(1, idA, appA, "version one", "https://example.com/a1"))
	l.mustUpdate(first)
	l.wants(appA, "version one")
	if p, ok := l.device.Parameters(appA); !ok || !p.Has(suit.ParamImageDigest) || !p.Has(suit.ParamClassIdentifier) {
		t.Errorf("parameters of the component were not recorded: %v", p.Labels())
	}

	report, err := l.p.Validate(t.Context(), idA, processor.Options{Nonce: []byte("v")})
	l.checkReport(report, err)
	if err != nil || string(report.Nonce) != "v" {
		t.Fatalf("validate: %v, nonce %q", err, report.Nonce)
	}

	l.device.OnInvoke = func(context.Context, suit.ComponentID, []byte) error { return nil }
	if report, err = l.p.Invoke(t.Context(), idA, processor.Options{}); err != nil {
		t.Fatal(err)
	}
	l.checkReport(report, err)
	if got := l.device.Invocations(); len(got) != 1 || !got[0].ID.Equal(appA) {
		t.Fatalf("invocations: %v", got)
	}

	l.mustUpdate(l.sign(one(2, idA, appA, "version two", "https://example.com/a2")))
	l.wants(appA, "version two")
	if f := l.refuse(first, suit.ReasonOperationFailed); !errors.Is(f, processor.ErrDowngrade) {
		t.Fatalf("downgrade refused for another cause: %v", f)
	}

	if report, err = l.p.Uninstall(t.Context(), idA, processor.Options{}); err != nil {
		t.Fatal(err)
	}
	l.checkReport(report, err)
	l.wants(appA, "")
	if n := len(l.device.State().Manifests); n != 0 {
		t.Fatalf("%d manifests are left", n)
	}
	if f := l.refuse(first, suit.ReasonOperationFailed); !errors.Is(f, processor.ErrDowngrade) {
		t.Fatalf("after uninstall the sequence number went back: %v", f)
	}
}

func TestSequenceNumbers(t *testing.T) {
	l := newLab(t)
	l.device.Serve("u", []byte("x"))
	l.device.Serve("w", []byte("y"))
	five := l.sign(one(5, idA, appA, "x", "u"))
	l.mustUpdate(five)

	t.Run("the same manifest again changes nothing", func(t *testing.T) {
		before := l.device.State()
		l.mustUpdate(five)
		if !sameState(before, l.device.State()) {
			t.Error("the device changed")
		}
		if n := len(l.device.Fetches()); n != 1 {
			t.Errorf("%d fetches, want 1", n)
		}
	})
	t.Run("another manifest with an equal number", func(t *testing.T) {
		if f := l.refuse(l.sign(one(5, idA, appA, "y", "w")), suit.ReasonOperationFailed); !errors.Is(f, processor.ErrDowngrade) {
			t.Error(f)
		}
	})
	t.Run("zero", func(t *testing.T) { l.refuse(l.sign(one(0, idA, appA, "y", "w")), suit.ReasonOperationFailed) })
	t.Run("another identifier has a line of its own", func(t *testing.T) {
		l.mustUpdate(l.sign(one(1, idB, appB, "y", "w")))
	})
	t.Run("zero where there was none", func(t *testing.T) {
		l.mustUpdate(l.sign(one(0, idRoot, appC, "y", "w")))
	})
	t.Run("after uninstall the same one may come back, another one may not", func(t *testing.T) {
		if _, err := l.p.Uninstall(t.Context(), idA, processor.Options{}); err != nil {
			t.Fatal(err)
		}
		l.refuse(l.sign(one(5, idA, appA, "y", "w")), suit.ReasonOperationFailed)
		l.mustUpdate(five)
		l.wants(appA, "x")
	})
}

// forgetful hides what the device remembers beyond sequence numbers.
type forgetful struct{ processor.Platform }

type forgetfulTx struct{ processor.Tx }

func (f forgetful) Begin(ctx context.Context) (processor.Tx, error) {
	tx, err := f.Platform.Begin(ctx)
	return forgetfulTx{tx}, err
}

func TestEqualNumberAfterUninstallNeedsTheDigest(t *testing.T) {
	l := newLab(t, func(l *lab) { l.cfg.Platform = forgetful{l.device} })
	l.device.Serve("u", []byte("x"))
	five := l.sign(one(5, idA, appA, "x", "u"))
	l.mustUpdate(five)
	if _, err := l.p.Uninstall(t.Context(), idA, processor.Options{}); err != nil {
		t.Fatal(err)
	}
	if f := l.refuse(five, suit.ReasonOperationFailed); !errors.Is(f, processor.ErrDowngrade) {
		t.Fatal(f)
	}
}

func TestDamagedInstallationIsAppliedAgain(t *testing.T) {
	l := newLab(t)
	l.device.Serve("u", []byte("x"))
	m := l.sign(one(1, idA, appA, "x", "u"))
	l.mustUpdate(m)
	l.device.Put(appA, []byte("rotten"))
	if _, err := l.p.Validate(t.Context(), idA, processor.Options{}); err == nil {
		t.Fatal("damage was not found")
	}
	if _, err := l.p.Invoke(t.Context(), idA, processor.Options{}); err == nil || len(l.device.Invocations()) != 0 {
		t.Fatal("damaged component was started")
	}
	l.mustUpdate(m)
	l.wants(appA, "x")
}

func TestDryRunChangesNothing(t *testing.T) {
	l := newLab(t)
	l.device.Serve("u", []byte("x"))
	before := l.device.State()
	o := l.options()
	o.DryRun = true
	if _, err := l.p.Update(t.Context(), l.sign(one(1, idA, appA, "x", "u")), o); err != nil {
		t.Fatal(err)
	}
	if !sameState(before, l.device.State()) {
		t.Error("the device changed")
	}
	if len(l.trail) == 0 {
		t.Error("no trail")
	}
}

func TestManifestWithoutIdentifierNeedsOne(t *testing.T) {
	l := newLab(t)
	l.device.Serve("u", []byte("x"))
	m := l.sign(one(1, nil, appA, "x", "u"))
	l.refuse(m, suit.ReasonOperationFailed)
	o := l.options()
	o.ManifestID = idA
	if _, err := l.p.Update(t.Context(), m, o); err != nil {
		t.Fatal(err)
	}
	if _, err := l.p.Validate(t.Context(), idA, processor.Options{}); err != nil {
		t.Fatal(err)
	}
}

func TestUnknownManifest(t *testing.T) {
	l := newLab(t)
	for name, call := range map[string]func(context.Context, suit.ComponentID, processor.Options) (*suit.Report, error){
		"validate": l.p.Validate, "invoke": l.p.Invoke, "uninstall": l.p.Uninstall,
	} {
		report, err := call(t.Context(), idA, processor.Options{})
		l.checkReport(report, err)
		if !errors.Is(err, processor.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInvokePassesArgumentsAfterCommit(t *testing.T) {
	l := newLab(t)
	l.device.Serve("u", []byte("code"))
	d := many(1, idA, appA, appB)
	d.Common.SharedSequence.Commands = append(d.Common.SharedSequence.Commands, suit.SetAllComponents(), override(image("code")))
	d.Install = section(suit.SetComponentIndex(0), uri("u"), dir(suit.DirFetch), cond(suit.CondImageMatch))
	d.Load = section(suit.SetComponentIndex(1), override(func(p *suit.Parameters) { p.SetSourceComponent(0) }),
		dir(suit.DirCopy), cond(suit.CondImageMatch))
	d.Invoke = section(suit.SetComponentIndex(1), override(func(p *suit.Parameters) { p.SetInvokeArgs([]byte("--fast")) }),
		dir(suit.DirInvoke))
	l.mustUpdate(l.sign(d))
	l.wants(appB, "")
	var pending *suit.Report
	l.device.OnInvoke = func(_ context.Context, id suit.ComponentID, args []byte) error {
		l.wants(appB, "code") // loaded and visible by the time it starts
		if !id.Equal(appB) || string(args) != "--fast" {
			t.Errorf("invoked %s with %q", id, args)
		}
		if pending == nil || pending.Failure == nil || pending.Failure.Reason != suit.ReasonInvokePending {
			t.Errorf("pending report: %+v", pending)
		}
		return nil
	}
	o := processor.Options{Pending: func(r *suit.Report) error { pending = r; return nil }}
	if _, err := l.p.Invoke(t.Context(), idA, o); err != nil {
		t.Fatal(err)
	}
	if len(l.device.Invocations()) != 1 {
		t.Fatal("not invoked")
	}
	o.Pending = func(*suit.Report) error { return errors.New("no") }
	if _, err := l.p.Invoke(t.Context(), idA, o); err == nil || len(l.device.Invocations()) != 1 {
		t.Fatal("invoked although the pending report could not be sent")
	}
	l.device.OnInvoke = func(context.Context, suit.ComponentID, []byte) error { return errors.New("trap") }
	report, err := l.p.Invoke(t.Context(), idA, processor.Options{})
	if err == nil || report.Failure == nil || report.Failure.Record.Section != suit.LabelInvoke {
		t.Fatalf("failed invocation: %v, %+v", err, report.Failure)
	}
}
