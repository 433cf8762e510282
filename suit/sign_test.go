package suit_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"slices"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/vectors"
	"github.com/go-teep/teep/suit"
)

func simpleManifest() suit.Manifest {
	var uri suit.Parameters
	uri.SetURI("https://example.com/payload")
	m := suit.Manifest{SequenceNumber: 7, ComponentID: suit.NewComponentID("m")}
	m.Common.Components = []suit.ComponentID{suit.NewComponentID("c")}
	m.Install.Commands = suit.Sequence{suit.OverrideParameters(uri), suit.Directive(suit.DirFetch, 2)}
	m.Validate.Commands = suit.Sequence{suit.Condition(suit.CondImageMatch, 15)}
	m.Text.Languages = suit.Text{"en": {Manifest: map[suit.TextLabel]string{suit.TextManifestDescription: "a text"}}}
	return m
}

func built(t testing.TB, b suit.Builder) *suit.Envelope {
	t.Helper()
	e, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func reparse(t testing.TB, e *suit.Envelope) *suit.Envelope {
	t.Helper()
	again, err := suit.ParseEnvelope(e.Encode())
	if err != nil {
		t.Fatal(err)
	}
	return again
}

func TestSignAndVerify(t *testing.T) {
	for _, alg := range []cose.Algorithm{cose.AlgESP256, cose.AlgESP384, cose.AlgEd25519} {
		key, stranger := generate(t, alg), generate(t, alg)
		e := built(t, suit.Builder{Manifest: simpleManifest()})
		if _, err := e.Verify(keySet(t, key.Public()), suit.VerifyOptions{}); !errors.Is(err, suit.ErrNoAuthentication) {
			t.Errorf("%v: unsigned gives %v", alg, err)
		}
		if err := e.Sign(rand.Reader, signerOf(t, key)); err != nil {
			t.Fatal(err)
		}
		a, err := reparse(t, e).Verify(keySet(t, key.Public()), suit.VerifyOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if !a.Signer.Equal(key) || a.Algorithm != alg || a.Manifest.SequenceNumber != 7 {
			t.Errorf("%v: authenticated %+v", alg, a)
		}
		_, err = reparse(t, e).Verify(keySet(t, stranger.Public()), suit.VerifyOptions{})
		if !errors.Is(err, suit.ErrUnauthorized) || suit.ReasonFor(err) != suit.ReasonUnauthorised {
			t.Errorf("%v: a stranger's key gives %v, %v", alg, err, suit.ReasonFor(err))
		}
		if _, err := reparse(t, e).Verify(keySet(t), suit.VerifyOptions{}); !errors.Is(err, suit.ErrUnauthorized) {
			t.Errorf("%v: no key gives %v", alg, err)
		}
	}
}

// ES256 of older authors is refused unless the caller asks for it.
func TestPolymorphicAlgorithmsNeedConsent(t *testing.T) {
	keys := trustAnchor(t)
	for _, v := range signedVectors(t) {
		if !v.es256 || v.unsigned {
			continue
		}
		e, err := suit.ParseEnvelope(v.data)
		if err != nil {
			t.Fatal(err)
		}
		_, err = e.Verify(keys, suit.VerifyOptions{})
		if !errors.Is(err, suit.ErrUnauthorized) || suit.ReasonFor(err) != suit.ReasonAlgUnsupported {
			t.Errorf("%s: got %v (%v), want it refused for its algorithm", v.name, err, suit.ReasonFor(err))
		}
	}
}

func TestSeveralAuthenticationBlocks(t *testing.T) {
	old, future, stranger := generate(t, cose.AlgESP256), generate(t, cose.AlgEd25519), generate(t, cose.AlgESP384)
	secret, wrong := generate(t, cose.AlgHMAC256), generate(t, cose.AlgHMAC256)
	e := built(t, suit.Builder{Manifest: simpleManifest()})
	if err := e.Sign(rand.Reader, signerOf(t, stranger)); err != nil {
		t.Fatal(err)
	}
	if err := e.SignMulti(rand.Reader, signerOf(t, old), signerOf(t, future)); err != nil {
		t.Fatal(err)
	}
	if err := e.Mac(secret); err != nil {
		t.Fatal(err)
	}
	e = reparse(t, e)
	for name, tc := range map[string]struct {
		keys, mac cose.KeySource
		signer    *cose.Key // nil: refused
		signers   int
	}{
		"old":           {keySet(t, old.Public()), nil, old, 1},
		"future":        {keySet(t, future.Public()), nil, future, 1},
		"all":           {keySet(t, old.Public(), stranger.Public()), keySet(t, secret), stranger, 3},
		"MAC":           {keySet(t), keySet(t, secret), secret, 1},
		"wrong MAC key": {keySet(t), keySet(t, wrong), nil, 0},
		"none":          {keySet(t), nil, nil, 0},
		// A MAC key among the signers' keys does not make MACs acceptable.
		"MAC as signer": {keySet(t, secret), nil, nil, 0},
	} {
		a, err := e.Verify(tc.keys, suit.VerifyOptions{MACKeys: tc.mac})
		if tc.signer == nil {
			if !errors.Is(err, suit.ErrUnauthorized) {
				t.Errorf("%s: got %v, want ErrUnauthorized", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !a.Signer.Equal(tc.signer) || len(a.Signers) != tc.signers {
			t.Errorf("%s: signer %v of %d, want %v of %d", name, a.Signer, len(a.Signers), tc.signer, tc.signers)
		}
	}
}

func TestForeignAuthenticationBlocks(t *testing.T) {
	key := generate(t, cose.AlgESP256)
	for name, block := range map[string][]byte{
		"untagged":      {0x84, 0x40, 0xa0, 0xf6, 0x40},
		"COSE_Mac":      enc(t, map[any]any{1: 2}),
		"COSE_Mac tag":  {0xd8, 0x61, 0x85, 0x40, 0xa0, 0xf6, 0x40, 0x80},
		"COSE_Encrypt0": {0xd0, 0x83, 0x40, 0xa0, 0x40},
		"empty":         {},
		"garbage":       {0xff},
	} {
		e := built(t, suit.Builder{Manifest: simpleManifest()})
		e.AuthBlocks = [][]byte{block}
		if _, err := e.Verify(keySet(t, key.Public()), suit.VerifyOptions{MACKeys: keySet(t)}); !errors.Is(err, suit.ErrUnauthorized) {
			t.Errorf("%s: got %v", name, err)
		}
		// Beside a good signature a foreign block does no harm.
		if err := e.Sign(rand.Reader, signerOf(t, key)); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Verify(keySet(t, key.Public()), suit.VerifyOptions{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A signature that embeds its payload instead of leaving it detached is refused, whatever it says.
func TestEmbeddedPayloadIsRefused(t *testing.T) {
	key := generate(t, cose.AlgESP256)
	e := built(t, suit.Builder{Manifest: simpleManifest()})
	digest, err := e.Digest.MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	for _, payload := range [][]byte{digest, []byte("something else")} {
		block, err := cose.Sign1(rand.Reader, payload, signerOf(t, key), cose.SignOptions{})
		if err != nil {
			t.Fatal(err)
		}
		e.AuthBlocks = [][]byte{block}
		if _, err := e.Verify(keySet(t, key.Public()), suit.VerifyOptions{}); !errors.Is(err, suit.ErrUnauthorized) {
			t.Errorf("embedded payload gives %v", err)
		}
	}
}

func TestSignatureIsForOneManifest(t *testing.T) {
	key := generate(t, cose.AlgESP256)
	e := built(t, suit.Builder{Manifest: simpleManifest()})
	if err := e.Sign(rand.Reader, signerOf(t, key)); err != nil {
		t.Fatal(err)
	}
	m := simpleManifest()
	m.SequenceNumber++
	other := built(t, suit.Builder{Manifest: m})
	other.AuthBlocks = e.AuthBlocks
	if _, err := other.Verify(keySet(t, key.Public()), suit.VerifyOptions{}); !errors.Is(err, suit.ErrUnauthorized) {
		t.Errorf("a signature of another manifest gives %v", err)
	}
}

func TestSeverAndUnsever(t *testing.T) {
	key := generate(t, cose.AlgESP256)
	keys := keySet(t, key.Public())
	e := built(t, suit.Builder{Manifest: simpleManifest(), Severable: []suit.Label{suit.LabelText, suit.LabelInstall, suit.LabelCoSWID}})
	if err := e.Sign(rand.Reader, signerOf(t, key)); err != nil {
		t.Fatal(err)
	}
	if got := e.Severed(); !slices.Equal(got, []suit.Label{suit.LabelText, suit.LabelInstall}) {
		t.Fatalf("severed members are %v", got)
	}
	whole, err := reparse(t, e).Verify(keys, suit.VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !whole.Manifest.Install.Available() || whole.Manifest.Text.Languages == nil {
		t.Fatal("severed members are not available")
	}
	text := whole.Manifest.Text.Raw

	e.Sever(suit.LabelText)
	without, err := reparse(t, e).Verify(keys, suit.VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if m := without.Manifest; m.Text.Languages != nil || m.Text.Severed == nil || !m.Install.Available() {
		t.Error("after severing, text must be gone and install be there")
	}
	if err := e.Unsever(suit.LabelText, append([]byte{0xa0}, text...)); err == nil {
		t.Error("another text can be put back")
	}
	if err := e.Unsever(suit.LabelValidate, nil); err == nil {
		t.Error("validate can be put back")
	}
	if err := e.Unsever(suit.LabelPayloadFetch, []byte{0x82, 3, 15}); err == nil {
		t.Error("a member that the manifest does not name can be put back")
	}
	if err := e.Unsever(suit.LabelText, text); err != nil {
		t.Fatal(err)
	}
	if back, err := reparse(t, e).Verify(keys, suit.VerifyOptions{}); err != nil || back.Manifest.Text.Languages == nil {
		t.Errorf("text was put back: %v", err)
	}
	e.Sever()
	if len(e.Severed()) != 0 {
		t.Error("Sever without labels leaves members")
	}
}

func TestSeveredMemberMustMatch(t *testing.T) {
	whole := vectors.Read(t, "suit/exp2B.suit")
	e, err := suit.ParseEnvelope(whole)
	if err != nil {
		t.Fatal(err)
	}
	m, err := e.UnverifiedManifest()
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(whole, m.Install.Raw)
	tampered := slices.Clone(whole)
	tampered[i+len(m.Install.Raw)-1] ^= 1
	e, err = suit.ParseEnvelope(tampered)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Verify(trustAnchor(t), suit.VerifyOptions{}); !errors.Is(err, suit.ErrSeveredDigest) {
		t.Errorf("a changed install section gives %v", err)
	}
	// exp2A is exp2B after an intermediary removed the members.
	e, err = suit.ParseEnvelope(whole)
	if err != nil {
		t.Fatal(err)
	}
	e.Sever()
	severed := verified(t, vector{name: "exp2A", data: vectors.Read(t, "suit/exp2A.suit")}, trustAnchor(t))
	if !bytes.Equal(e.ManifestBytes, severed.Envelope.ManifestBytes) {
		t.Error("the severed envelope has another manifest than exp2A")
	}
}

// Members that no digest covers could have been added by anyone.
func TestUncoveredMemberIsRefused(t *testing.T) {
	key := generate(t, cose.AlgESP256)
	e := built(t, suit.Builder{Manifest: simpleManifest()})
	if err := e.Sign(rand.Reader, signerOf(t, key)); err != nil {
		t.Fatal(err)
	}
	for _, label := range []int{14, 15, 16, 18, 20, 23} {
		data := e.Encode()
		added := append(slices.Clone(data), byte(label), 0x43, 0x82, 0x03, 0x0f)
		added[2]++ // one more pair in the map after the tag
		parsed, err := suit.ParseEnvelope(added)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parsed.Verify(keySet(t, key.Public()), suit.VerifyOptions{}); !errors.Is(err, suit.ErrSeveredDigest) {
			t.Errorf("member %d: got %v, want ErrSeveredDigest", label, err)
		}
	}
}

func TestBuilderRefuses(t *testing.T) {
	broken := simpleManifest()
	broken.Install.Commands = suit.Sequence{{Code: 99}}
	noComponents := simpleManifest()
	noComponents.Text.Languages = suit.Text{"en": {Components: []suit.ComponentText{{ID: suit.NewComponentID("other")}}}}
	for name, b := range map[string]suit.Builder{
		"unknown command":    {Manifest: broken},
		"severed and broken": {Manifest: broken, Severable: []suit.Label{suit.LabelInstall}},
		"foreign text":       {Manifest: noComponents},
		"severed validate":   {Manifest: simpleManifest(), Severable: []suit.Label{suit.LabelValidate}},
		"unknown hash":       {Manifest: simpleManifest(), Hash: -18},
	} {
		if _, err := b.Build(); err == nil {
			t.Errorf("%s: built", name)
		}
	}
}

func TestBuildIsDeterministic(t *testing.T) {
	b := suit.Builder{Manifest: simpleManifest(), Severable: []suit.Label{suit.LabelText},
		Integrated: map[string][]byte{"#a": {1}, "#b": {2}, "#long-name": {3}}}
	first := built(t, b).Encode()
	for range 20 {
		if again := built(t, b).Encode(); !bytes.Equal(first, again) {
			t.Fatalf("built %x, then %x", first, again)
		}
	}
}

func TestCloneSharesNothing(t *testing.T) {
	keys := trustAnchor(t)
	for _, v := range signedVectors(t) {
		if v.unsigned {
			continue
		}
		data := slices.Clone(v.data)
		e, err := suit.ParseEnvelope(data)
		if err != nil {
			t.Fatal(err)
		}
		c := e.Clone()
		clear(data)
		if !bytes.Equal(c.Encode(), v.data) {
			t.Errorf("%s: the clone changed with the bytes that were parsed", v.name)
		}
		if _, err := c.Verify(keys, options(v)); err != nil {
			t.Errorf("%s: %v", v.name, err)
		}
	}
}

func TestIntegratedKeepsSignature(t *testing.T) {
	key := generate(t, cose.AlgESP256)
	e := built(t, suit.Builder{Manifest: simpleManifest(), Untagged: true})
	if err := e.Sign(rand.Reader, signerOf(t, key)); err != nil {
		t.Fatal(err)
	}
	if err := e.AddIntegrated("https://example.com/payload", []byte("payload")); err != nil {
		t.Fatal(err)
	}
	again := reparse(t, e)
	if again.Tagged || string(again.Integrated["https://example.com/payload"]) != "payload" {
		t.Error("integrated payload is lost")
	}
	if _, err := again.Verify(keySet(t, key.Public()), suit.VerifyOptions{}); err != nil {
		t.Error(err)
	}
	c := again.Clone()
	c.RemoveIntegrated("https://example.com/payload")
	if len(again.Integrated) != 1 || len(c.Integrated) != 0 {
		t.Error("a clone shares its integrated payloads")
	}
}
