package processor_test

import (
	"bytes"
	cryptorand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
	"github.com/go-teep/teep/suit/processor/memory"
)

// scenario is a device in one state, and a procedure that takes it to the next.
type scenario struct {
	name   string
	before func(l *lab)
	run    func(l *lab) error
}

func updateWith(drafts ...func(l *lab) draft) func(l *lab) error {
	return func(l *lab) error {
		var envelopes [][]byte
		for _, d := range drafts {
			envelopes = append(envelopes, l.sign(d(l)))
		}
		_, err := l.p.UpdateAll(l.t.Context(), envelopes, processor.UpdateOptions{})
		return err
	}
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func version(n uint64, id, component suit.ComponentID) func(l *lab) draft {
	return func(l *lab) draft {
		c := fmt.Sprintf("%s version %d", component, n)
		l.device.Serve(c, []byte(c))
		return one(n, id, component, c, c)
	}
}

func familyOf(n uint64) func(l *lab) draft {
	return func(l *lab) draft { _, root := l.family(n, fmt.Sprint("v", n)); return root }
}

// three installs three components at once, through staging, load and an A/B swap.
func three(n uint64) func(l *lab) draft {
	return func(l *lab) draft {
		d := many(n, idA, appA, appB, appC)
		for i, c := range d.Common.Components {
			s := fmt.Sprintf("%s of %d", c, n)
			l.device.Serve(s, []byte(s))
			d.PayloadFetch.Commands = append(d.PayloadFetch.Commands, suit.SetComponentIndex(uint64(i)),
				override(image(s)), uri(s), dir(suit.DirFetch), cond(suit.CondImageMatch))
		}
		d.Uninstall = section(suit.SetAllComponents(), dir(suit.DirUnlink))
		return d
	}
}

func swapped(n uint64) func(l *lab) draft {
	return func(l *lab) draft {
		d := many(n, idA, appA, appB)
		s := fmt.Sprint("swapped in by ", n)
		l.device.Serve(s, []byte(s))
		d.Install = section(suit.SetComponentIndex(1), override(image(s)), uri(s), dir(suit.DirFetch), cond(suit.CondImageMatch),
			suit.SetComponentIndex(0), source(1), dir(suit.DirSwap))
		return d
	}
}

// encrypted installs a payload under an AEAD, whose plaintext is written before its tag is known.
func encrypted() (before func(l *lab), next func(l *lab) draft) {
	kek := cose.NewSymmetricKey([]byte("0123456789abcdef"))
	payload := strings.Repeat("secret ", 100_000)
	info, ciphertext, err := cose.Encrypt(cryptorand.Reader, []byte(payload), cose.AlgA128GCM,
		[]cose.Recipient{cose.A128KWRecipient(kek)}, cose.EncryptOptions{Detached: true})
	if err != nil {
		panic(err)
	}
	return func(l *lab) {
			l.device.DecryptKeys = cose.DecryptKeys{kek}
			l.device.Serve("cipher", ciphertext)
		}, func(l *lab) draft {
			d := one(1, idA, appA, payload, "cipher")
			d.Install.Commands = append([]suit.Command{override(func(p *suit.Parameters) {
				if err := p.SetEncryptionInfo(info); err != nil {
					l.t.Fatal(err)
				}
			})}, d.Install.Commands...)
			return d
		}
}

func scenarios() []scenario {
	nothing := func(*lab) {}
	haveKey, secret := encrypted()
	return []scenario{
		{"install of an encrypted payload", haveKey, updateWith(secret)},
		{"install", nothing, updateWith(version(1, idA, appA))},
		{"install with dependency", nothing, updateWith(familyOf(1))},
		{"update with dependency", func(l *lab) { l.must(updateWith(familyOf(1))(l)) }, updateWith(familyOf(2))},
		{"swap", func(l *lab) { l.device.Put(appA, []byte("old")) }, updateWith(swapped(1))},
		{"group of three components", func(l *lab) { l.must(updateWith(three(1))(l)) }, updateWith(three(2))},
		{"three manifests", nothing, updateWith(version(1, idA, appC), familyOf(3), version(1, suit.NewComponentID("app", "d.suit"), suit.NewComponentID("app", "d")))},
		{"uninstall", func(l *lab) { l.must(updateWith(familyOf(1))(l)) }, func(l *lab) error {
			_, err := l.p.Uninstall(l.t.Context(), idRoot, processor.Options{})
			return err
		}},
		{"invoke with load", func(l *lab) { l.must(updateWith(loaded)(l)) }, func(l *lab) error {
			_, err := l.p.Invoke(l.t.Context(), idA, processor.Options{})
			return err
		}},
	}
}

func loaded(l *lab) draft {
	d := version(1, idA, appA)(l)
	d.Common.Components = append(d.Common.Components, appB)
	at0 := suit.SetComponentIndex(0)
	for _, s := range []*suit.Section{&d.Common.SharedSequence, &d.Install, &d.Validate, &d.Uninstall} {
		s.Commands = append([]suit.Command{at0}, s.Commands...)
	}
	d.Load = section(suit.SetComponentIndex(1), source(0), dir(suit.DirCopy))
	d.Invoke = suit.Section{}
	return d
}

// The device stops at every single state-changing step. What is found afterwards is the old
// generation or the new one, whole; and the procedure then completes.
func TestCrashAtEveryStep(t *testing.T) {
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			author := newKey(t)
			fresh := func() *lab {
				l := newLab(t, func(l *lab) { l.author = author; l.trust(processor.AllComponents()) })
				s.before(l)
				return l
			}
			reference := fresh()
			old := reference.device.State()
			reference.device.CrashAt(0)
			reference.must(s.run(reference))
			steps, next := reference.device.Steps(), reference.device.State()
			if sameState(old, next) || steps < 3 {
				t.Fatalf("the scenario changes nothing (%d steps)", steps)
			}
			var olds, news int
			for n := 1; n <= steps; n++ {
				l := fresh()
				l.device.CrashAt(n)
				if err := s.run(l); !errors.Is(err, memory.ErrCrashed) {
					t.Fatalf("step %d: %v", n, err)
				}
				l.device.Restart()
				switch found := l.device.State(); {
				case sameState(found, old):
					olds++
				case sameState(found, next):
					news++
				default:
					t.Fatalf("step %d: neither the old nor the new generation: %v", n, found)
				}
				l.start()
				// An uninstall that was done already has nothing left to do.
				if err := s.run(l); err != nil && !(errors.Is(err, processor.ErrNotExist) && sameState(l.device.State(), next)) {
					t.Fatalf("step %d: it does not complete: %v", n, err)
				}
				if !sameState(l.device.State(), next) {
					t.Fatalf("step %d: completes differently", n)
				}
			}
			if olds == 0 || news == 0 {
				t.Errorf("%d steps: found the old generation %d times and the new one %d times", steps, olds, news)
			}
		})
	}
}

// A payload that was stored before the crash is not fetched again.
func TestFinishedContentSurvives(t *testing.T) {
	l := newLab(t)
	d := three(1)(l)
	envelope := l.sign(d)
	l.device.FailWith(func(_ int, s memory.Step) error {
		if s == memory.StepCommit {
			return errors.New("disk full")
		}
		return nil
	})
	l.refuse(envelope, suit.ReasonOperationFailed)
	l.device.Restart()
	fetches := len(l.device.Fetches())
	l.mustUpdate(envelope)
	if n := len(l.device.Fetches()) - fetches; fetches != 3 || n != 0 {
		t.Errorf("%d fetches, and %d more after the failure", fetches, n)
	}
}

// Every step may fail without a crash, too: then nothing changed, and the report says so.
func TestEveryStepMayFail(t *testing.T) {
	broken := errors.New("input/output error")
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			for n := 1; ; n++ {
				l := newLab(t)
				s.before(l)
				old := l.device.State()
				l.device.FailWith(func(i int, _ memory.Step) error {
					if i == n {
						return broken
					}
					return nil
				})
				err := s.run(l)
				if err == nil {
					if n < 3 {
						t.Fatal("nothing failed")
					}
					return
				}
				if !errors.Is(err, broken) || !sameState(old, l.device.State()) {
					t.Fatalf("step %d: %v, device changed: %t", n, err, !sameState(old, l.device.State()))
				}
			}
		})
	}
}

// FuzzProcess runs arbitrary install and fetch sections on a device that fails at random: the state is
// always the old or the new generation, never a mixture, the report expands to the trail, and nothing
// panics.
func FuzzProcess(f *testing.F) {
	l := newLab(f)
	for _, d := range []draft{three(1)(l), swapped(1)(l), version(1, idA, appA)(l)} {
		install, err := d.Install.Commands.MarshalCBOR()
		if err != nil {
			f.Fatal(err)
		}
		fetch, err := d.PayloadFetch.Commands.MarshalCBOR()
		if err != nil {
			f.Fatal(err)
		}
		for seed := range uint64(4) {
			f.Add(install, fetch, seed)
		}
	}
	author := newKey(f)
	f.Fuzz(func(t *testing.T, install, fetch []byte, seed uint64) {
		d := many(2, idA, appA, appB, appC)
		d.Common.Dependencies = nil
		for _, s := range []struct {
			data    []byte
			section *suit.Section
		}{{install, &d.Install}, {fetch, &d.PayloadFetch}} {
			if seq, err := suit.ParseSequence(s.data); err == nil {
				s.section.Commands = seq
			}
		}
		l := newLab(t, func(l *lab) { l.author = author; l.trust(processor.AllComponents()); l.cfg.Limits.Commands = 300 })
		l.device.Serve("u", []byte("payload"))
		l.device.Put(appA, []byte("old a"))
		e, err := suit.Builder{Manifest: d.Manifest}.Build()
		if err != nil {
			return
		}
		signer, err := author.Signer()
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Sign(nil, signer); err != nil {
			t.Fatal(err)
		}
		old := l.device.State()
		random := rand.New(rand.NewPCG(seed, 1))
		rate := random.IntN(4) * 8
		l.device.FailWith(func(int, memory.Step) error {
			if random.IntN(100) < rate {
				return errors.New("random failure")
			}
			return nil
		})
		report, err := l.p.Update(t.Context(), e.Encode(), l.options())
		l.explains(report, err, processor.ProcedureUpdate, e.Encode())
		got := l.device.State()
		if err != nil {
			if !sameState(old, got) {
				t.Fatalf("failed with %v and changed the device", err)
			}
			return
		}
		record, ok := got.Manifests[idA.String()]
		if !ok || !bytes.Equal(record.Digest.Bytes, e.Digest.Bytes) || got.Highest[idA.String()] != 2 {
			t.Fatal("succeeded without a record")
		}
		l.device.FailWith(nil)
		if _, err := l.p.Uninstall(t.Context(), idA, processor.Options{}); err != nil {
			t.Fatalf("cannot be uninstalled: %v", err)
		}
	})
}
