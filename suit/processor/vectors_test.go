package processor_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/vectors"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
	"github.com/go-teep/teep/suit/processor/memory"
)

func uuid(t testing.TB, s string) [16]byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 16 {
		t.Fatal(s)
	}
	return [16]byte(b)
}

// vectorLab is a device as the vectors describe it: everything is trusted to their key.
func vectorLab(t testing.TB, change ...func(*lab)) *lab {
	t.Helper()
	anchor, err := cose.ParsePEM(vectors.Read(t, "keys/trust_anchor_prime256v1.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return newLab(t, append([]func(*lab){func(l *lab) {
		l.author = anchor
		l.device = memory.New(processor.Identity{
			Vendor: uuid(t, "fa6b4a53d5ad5fdfbe9de663e4d41ffe"), Class: uuid(t, "1492af1425695e48bf429b2d51f2ab45")})
		l.cfg.Platform = l.device
		l.cfg.Components = []suit.ComponentID{{}}
		l.trust(processor.AllComponents())
	}}, change...)...)
}

func (l *lab) updateAt(id suit.ComponentID, envelope []byte) (*suit.Report, error) {
	l.t.Helper()
	o := l.options()
	o.ManifestID = id
	report, err := l.p.Update(l.t.Context(), envelope, o)
	l.checkReport(report, err)
	return report, err
}

// The digests of these examples belong to no payload that anyone has, so that they run exactly
// until their first image-match.
func TestVectorsRunUntilTheImageTheyWant(t *testing.T) {
	for _, v := range []struct {
		name    string
		size    int
		section suit.Label
		fetched string
	}{
		{"suit/exp0.suit", 0, suit.LabelValidate, ""},
		{"suit/exp1.suit", 34768, suit.LabelInstall, "http://example.com/file.bin"},
		{"suit/exp2B.suit", 34768, suit.LabelInstall, "http://example.com/very/long/path/to/file/file.bin"},
		{"suit/exp3.suit", 76834, suit.LabelInstall, "http://example.com/file2.bin"},
		{"suit/exp4.suit", 34768, suit.LabelPayloadFetch, "http://example.com/file.bin"},
		{"suit/exp5.suit", 34768, suit.LabelInstall, "http://example.com/file1.bin"},
	} {
		t.Run(v.name, func(t *testing.T) {
			l := vectorLab(t)
			l.device.SlotOf = map[string]uint64{suit.ComponentID{{0}}.Key(): 1}
			if v.fetched != "" {
				l.device.Serve(v.fetched, make([]byte, v.size))
			}
			_, err := l.updateAt(suit.NewComponentID("root"), vectors.Read(t, v.name))
			var f *processor.Failure
			if !errors.As(err, &f) || f.Reason != suit.ReasonConditionFailed || f.Command != suit.CondImageMatch || f.Section != v.section {
				t.Fatalf("ended with %v", err)
			}
			if n := len(l.device.State().Content); n != 0 {
				t.Errorf("%d components were left behind", n)
			}
			if got := l.device.Fetches(); v.fetched != "" && (len(got) != 1 || got[0].URI != v.fetched) {
				t.Errorf("fetched %v", got)
			}
		})
	}
}

// printed finds the signed envelopes that the manifest draft prints in an example, the whole one and perhaps
// one that is severed.
func printed(t *testing.T, name string) (signed [][]byte) {
	t.Helper()
	for _, block := range strings.Split(string(vectors.Read(t, name)), "~~~") {
		var digits strings.Builder
		for line := range strings.Lines(block) {
			if line = strings.TrimSpace(line); strings.Trim(line, "0123456789abcdef") == "" {
				digits.WriteString(line)
			}
		}
		data, err := hex.DecodeString(digits.String())
		if err != nil || !bytes.HasPrefix(data, []byte{0xd8, 0x6b}) {
			continue
		}
		if e, err := suit.ParseEnvelope(data); err != nil || len(e.AuthBlocks) > 0 {
			signed = append(signed, data)
		}
	}
	return signed
}

// The draft's own examples are signed with ES256. A device that accepts it runs them as far as the others,
// and one that does not runs nothing of them.
func TestVectorsOfTheDraftRun(t *testing.T) {
	for name, section := range map[string]suit.Label{
		"example0": suit.LabelValidate, "example1": suit.LabelInstall, "example2": suit.LabelInstall, "example3": suit.LabelInstall,
		"example4": suit.LabelPayloadFetch, "example5": suit.LabelInstall,
	} {
		t.Run(name, func(t *testing.T) {
			envelopes := printed(t, "suit-es256/"+name+".txt")
			if len(envelopes) == 0 {
				t.Fatal("no signed envelope was found")
			}
			for _, envelope := range envelopes {
				for _, algorithms := range [][]cose.Algorithm{nil, {cose.AlgES256}} {
					l := vectorLab(t, func(l *lab) { l.cfg.Algorithms = algorithms })
					l.device.SlotOf = map[string]uint64{suit.ComponentID{{0}}.Key(): 1}
					for uri, size := range map[string]int{"http://example.com/file.bin": 34768, "http://example.com/very/long/path/to/file/file.bin": 34768,
						"http://example.com/file1.bin": 34768, "http://example.com/file2.bin": 76834} {
						l.device.Serve(uri, make([]byte, size))
					}
					_, err := l.updateAt(suit.NewComponentID("root"), envelope)
					var f *processor.Failure
					if !errors.As(err, &f) || len(l.device.State().Content) != 0 {
						t.Fatalf("ended with %v", err)
					}
					severed := strings.Contains(err.Error(), "severed")
					switch {
					case algorithms == nil:
						if f.Reason != suit.ReasonAlgUnsupported || len(l.trail) > 0 {
							t.Errorf("without consent it ended with %v", err)
						}
					case severed:
						if name != "example2" {
							t.Errorf("ended with %v", err)
						}
					case f.Reason != suit.ReasonConditionFailed || f.Command != suit.CondImageMatch || f.Section != section:
						t.Errorf("ended with %v", err)
					}
				}
			}
		})
	}
}

func TestVectorSeveredNeedsItsSection(t *testing.T) {
	l := vectorLab(t)
	_, err := l.updateAt(suit.NewComponentID("root"), vectors.Read(t, "suit/exp2A.suit"))
	if err == nil || !strings.Contains(err.Error(), "severed") {
		t.Fatalf("ended with %v", err)
	}
}

func TestVectorWrongDevice(t *testing.T) {
	for _, id := range []processor.Identity{{}, {Vendor: uuid(t, "fa6b4a53d5ad5fdfbe9de663e4d41ffe")}} {
		l := vectorLab(t)
		l.device.Default = id
		_, err := l.updateAt(suit.NewComponentID("root"), vectors.Read(t, "suit/exp1.suit"))
		var f *processor.Failure
		if !errors.As(err, &f) || f.Reason != suit.ReasonConditionFailed || len(l.device.Fetches()) != 0 {
			t.Fatalf("ended with %v after %d fetches", err, len(l.device.Fetches()))
		}
	}
}

// teepLab is the device of the TEEP examples.
func teepLab(t testing.TB) *lab {
	return vectorLab(t, func(l *lab) {
		l.device.Default = processor.Identity{Vendor: uuid(t, "c0ddd5f15243566087db4f5b0aa26c2f"), Class: uuid(t, "db42f7093d8c55baa8c5265fc5820f4e")}
		l.device.Serve("https://example.org/8d82573a-926d-4754-9353-32dc29997f74.ta",
			vectors.Read(t, "teep/8d82573a-926d-4754-9353-32dc29997f74.ta"))
		key, err := cose.ParsePEM(vectors.Read(t, "keys/teep_agent_prime256v1.pem"))
		if err != nil {
			t.Fatal(err)
		}
		l.device.DecryptKeys = cose.DecryptKeys{key}
	})
}

var (
	teepFS = suit.NewComponentID("TEEP-Device", "SecureFS")
	teepTA = append(suit.ComponentID{}, append(teepFS[:2:2], mustHex("8d82573a926d4754935332dc29997f74"))...)
)

func mustHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func TestVectorTEEPByURIAndIntegrated(t *testing.T) {
	for _, name := range []string{"teep/suit_uri.hex.txt", "teep/suit_integrated.hex.txt"} {
		t.Run(name, func(t *testing.T) {
			l := teepLab(t)
			l.mustUpdate(vectors.Hex(t, name))
			ta := teepTA.Join(suit.NewComponentID("ta"))
			l.wants(ta, "Hello, Secure World!")
			if _, err := l.p.Uninstall(t.Context(), teepTA.Join(suit.NewComponentID("suit")), processor.Options{}); err != nil {
				t.Fatal(err)
			}
			l.wants(ta, "")
		})
	}
}

func TestVectorTEEPPersonalization(t *testing.T) {
	envelope := vectors.Hex(t, "teep/suit_personalization.hex.txt")
	const depURI = "https://example.org/8d82573a-926d-4754-9353-32dc29997f74.suit"
	t.Run("strictly, it lacks the dependency integrity condition", func(t *testing.T) {
		l := teepLab(t)
		l.device.Serve(depURI, vectors.Hex(t, "teep/suit_uri.hex.txt"))
		_, err := l.update(envelope)
		if err == nil || !strings.Contains(err.Error(), "condition-dependency-integrity") {
			t.Fatalf("ended with %v", err)
		}
	})
	l := teepLab(t)
	l.cfg.ImplicitDependencyIntegrity = true
	l.start()
	config := teepFS.Join(suit.NewComponentID("config.json"))
	ta := teepTA.Join(suit.NewComponentID("ta"))
	t.Run("with another dependency than the one that is pinned", func(t *testing.T) {
		l.t = t
		l.device.Serve(depURI, vectors.Hex(t, "teep/suit_integrated.hex.txt"))
		l.refuse(envelope, suit.ReasonConditionFailed)
	})
	l.device.Serve(depURI, vectors.Hex(t, "teep/suit_uri.hex.txt"))
	t.Run("without the key", func(t *testing.T) {
		l.t = t
		keys := l.device.DecryptKeys
		l.device.DecryptKeys = nil
		l.refuse(envelope, suit.ReasonOperationFailed)
		l.device.DecryptKeys = keys
	})
	l.t = t
	l.mustUpdate(envelope)
	l.wants(config, `{"name":"FOO Bar","secret":"0123456789abfcdef0123456789abcd"}`)
	l.wants(ta, "Hello, Secure World!")
	if _, err := l.p.Uninstall(t.Context(), teepTA.Join(suit.NewComponentID("suit")), processor.Options{}); !errors.Is(err, processor.ErrReferenced) {
		t.Fatalf("dependency was uninstalled: %v", err)
	}
	if _, err := l.p.Uninstall(t.Context(), teepFS.Join(suit.NewComponentID("config.suit")), processor.Options{}); err != nil {
		t.Fatal(err)
	}
	if s := l.device.State(); len(s.Content) != 0 || len(s.Manifests) != 0 {
		t.Fatalf("left behind: %v, %d manifests", s.Content, len(s.Manifests))
	}
}

func TestVectorTrustDomains(t *testing.T) {
	l := vectorLab(t)
	envelope := vectors.Read(t, "suit-trust-domains/dependent.suit")
	l.refuse(envelope, suit.ReasonOperationFailed) // it checks neither vendor nor class
	l.cfg.InsecureAnyDevice = true
	l.start()
	l.mustUpdate(envelope)
	l.wants(suit.NewComponentID("00"), "hello world")
	l.device.OnInvoke = func(_ context.Context, _ suit.ComponentID, args []byte) error {
		if string(args) != "cat 00" {
			t.Errorf("args %q", args)
		}
		return nil
	}
	if _, err := l.p.Invoke(t.Context(), suit.NewComponentID("dependent.suit"), processor.Options{}); err != nil {
		t.Fatal(err)
	}
	if len(l.device.Invocations()) != 1 {
		t.Fatal("not invoked")
	}
}

func TestVectorEncryptedWrite(t *testing.T) {
	mac := cose.NewSymmetricKey(bytes.Repeat([]byte("a"), 32))
	kek := cose.NewSymmetricKey(bytes.Repeat([]byte("a"), 16))
	l := vectorLab(t, func(l *lab) {
		l.cfg.InsecureAnyDevice = true
		l.device.DecryptKeys = cose.DecryptKeys{kek}
	})
	envelope := vectors.Read(t, "suit-encryption/aes-kw-write.suit")
	id := suit.NewComponentID("root")
	if _, err := l.updateAt(id, envelope); err == nil {
		t.Fatal("a MAC was accepted without a shared key")
	}
	keys, err := cose.NewKeySet(mac)
	if err != nil {
		t.Fatal(err)
	}
	l.cfg.MACKeys = keys
	l.start()
	if _, err := l.updateAt(id, envelope); err == nil {
		t.Fatal("a MAC of a key without rights was accepted")
	}
	l.trust(processor.AllComponents(), processor.Signer{Key: mac, Rights: processor.AllComponents()})
	l.start()
	if _, err := l.updateAt(id, envelope); err != nil {
		t.Fatal(err)
	}
	l.wants(suit.NewComponentID("plaintext-firmware"), "This is a real firmware image.")
}

// Ciphertext that is fetched, decrypted by copy, under each way that the text has.
func TestVectorEncryptedFetchAndCopy(t *testing.T) {
	kek := cose.NewSymmetricKey(bytes.Repeat([]byte("a"), 16))
	agent, err := cose.ParsePEM(vectors.Read(t, "keys/teep_agent_prime256v1.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, way := range []string{"aes-kw-aes-ctr", "aes-kw-aes-gcm", "es-ecdh-aes-ctr", "es-ecdh-aes-gcm"} {
		info := vectors.Hex(t, "suit-encryption/suit-encryption-info-"+way+".hex")
		ciphertext := vectors.Hex(t, "suit-encryption/encrypted-payload-"+way+".hex")
		for _, damage := range []bool{false, true} {
			t.Run(way, func(t *testing.T) {
				l := newLab(t, func(l *lab) { l.device.DecryptKeys = cose.DecryptKeys{kek, agent} })
				served := bytes.Clone(ciphertext)
				if damage {
					served[3] ^= 1
				}
				l.device.Serve("u", served)
				d := many(1, idA, appA, appB)
				d.Install = section(suit.SetComponentIndex(1), uri("u"), dir(suit.DirFetch),
					suit.SetComponentIndex(0), override(func(p *suit.Parameters) {
						image("This is a real firmware image.")(p)
						if err := p.SetEncryptionInfo(info); err != nil {
							t.Fatal(err)
						}
						p.SetSourceComponent(1)
					}), dir(suit.DirCopy), cond(suit.CondImageMatch))
				if damage {
					_, err := l.update(l.sign(d))
					if err == nil || len(l.device.State().Content) != 0 {
						t.Fatalf("damaged ciphertext: %v", err)
					}
					return
				}
				l.mustUpdate(l.sign(d))
				l.wants(appA, "This is a real firmware image.")
			})
		}
	}
}

// Whatever byte of a signed envelope is flipped, the device either refuses it and stays what it was, or ends
// up with what was signed: payloads by digest, and the rest by signature. All envelopes that run are tried.
func TestVectorWithEachByteFlipped(t *testing.T) {
	teep := func(t testing.TB) *lab {
		l := teepLab(t)
		l.cfg.ImplicitDependencyIntegrity = true
		l.device.Serve("https://example.org/8d82573a-926d-4754-9353-32dc29997f74.suit", vectors.Hex(t, "teep/suit_uri.hex.txt"))
		l.start()
		return l
	}
	anyDevice := func(t testing.TB) *lab {
		return vectorLab(t, func(l *lab) { l.cfg.InsecureAnyDevice = true })
	}
	encrypted := func(t testing.TB) *lab {
		mac := cose.NewSymmetricKey(bytes.Repeat([]byte("a"), 32))
		keys, err := cose.NewKeySet(mac)
		if err != nil {
			t.Fatal(err)
		}
		l := vectorLab(t, func(l *lab) {
			l.cfg.InsecureAnyDevice, l.cfg.MACKeys = true, keys
			l.device.DecryptKeys = cose.DecryptKeys{cose.NewSymmetricKey(bytes.Repeat([]byte("a"), 16))}
		})
		l.trust(processor.AllComponents(), processor.Signer{Key: mac, Rights: processor.AllComponents()})
		l.start()
		return l
	}
	for _, v := range []struct {
		name     string
		envelope []byte
		lab      func(testing.TB) *lab
	}{
		{"integrated", vectors.Hex(t, "teep/suit_integrated.hex.txt"), teep},
		{"by URI", vectors.Hex(t, "teep/suit_uri.hex.txt"), teep},
		{"personalization", vectors.Hex(t, "teep/suit_personalization.hex.txt"), teep},
		{"trust domains", vectors.Read(t, "suit-trust-domains/dependent.suit"), anyDevice},
		{"encrypted", vectors.Read(t, "suit-encryption/aes-kw-write.suit"), encrypted},
	} {
		t.Run(v.name, func(t *testing.T) {
			root := suit.NewComponentID("root")
			good := v.lab(t)
			if _, err := good.updateAt(root, v.envelope); err != nil {
				t.Fatal(err)
			}
			want := good.device.State()
			for i := range v.envelope {
				l := v.lab(t)
				bad := bytes.Clone(v.envelope)
				bad[i] ^= 0x01
				before := l.device.State()
				_, err := l.updateAt(root, bad)
				after := l.device.State()
				if err != nil && !sameState(before, after) {
					t.Fatalf("byte %d: refused, but the device changed", i)
				}
				if err == nil && !sameSigned(want, after) {
					t.Fatalf("byte %d: something else was installed", i)
				}
			}
		})
	}
}

// sameSigned compares all that a signature covers: contents, and manifests by their digests.
func sameSigned(a, b memory.State) bool {
	sameManifest := func(x, y processor.ManifestRecord) bool {
		return x.Digest.Equal(y.Digest) && x.SequenceNumber == y.SequenceNumber
	}
	return maps.EqualFunc(a.Content, b.Content, bytes.Equal) && maps.EqualFunc(a.Manifests, b.Manifests, sameManifest)
}
