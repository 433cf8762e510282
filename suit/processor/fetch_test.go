package processor_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
	"github.com/go-teep/teep/suit/processor/memory"
)

// encrypt encrypts content to kek, detached.
func (l *lab) encrypt(alg cose.Algorithm, kek *cose.Key, content string) (ciphertext, info []byte) {
	l.t.Helper()
	info, ciphertext, err := cose.Encrypt(rand.Reader, []byte(content), alg, []cose.Recipient{cose.A128KWRecipient(kek)}, cose.EncryptOptions{Detached: true})
	if err != nil {
		l.t.Fatal(err)
	}
	return ciphertext, info
}

func TestFetchGoesOnWhereItBroke(t *testing.T) {
	payload := bytes.Repeat([]byte("0123456789abcdef"), 1<<12)
	waits := 0
	l := newLab(t, func(l *lab) {
		l.cfg.Retry = processor.Retry{Attempts: 3, Wait: func(_ context.Context, attempt int) error { waits += attempt; return nil }}
	})
	l.device.ServeSource("u", &memory.Source{Content: payload, BreakAfter: 20000, Breaks: 3})
	l.mustUpdate(l.sign(one(1, idA, appA, string(payload), "u")))
	l.wants(appA, string(payload))
	for i, f := range l.device.Fetches() {
		if f.Offset != int64(i)*20000 {
			t.Errorf("connection %d began at %d", i, f.Offset)
		}
	}
	if waits != 1+2+3 {
		t.Errorf("waited %d", waits)
	}
	t.Run("once too often", func(t *testing.T) {
		l.t = t
		l.device.ServeSource("w", &memory.Source{Content: payload[:65000], BreakAfter: 10000, Breaks: 4})
		l.refuse(l.sign(one(2, idA, appA, string(payload[:65000]), "w")), suit.ReasonOperationFailed)
	})
	t.Run("the policy gives up", func(t *testing.T) {
		l := newLab(t, func(l *lab) {
			l.cfg.Retry = processor.Retry{Attempts: 3, Wait: func(context.Context, int) error { return errors.New("no more") }}
		})
		l.device.ServeSource("u", &memory.Source{Content: payload, BreakAfter: 10, Breaks: 1})
		l.refuse(l.sign(one(1, idA, appA, string(payload), "u")), suit.ReasonOperationFailed)
	})
	t.Run("no policy", func(t *testing.T) {
		l := newLab(t)
		l.device.ServeSource("u", &memory.Source{Content: payload, BreakAfter: 10, Breaks: 1})
		l.refuse(l.sign(one(1, idA, appA, string(payload), "u")), suit.ReasonOperationFailed)
	})
}

func TestMirrors(t *testing.T) {
	try := func(from string) seq { return seq{uri(from), dir(suit.DirFetch), cond(suit.CondImageMatch)} }
	for _, c := range []struct {
		name          string
		first, second *memory.Source
		ok            bool
	}{
		{"the first is down", &memory.Source{Refuse: errors.New("down")}, &memory.Source{Content: []byte("good")}, true},
		{"the first breaks off", &memory.Source{Content: []byte("good"), BreakAfter: 2, Breaks: 9}, &memory.Source{Content: []byte("good")}, true},
		{"the first has something else", &memory.Source{Content: []byte("evil")}, &memory.Source{Content: []byte("good")}, true},
		{"the first has less", &memory.Source{Content: []byte("goo")}, &memory.Source{Content: []byte("good")}, true},
		{"the first has more", &memory.Source{Content: []byte("goods")}, &memory.Source{Content: []byte("good")}, true},
		{"both have something else", &memory.Source{Content: []byte("evil")}, &memory.Source{Content: []byte("evil")}, false},
		{"both are down", &memory.Source{Refuse: errors.New("down")}, &memory.Source{Refuse: errors.New("down")}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t)
			l.device.ServeSource("1", c.first)
			l.device.ServeSource("2", c.second)
			d := one(1, idA, appA, "good", "")
			d.Install = section(suit.TryEach(try("1"), try("2")))
			envelope := l.sign(d)
			l.explained(envelope)
			if _, err := l.update(envelope); (err == nil) != c.ok {
				t.Fatal(err)
			}
			if c.ok {
				l.wants(appA, "good")
			} else {
				l.wants(appA, "")
			}
		})
	}
}

func TestPayloadSizes(t *testing.T) {
	sized := func(n uint64) draft {
		d := one(1, idA, appA, "12345", "u")
		d.Common.SharedSequence.Commands[0] = override(func(p *suit.Parameters) { identity(p); image("12345")(p); p.SetSize(n) })
		return d
	}
	for _, n := range []uint64{0, 4, 6, 1 << 62, 1<<64 - 1} {
		l := newLab(t)
		l.device.Serve("u", []byte("12345"))
		l.refuse(l.sign(sized(n)), suit.ReasonOperationFailed)
	}
	l := newLab(t, func(l *lab) { l.cfg.Limits.Payload = 4 })
	l.device.Serve("u", []byte("12345"))
	if f := l.refuse(l.sign(sized(5)), suit.ReasonOperationFailed); !errors.Is(f, processor.ErrLimit) {
		t.Error(f)
	}
	unsized := one(1, idA, appA, "12345", "u")
	unsized.Common.SharedSequence.Commands[0] = override(func(p *suit.Parameters) { identity(p); p.SetDigest(suit.NewDigest([]byte("12345"))) })
	if f := l.refuse(l.sign(unsized), suit.ReasonOperationFailed); !errors.Is(f, processor.ErrLimit) {
		t.Error(f)
	}
	l = newLab(t, func(l *lab) { l.cfg.Limits.Total = 4 })
	l.device.Serve("u", []byte("12345"))
	if f := l.refuse(l.sign(sized(5)), suit.ReasonOperationFailed); !errors.Is(f, processor.ErrLimit) {
		t.Error(f)
	}
}

func TestFetchNegative(t *testing.T) {
	for _, c := range []struct {
		name string
		cmds []suit.Command
	}{
		{"no URI", []suit.Command{dir(suit.DirFetch)}},
		{"integrated payload that is not there", []suit.Command{uri("#gone"), dir(suit.DirFetch)}},
		{"empty URI", []suit.Command{uri(""), dir(suit.DirFetch)}},
		{"nobody answers", []suit.Command{uri("https://nowhere.example/"), dir(suit.DirFetch)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t)
			d := one(1, idA, appA, "x", "")
			d.Install = section(c.cmds...)
			l.refuse(l.sign(d), suit.ReasonOperationFailed)
		})
	}
}

func TestFetchArgumentsReachThePlatform(t *testing.T) {
	l := newLab(t)
	l.device.Serve("u", []byte("x"))
	d := one(1, idA, appA, "x", "u")
	d.Install.Commands = append([]suit.Command{override(func(p *suit.Parameters) { p.SetFetchArguments([]byte("args")) })}, d.Install.Commands...)
	l.mustUpdate(l.sign(d))
	if got := l.device.Fetches()[0]; string(got.Args) != "args" {
		t.Errorf("arguments: %q", got.Args)
	}
}

func TestContentThatIsThereIsNotFetched(t *testing.T) {
	l := newLab(t)
	l.device.Put(appC, []byte("there"))
	l.mustUpdate(l.sign(one(1, idA, appA, "there", "nowhere")))
	l.wants(appA, "there")
	if n := len(l.device.Fetches()); n != 0 {
		t.Errorf("%d fetches", n)
	}
}

func TestUncheckedContentIsNotCommitted(t *testing.T) {
	start := func() *lab {
		l := newLab(t)
		l.device.Serve("u", []byte("whatever"))
		return l
	}
	fetch := []suit.Command{suit.SetComponentIndex(0), uri("u"), dir(suit.DirFetch)}
	for name, more := range map[string][]suit.Command{
		"never checked":            nil,
		"checked not to be":        {override(image("other")), cond(suit.CondImageNotMatch)},
		"copied":                   {suit.SetComponentIndex(1), source(0), dir(suit.DirCopy)},
		"swapped":                  {suit.SetComponentIndex(1), content("x"), dir(suit.DirWrite), source(0), dir(suit.DirSwap)},
		"failed a check, softly":   {suit.TryEach(seq{override(image("other")), cond(suit.CondImageMatch)}, nil)},
		"copied, the copy checked": {suit.SetComponentIndex(1), source(0), override(image("other")), dir(suit.DirUnlink)},
	} {
		l := start()
		d := many(1, idA, appA, appB)
		d.Install = section(append(append([]suit.Command{}, fetch...), more...)...)
		if f := l.refuse(l.sign(d), suit.ReasonOperationFailed); !errors.Is(f, processor.ErrUnverified) {
			t.Errorf("%s: %v", name, f)
		}
	}
	t.Run("a check of the copy vouches for the source", func(t *testing.T) {
		l := start()
		d := many(1, idA, appA, appB)
		d.Install = section(append(append([]suit.Command{}, fetch...), suit.SetComponentIndex(1), source(0),
			dir(suit.DirCopy), override(image("whatever")), cond(suit.CondImageMatch))...)
		l.mustUpdate(l.sign(d))
	})
	t.Run("validation counts", func(t *testing.T) {
		l := start()
		d := many(1, idA, appA, appB)
		d.Install = section(fetch...)
		d.Validate = section(suit.SetComponentIndex(0), override(image("whatever")), cond(suit.CondImageMatch))
		l.mustUpdate(l.sign(d))
	})
}

// Encrypted payloads: straight from outside, integrated, and in the manifest.
func TestEncryptedPayloads(t *testing.T) {
	kek := cose.NewSymmetricKey([]byte("0123456789abcdef"))
	for _, alg := range []cose.Algorithm{cose.AlgA128GCM, cose.AlgA256GCM, cose.AlgChaCha20Poly1305, cose.AlgA128CTR, cose.AlgA256CTR} {
		for _, way := range []string{"u", "#in", "write"} {
			t.Run(alg.String()+" "+way, func(t *testing.T) {
				secret := string(bytes.Repeat([]byte("secret "), 100))
				l := newLab(t, func(l *lab) { l.device.DecryptKeys = cose.DecryptKeys{kek} })
				ciphertext, info := l.encrypt(alg, kek, secret)
				make := func(number uint64, ciphertext []byte, check bool) []byte {
					d := one(number, idA, appA, secret, way)
					d.integrated = map[string][]byte{"#in": ciphertext}
					l.device.Serve("u", ciphertext)
					d.Validate = suit.Section{}
					cmds := []suit.Command{override(func(p *suit.Parameters) {
						p.SetURI(way)
						p.SetContent(ciphertext)
						if err := p.SetEncryptionInfo(info); err != nil {
							t.Fatal(err)
						}
					}), dir(suit.DirFetch)}
					if way == "write" {
						cmds[1] = dir(suit.DirWrite)
					}
					if check {
						cmds = append(cmds, cond(suit.CondImageMatch))
					}
					d.Install = section(cmds...)
					return l.sign(d)
				}
				damaged := bytes.Clone(ciphertext)
				damaged[5] ^= 0x80
				if _, err := l.update(make(1, damaged, true)); err == nil {
					t.Fatal("damaged ciphertext was accepted")
				}
				unchecked := make(2, damaged, false)
				if _, err := l.update(unchecked); err == nil && (alg.IsAuthenticated() || way != "write") {
					t.Fatal("damaged ciphertext was accepted without a check")
				}
				if _, err := l.update(make(3, ciphertext[:len(ciphertext)-1], true)); err == nil {
					t.Fatal("truncated ciphertext was accepted")
				}
				l.mustUpdate(make(4, ciphertext, !alg.IsAuthenticated()))
				l.wants(appA, secret)
				l.device.DecryptKeys = cose.DecryptKeys{cose.NewSymmetricKey([]byte("another key, no?"))}
				l.device.Put(appA, nil) // so that the plaintext is not found by its digest
				if _, err := l.update(make(5, ciphertext, true)); err == nil || !strings.Contains(err.Error(), "not encrypted to a key of this device") {
					t.Fatal("decrypted with another key, or not said why not:", err)
				}
				l.device.DecryptKeys = nil
				if _, err := l.update(make(6, ciphertext, true)); err == nil || !strings.Contains(err.Error(), "has no key that decrypts payloads") {
					t.Fatal("decrypted without a key, or not said why not:", err)
				}
			})
		}
	}
	t.Run("a cipher that is not accepted", func(t *testing.T) {
		l := newLab(t, func(l *lab) {
			l.device.DecryptKeys = cose.DecryptKeys{kek}
			l.cfg.ContentAlgorithms = []cose.Algorithm{cose.AlgA128GCM}
		})
		ciphertext, info := l.encrypt(cose.AlgA128CTR, kek, "x")
		l.device.Serve("u", ciphertext)
		d := one(1, idA, appA, "x", "u")
		d.Install.Commands = append([]suit.Command{override(func(p *suit.Parameters) {
			if err := p.SetEncryptionInfo(info); err != nil {
				t.Fatal(err)
			}
		})}, d.Install.Commands...)
		l.refuse(l.sign(d), suit.ReasonOperationFailed)
	})
}

// A ciphertext that nobody gave the content key for: copy says what is missing.
func TestCopyOfACiphertextWithoutItsKey(t *testing.T) {
	l := newLab(t)
	ciphertext, _ := l.encrypt(cose.AlgA128GCM, cose.NewSymmetricKey([]byte("0123456789abcdef")), "secret")
	l.device.Serve("u", ciphertext)
	for want, says := range map[string]bool{"secret": true, "another size": false} {
		d := many(1, idA, appA, appB)
		d.Install = section(suit.SetComponentIndex(0), override(func(p *suit.Parameters) { image(string(ciphertext))(p); p.SetURI("u") }),
			dir(suit.DirFetch), cond(suit.CondImageMatch),
			suit.SetComponentIndex(1), override(func(p *suit.Parameters) { image(want)(p); p.SetSourceComponent(0) }), dir(suit.DirCopy))
		if f := l.refuse(l.sign(d), suit.ReasonOperationFailed); strings.Contains(f.Error(), "encryption-info") != says {
			t.Errorf("%s: %v", want, f)
		}
	}
}

func TestTimeIsLimited(t *testing.T) {
	l := newLab(t, func(l *lab) { l.cfg.Limits.Time = time.Nanosecond })
	l.device.Serve("u", []byte("x"))
	if f := l.refuse(l.sign(one(1, idA, appA, "x", "u")), suit.ReasonOperationFailed); !errors.Is(f, context.DeadlineExceeded) {
		t.Fatal(f)
	}
	l = newLab(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	report, err := l.p.Update(ctx, l.sign(one(1, idA, appA, "x", "u")), processor.UpdateOptions{})
	l.checkReport(report, err)
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestOtherHashes(t *testing.T) {
	for _, alg := range []cose.Algorithm{cose.AlgSHA384, cose.AlgSHA512} {
		l := newLab(t)
		l.device.Serve("u", []byte("x"))
		sum, err := suit.NewDigestWith(alg, []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		d := one(1, idA, appA, "x", "u")
		d.Common.SharedSequence.Commands[0] = override(func(p *suit.Parameters) { identity(p); p.SetDigest(sum) })
		l.mustUpdate(l.sign(d))
	}
}
