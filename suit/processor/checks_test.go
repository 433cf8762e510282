package processor_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
)

// bare hides every optional interface of a platform.
type bare struct{ processor.Platform }

// Each of these manifests is refused before anything runs.
func TestRequiredChecks(t *testing.T) {
	two := func(change func(*draft)) draft {
		d := many(1, idA, appA, appB)
		change(&d)
		return d
	}
	single := func(change func(*draft)) draft {
		d := one(1, idA, appA, "x", "u")
		change(&d)
		return d
	}
	for _, c := range []struct {
		name   string
		draft  draft
		reason suit.Reason
		says   string
	}{
		{"component that the device does not have", one(1, idA, suit.NewComponentID("firmware"), "x", "u"), suit.ReasonComponentUnsupported, "no such component"},
		{"component listed twice", many(1, idA, appA, appA), suit.ReasonComponentUnsupported, "twice"},
		{"too many components", many(1, idA, appA, appB, appC, suit.NewComponentID("app", "d"), suit.NewComponentID("app", "e")), suit.ReasonComponentUnsupported, "at most 4"},
		{"no components", single(func(d *draft) {
			d.Common.Components = nil
		}), suit.ReasonComponentUnsupported, "no components"},
		{"no vendor check", single(func(d *draft) {
			c := &d.Common.SharedSequence.Commands
			*c = slices.DeleteFunc(*c, func(c suit.Command) bool { return c.Code == suit.CondVendorIdentifier })
		}), suit.ReasonOperationFailed, "vendor and class"},
		{"no class check", single(func(d *draft) {
			c := &d.Common.SharedSequence.Commands
			*c = slices.DeleteFunc(*c, func(c suit.Command) bool { return c.Code == suit.CondClassIdentifier })
		}), suit.ReasonOperationFailed, "vendor and class"},
		{"identity checked, but not in the shared sequence", single(func(d *draft) {
			d.Common.SharedSequence = section(override(image("x")))
			d.Install.Commands = append([]suit.Command{cond(suit.CondVendorIdentifier), cond(suit.CondClassIdentifier)}, d.Install.Commands...)
		}), suit.ReasonOperationFailed, "vendor and class"},
		{"section that does not begin with set-component-index", two(func(d *draft) {
			d.Install = section(uri("u"), suit.SetComponentIndex(0), dir(suit.DirFetch))
		}), suit.ReasonOperationFailed, "begin with set-component-index"},
		{"shared sequence that does not begin with set-component-index", two(func(d *draft) {
			d.Common.SharedSequence.Commands = d.Common.SharedSequence.Commands[1:]
		}), suit.ReasonOperationFailed, "begin with set-component-index"},
		{"section that is never run in this procedure", two(func(d *draft) { d.Uninstall = section(dir(suit.DirUnlink)) }), suit.ReasonOperationFailed, "begin with set-component-index"},
		{"component index beyond the list", two(func(d *draft) { d.Install = section(suit.SetComponentIndex(2), dir(suit.DirFetch)) }), suit.ReasonOperationFailed, "index 2"},
		{"component index beyond the list, in an array", two(func(d *draft) { d.Install = section(suit.SetComponentIndexes(0, 7), dir(suit.DirFetch)) }), suit.ReasonOperationFailed, "index 7"},
		{"component index beyond the list, nested", two(func(d *draft) {
			d.Install = section(suit.SetComponentIndex(0), suit.TryEach(suit.Sequence{suit.SetComponentIndex(9), cond(suit.CondAbort)}, nil))
		}), suit.ReasonOperationFailed, "index 9"},
		{"override-multiple beyond the list", two(func(d *draft) {
			d.Install = section(suit.SetComponentIndex(0), suit.OverrideMultiple(suit.ComponentParameters{Index: 5, Parameters: params(image("x"))}))
		}), suit.ReasonOperationFailed, "index 5"},
		{"copy-params beyond the list", two(func(d *draft) {
			d.Install = section(suit.SetComponentIndex(0), suit.CopyParams(suit.CopyParameters{Source: 4, Labels: []suit.ParameterLabel{suit.ParamURI}}))
		}), suit.ReasonOperationFailed, "index 4"},
		{"source component beyond the list", two(func(d *draft) {
			d.Install = section(suit.SetComponentIndex(0), override(func(p *suit.Parameters) { p.SetSourceComponent(3) }))
		}), suit.ReasonOperationFailed, "index 3"},
		{"custom command", single(func(d *draft) { d.Install = section(suit.Command{Code: -300}) }), suit.ReasonCommandUnsupported, "custom"},
		{"custom parameter", single(func(d *draft) {
			d.Install = section(override(func(p *suit.Parameters) {
				if err := p.SetRaw(-5, []byte{1}); err != nil {
					t.Fatal(err)
				}
			}))
		}), suit.ReasonParameterUnsupported, "custom"},
		{"directory", single(func(d *draft) {
			d.Install = section(override(func(p *suit.Parameters) { p.SetComponentMetadata(suit.ComponentMetadata{FileType: suit.FileDirectory}) }))
		}), suit.ReasonParameterUnsupported, "regular files"},
		{"soft failure outside of a nested sequence", single(func(d *draft) {
			d.Install = section(override(func(p *suit.Parameters) { p.SetSoftFailure(true) }))
		}), suit.ReasonOperationFailed, "soft failure"},
		{"invoke while installing", single(func(d *draft) { d.Install = section(dir(suit.DirInvoke)) }), suit.ReasonCommandUnsupported, "suit-invoke"},
		{"invoke while validating", single(func(d *draft) { d.Validate = section(dir(suit.DirInvoke)) }), suit.ReasonCommandUnsupported, "suit-invoke"},
		{"slot on a device without", single(func(d *draft) { d.Install = section(cond(suit.CondComponentSlot)) }), suit.ReasonCommandUnsupported, "cannot answer"},
		{"battery on a device without", single(func(d *draft) { d.Install = section(cond(suit.CondMinimumBattery)) }), suit.ReasonCommandUnsupported, "cannot answer"},
		{"version on a device without", single(func(d *draft) { d.Install = section(cond(suit.CondVersion)) }), suit.ReasonCommandUnsupported, "cannot answer"},
		{"authorization on a device without", single(func(d *draft) { d.Install = section(cond(suit.CondUpdateAuthorized)) }), suit.ReasonCommandUnsupported, "cannot answer"},
		{"wait on a device without", single(func(d *draft) { d.Install = section(dir(suit.DirWait)) }), suit.ReasonCommandUnsupported, "cannot answer"},
		{"unsupported command hidden in a try-each", single(func(d *draft) {
			d.Install = section(suit.TryEach(suit.Sequence{cond(suit.CondAbort), cond(suit.CondComponentSlot)}, nil))
		}), suit.ReasonCommandUnsupported, "cannot answer"},
		{"sequences nested too deep", single(func(d *draft) {
			inner := suit.RunSequence(suit.Sequence{cond(suit.CondImageMatch)})
			for range 3 {
				inner = suit.RunSequence(suit.Sequence{inner})
			}
			d.Install = section(inner)
		}), suit.ReasonOperationFailed, "nest deeper"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, func(l *lab) {
				l.cfg.Platform = bare{l.device}
				l.cfg.Limits.Components = 4
				l.cfg.Limits.Nesting = 3
			})
			l.device.Serve("u", []byte("x"))
			f := l.refuse(l.sign(c.draft), c.reason)
			if !strings.Contains(f.Error(), c.says) {
				t.Errorf("says %q, want something about %q", f, c.says)
			}
			if len(l.trail) != 0 || len(l.device.Fetches()) != 0 {
				t.Errorf("%d commands ran, %d fetches", len(l.trail), len(l.device.Fetches()))
			}
		})
	}
}

func TestUnsupportedComesWithCapabilities(t *testing.T) {
	l := newLab(t, func(l *lab) { l.cfg.Platform = bare{l.device} })
	d := one(1, idA, appA, "x", "u")
	d.Install = section(cond(suit.CondComponentSlot))
	report, _ := l.update(l.sign(d))
	c := report.Capabilities
	if c == nil || slices.Contains(c.Commands, int64(suit.CondComponentSlot)) || !slices.Contains(c.Commands, int64(suit.DirFetch)) {
		t.Fatalf("capabilities: %+v", c)
	}
}

func TestAuthentication(t *testing.T) {
	l := newLab(t)
	l.device.Serve("u", []byte("x"))
	good := one(1, idA, appA, "x", "u")
	stranger := newKey(t)
	t.Run("unknown signer", func(t *testing.T) { l.refuse(l.signBy(good, stranger), suit.ReasonUnauthorised) })
	t.Run("no signature", func(t *testing.T) { l.refuse(l.build(good).Encode(), suit.ReasonUnauthorised) })
	t.Run("one of two signers is known", func(t *testing.T) { l.mustUpdate(l.signBy(good, stranger, l.author)) })
	t.Run("not CBOR", func(t *testing.T) { l.refuse([]byte("hello"), suit.ReasonCBORParse) })
	t.Run("nothing", func(t *testing.T) { l.refuse(nil, suit.ReasonCBORParse) })
	t.Run("envelope over the limit", func(t *testing.T) {
		l := newLab(t, func(l *lab) { l.cfg.Limits.Envelope = 100 })
		if f := l.refuse(l.sign(good), suit.ReasonOperationFailed); !errors.Is(f, processor.ErrLimit) {
			t.Error(f)
		}
	})
	t.Run("garbage under a signature of a stranger is not parsed", func(t *testing.T) {
		e := l.build(good)
		tampered := []byte(strings.Replace(string(e.Encode()), "a.suit", "b.suit", 1))
		if f := l.refuse(tampered, suit.ReasonUnauthorised); !errors.Is(f, suit.ErrManifestDigest) {
			t.Error(f)
		}
	})
}

// keyWithoutRights knows a key but grants it nothing.
type keyWithoutRights struct{ cose.KeySource }

func (keyWithoutRights) Rights(*cose.Key) (processor.Rights, bool) { return processor.Rights{}, false }

func TestRightsOfSigners(t *testing.T) {
	fetchOnly := processor.ComponentRights{Prefix: appA, Commands: []suit.CommandCode{suit.DirFetch,
		suit.CondImageMatch, suit.CondVendorIdentifier, suit.CondClassIdentifier, suit.DirUnlink, suit.DirInvoke}}
	manifests := processor.ComponentRights{Prefix: idA}
	for _, c := range []struct {
		name   string
		rights processor.Rights
		draft  draft
		reason suit.Reason
	}{
		{"none", processor.Rights{}, one(1, idA, appA, "x", "u"), suit.ReasonComponentUnauthorised},
		{"another component", processor.Rights{Components: []processor.ComponentRights{{Prefix: appB}, manifests}}, one(1, idA, appA, "x", "u"), suit.ReasonComponentUnauthorised},
		{"a longer prefix", processor.Rights{Components: []processor.ComponentRights{{Prefix: append(appA[:2:2], []byte("sub"))}, manifests}}, one(1, idA, appA, "x", "u"), suit.ReasonComponentUnauthorised},
		{"the component but not the manifest identifier", processor.Rights{Components: []processor.ComponentRights{{Prefix: appA}}}, one(1, idA, appA, "x", "u"), suit.ReasonComponentUnauthorised},
		{"one of two components", processor.Rights{Components: []processor.ComponentRights{{Prefix: appA}, manifests}}, many(1, idA, appA, appB), suit.ReasonComponentUnauthorised},
		{"not this command", processor.Rights{Components: []processor.ComponentRights{fetchOnly, manifests}}, func() draft {
			d := one(1, idA, appA, "x", "u")
			d.Install = section(override(func(p *suit.Parameters) { p.SetContent([]byte("x")) }), dir(suit.DirWrite))
			return d
		}(), suit.ReasonComponentUnauthorised},
		{"not this command, in a section that does not run now", processor.Rights{Components: []processor.ComponentRights{fetchOnly, manifests}}, func() draft {
			d := one(1, idA, appA, "x", "u")
			d.Load = section(dir(suit.DirWrite))
			return d
		}(), suit.ReasonComponentUnauthorised},
		{"not this command, deep inside", processor.Rights{Components: []processor.ComponentRights{fetchOnly, manifests}}, func() draft {
			d := one(1, idA, appA, "x", "u")
			d.Install.Commands = append(d.Install.Commands, suit.TryEach(suit.Sequence{cond(suit.CondAbort), suit.RunSequence(suit.Sequence{dir(suit.DirWrite)})}, nil))
			return d
		}(), suit.ReasonComponentUnauthorised},
		{"not this parameter", processor.Rights{Components: []processor.ComponentRights{{Prefix: appA, Parameters: []suit.ParameterLabel{suit.ParamURI}}, manifests}}, one(1, idA, appA, "x", "u"), suit.ReasonComponentUnauthorised},
		{"an empty list of commands permits none", processor.Rights{Components: []processor.ComponentRights{{Prefix: appA, Commands: []suit.CommandCode{}}, manifests}}, one(1, idA, appA, "x", "u"), suit.ReasonComponentUnauthorised},
		{"sequence number below the floor", processor.Rights{Components: processor.AllComponents().Components, MinSequence: 2}, one(1, idA, appA, "x", "u"), suit.ReasonUnauthorised},
		{"sequence number above the ceiling", processor.Rights{Components: processor.AllComponents().Components, MaxSequence: 2}, one(3, idA, appA, "x", "u"), suit.ReasonUnauthorised},
		{"swap with a source that may not be swapped", processor.Rights{Components: []processor.ComponentRights{
			{Prefix: appA}, {Prefix: appB, Commands: []suit.CommandCode{suit.CondVendorIdentifier, suit.CondClassIdentifier}}, manifests}}, func() draft {
			d := many(1, idA, appA, appB)
			d.Install = section(suit.SetComponentIndex(0), override(func(p *suit.Parameters) { p.SetSourceComponent(1) }), dir(suit.DirSwap))
			return d
		}(), suit.ReasonComponentUnauthorised},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, func(l *lab) { l.trust(c.rights) })
			l.device.Serve("u", []byte("x"))
			l.refuse(l.sign(c.draft), c.reason)
			if len(l.trail) != 0 {
				t.Error("commands ran")
			}
		})
	}
	t.Run("exactly enough", func(t *testing.T) {
		l := newLab(t, func(l *lab) {
			l.trust(processor.Rights{Components: []processor.ComponentRights{fetchOnly, manifests}, MinSequence: 1, MaxSequence: 1})
		})
		l.device.Serve("u", []byte("x"))
		l.mustUpdate(l.sign(one(1, idA, appA, "x", "u")))
	})
	t.Run("two signers together", func(t *testing.T) {
		other := newKey(t)
		l := newLab(t, func(l *lab) {
			l.trust(processor.Rights{Components: []processor.ComponentRights{{Prefix: appA}}},
				processor.Signer{Key: other.Public(), Rights: processor.Rights{Components: []processor.ComponentRights{manifests}}})
		})
		l.device.Serve("u", []byte("x"))
		d := one(1, idA, appA, "x", "u")
		l.refuse(l.sign(d), suit.ReasonComponentUnauthorised)
		l.mustUpdate(l.signBy(d, l.author, other))
	})
	t.Run("a key that the authority knows but grants nothing", func(t *testing.T) {
		l := newLab(t, func(l *lab) { l.cfg.Authority = keyWithoutRights{l.cfg.Authority} })
		l.refuse(l.sign(one(1, idA, appA, "x", "u")), suit.ReasonUnauthorised)
	})
}

func TestRevokedSigner(t *testing.T) {
	l := newLab(t)
	l.device.Serve("u", []byte("x"))
	l.device.OnInvoke = func(context.Context, suit.ComponentID, []byte) error { return nil }
	l.mustUpdate(l.sign(one(1, idA, appA, "x", "u")))
	signers, err := processor.NewSigners(processor.Signer{Key: newKey(t).Public(), Rights: processor.AllComponents()})
	if err != nil {
		t.Fatal(err)
	}
	l.cfg.Authority = signers
	l.start()
	if _, err := l.p.Invoke(t.Context(), idA, processor.Options{}); err == nil || len(l.device.Invocations()) != 0 {
		t.Fatal("a manifest of a revoked signer was invoked")
	}
	if _, err := l.p.Uninstall(t.Context(), idA, processor.Options{}); err != nil {
		t.Fatal(err)
	}
	l.wants(appA, "")
}

func TestConfigIsChecked(t *testing.T) {
	l := newLab(t)
	for name, change := range map[string]func(*processor.Config){
		"no platform":   func(c *processor.Config) { c.Platform = nil },
		"no authority":  func(c *processor.Config) { c.Authority = nil },
		"no components": func(c *processor.Config) { c.Components = nil },
		"retries":       func(c *processor.Config) { c.Retry.Attempts = -1 },
	} {
		cfg := l.cfg
		change(&cfg)
		if _, err := processor.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	k := newKey(t)
	if _, err := processor.NewSigners(processor.Signer{Key: k}, processor.Signer{Key: k.Public()}); err == nil {
		t.Error("the same key twice was accepted")
	}
	if _, err := processor.NewSigners(processor.Signer{}); err == nil {
		t.Error("a signer without key was accepted")
	}
}
