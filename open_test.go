package teep

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
)

type party struct {
	signer cose.Signer
	key    *cose.Key
	keys   cose.KeySet
}

func newParty(tb testing.TB, alg cose.Algorithm) party {
	tb.Helper()
	key, err := cose.GenerateKey(rand.Reader, alg)
	if err != nil {
		tb.Fatal(err)
	}
	signer, err := key.Signer()
	if err != nil {
		tb.Fatal(err)
	}
	keys, err := cose.NewKeySet(key.Public())
	if err != nil {
		tb.Fatal(err)
	}
	return party{signer, key, keys}
}

func TestProtectOpen(t *testing.T) {
	for _, alg := range []cose.Algorithm{cose.AlgESP256, cose.AlgEd25519, cose.AlgESP384} {
		p := newParty(t, alg)
		for _, m := range validMessages() {
			data, err := Protect(rand.Reader, m, p.signer)
			if err != nil {
				t.Fatal(err)
			}
			opened, err := Open(data, p.keys, OpenOptions{})
			if err != nil {
				t.Fatalf("%v: %v", alg, err)
			}
			again, _ := Encode(opened.Message)
			if !bytes.Equal(again, opened.Payload) || !opened.Key.Equal(p.key) || opened.Algorithm != alg || opened.Multiple ||
				!opened.Suite.Equal(CipherSuiteSign1(alg)) {
				t.Errorf("%v: %+v", alg, opened)
			}
		}
	}
}

func TestInitialQueryRequest(t *testing.T) {
	esp, ed, p384 := newParty(t, cose.AlgESP256), newParty(t, cose.AlgEd25519), newParty(t, cose.AlgESP384)
	q := &QueryRequest{
		Challenge: token8(), CipherSuites: MandatoryCipherSuites(), SUITProfiles: MandatorySUITProfiles(), DataItems: DataAttestation,
	}
	data, err := Protect(rand.Reader, q, esp.signer, ed.signer)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []party{esp, ed} {
		opened, err := Open(data, p.keys, OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if !opened.Multiple || !opened.Key.Equal(p.key) || opened.Algorithm != p.signer.Algorithm() {
			t.Errorf("%+v", opened)
		}
	}
	if _, err := Open(data, p384.keys, OpenOptions{}); !isStep(err, StepSignature) {
		t.Errorf("a key of neither suite: %v", err)
	}
	if _, err := Open(data, append(esp.keys, ed.keys...), OpenOptions{Algorithms: []cose.Algorithm{cose.AlgESP384}}); !isStep(err, StepHeader) && !isStep(err, StepSignature) {
		t.Errorf("an algorithm that was not selected: %v", err)
	}
	for name, signers := range map[string][]cose.Signer{
		"one too many":        {esp.signer, ed.signer, p384.signer},
		"one left out":        {esp.signer, p384.signer},
		"two of one kind":     {esp.signer, esp.signer},
		"none":                {},
		"two, one unoffered ": {ed.signer, p384.signer},
	} {
		if _, err := Protect(rand.Reader, q, signers...); err == nil {
			t.Errorf("%s: protected", name)
		}
	}
	if _, err := Protect(rand.Reader, &Success{}, esp.signer, ed.signer); err == nil || !strings.Contains(err.Error(), "one signer") {
		t.Errorf("a Success with two signatures: %v", err)
	}
	if _, err := Protect(rand.Reader, &Error{}, esp.signer); err == nil {
		t.Error("a message that breaks a rule was protected")
	}
}

func isStep(err error, step int) bool {
	var v *ValidationError
	return errors.As(err, &v) && v.Step == step
}

func retag(t *testing.T, number uint64, data []byte) []byte {
	t.Helper()
	var tag cbor.RawTag
	if err := cbor.Unmarshal(data, &tag); err != nil {
		t.Fatal(err)
	}
	if number == 0 {
		return tag.Content
	}
	out, err := cbor.Marshal(cbor.RawTag{Number: number, Content: tag.Content})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestOpenUntagged(t *testing.T) {
	esp, ed := newParty(t, cose.AlgESP256), newParty(t, cose.AlgEd25519)
	one, err := Protect(rand.Reader, &Success{}, esp.signer)
	if err != nil {
		t.Fatal(err)
	}
	q := &QueryRequest{CipherSuites: MandatoryCipherSuites(), SUITProfiles: MandatorySUITProfiles(), DataItems: DataAttestation}
	several, err := Protect(rand.Reader, q, esp.signer, ed.signer)
	if err != nil {
		t.Fatal(err)
	}
	for i, data := range [][]byte{one, several} {
		opened, err := Open(retag(t, 0, data), esp.keys, OpenOptions{})
		if err != nil || opened.Multiple != (i == 1) {
			t.Errorf("untagged: %+v, %v", opened, err)
		}
	}
}

// TestValidationSteps gives each step of §4.1.2 what it is there to refuse.
func TestValidationSteps(t *testing.T) {
	p, stranger := newParty(t, cose.AlgESP256), newParty(t, cose.AlgESP256)
	good, err := Protect(rand.Reader, &Success{Token: token8()}, p.signer)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(payload []byte, o cose.SignOptions) []byte {
		data, err := cose.Sign1(rand.Reader, payload, p.signer, o)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	success, err := Encode(&Success{Token: token8()})
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	tampered := bytes.Clone(good)
	tampered[bytes.Index(tampered, token8())] ^= 1
	for name, c := range map[string]struct {
		data []byte
		step int
	}{
		"nothing":                 {nil, StepCBOR},
		"no CBOR":                 {[]byte("GET / HTTP/1.1"), StepCBOR},
		"truncated":               {good[:len(good)-1], StepCBOR},
		"something behind":        {append(bytes.Clone(good), 0), StepCBOR},
		"too large":               {make([]byte, 1<<20+1), StepCBOR},
		"an integer":              {[]byte{0x01}, StepCOSE},
		"an unprotected message":  {success, StepCOSE},
		"an array of four":        {[]byte{0x84, 1, 2, 3, 4}, StepCOSE},
		"tag 17, a COSE_Mac0":     {retag(t, 17, good), StepCOSE},
		"tag 98 on one signature": {retag(t, 98, good), StepCOSE},
		"a tag in a tag":          {append([]byte{0xd2}, good...), StepCOSE},
		"detached payload":        {sign(success, cose.SignOptions{Detached: true}), StepSignature},
		"signature flipped":       {flipped, StepSignature},
		"payload changed":         {tampered, StepSignature},
		"additional data":         {sign(success, cose.SignOptions{ExternalAAD: []byte("x")}), StepSignature},
		"payload no message":      {sign([]byte{0xa0}, cose.SignOptions{}), StepMessage},
		"payload no CBOR":         {sign([]byte("hello"), cose.SignOptions{}), StepMessage},
		"payload empty":           {sign([]byte{}, cose.SignOptions{}), StepMessage},
		"rule broken":             {sign([]byte{0x82, 5, 0xa1, 0x14, 0x41, 0}, cose.SignOptions{}), StepMessage},
	} {
		t.Run(name, func(t *testing.T) {
			opened, err := Open(c.data, p.keys, OpenOptions{MaxSize: 1 << 20})
			if !isStep(err, c.step) || opened != nil {
				t.Errorf("%v, want a refusal at step %d", err, c.step)
			}
			if c.step == StepMessage && AsErrorMessage(err).Code != ErrPermanentError {
				t.Errorf("the answer would be %v", AsErrorMessage(err).Code)
			}
		})
	}
	if _, err := Open(good, stranger.keys, OpenOptions{}); !isStep(err, StepSignature) || !errors.Is(err, cose.ErrUnknownSigner) {
		t.Errorf("unknown signer: %v", err)
	}
	if _, err := Open(good, cose.KeySet{}, OpenOptions{}); !isStep(err, StepSignature) {
		t.Errorf("no keys at all: %v", err)
	}
	if _, err := Open(good, p.keys, OpenOptions{Algorithms: []cose.Algorithm{cose.AlgEd25519}}); !isStep(err, StepHeader) {
		t.Errorf("another suite than the selected one: %v", err)
	}
	if _, err := Open(good, p.keys, OpenOptions{Algorithms: []cose.Algorithm{cose.AlgESP256}}); err != nil {
		t.Errorf("the selected suite: %v", err)
	}
}

// coseSign1 signs under a protected header that the caller writes, whatever it says.
func coseSign1(t *testing.T, p party, protected string, payload []byte) []byte {
	t.Helper()
	header := notation(t, protected)
	toBeSigned, err := cbor.Marshal([]any{"Signature1", header, []byte{}, payload})
	if err != nil {
		t.Fatal(err)
	}
	sig, err := p.signer.Sign(rand.Reader, toBeSigned)
	if err != nil {
		t.Fatal(err)
	}
	data, err := cbor.Marshal(cbor.Tag{Number: COSESign1, Content: []any{header, map[int]any{}, payload, sig}})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestHeaders(t *testing.T) {
	p := newParty(t, cose.AlgESP256)
	success, err := Encode(&Success{})
	if err != nil {
		t.Fatal(err)
	}
	for protected, step := range map[string]int{
		"{1: -9}":                             0,
		"{1: -9, 99: 1}":                      0, // unknown parameters are ignored unless critical
		`{1: -9, 3: "application/teep+cbor"}`: 0,
		"{1: -9, 2: [99], 99: 1}":             StepHeader,
		"{1: -9, 2: []}":                      StepHeader,
		"{1: -9, 2: [99]}":                    StepHeader,
		"{}":                                  StepHeader,
		"{1: -7}":                             StepHeader,
		"{1: -999}":                           StepHeader,
		"{1: 5}":                              StepHeader,
		`{1: -9, 3: "application/suit-envelope"}`: StepHeader,
		`{1: -9, 3: 19}`: StepHeader,
	} {
		_, err := Open(coseSign1(t, p, protected, success), p.keys, OpenOptions{})
		if step == 0 && err != nil || step != 0 && !isStep(err, step) {
			t.Errorf("%s: %v, want step %d", protected, err, step)
		}
	}
}

func TestOpenExtension(t *testing.T) {
	p := newParty(t, cose.AlgEd25519)
	data, err := Protect(rand.Reader, notice{"hi"}, p.signer)
	if err != nil {
		t.Fatal(err)
	}
	var pe *ProtocolError
	if _, err := Open(data, p.keys, OpenOptions{}); !isStep(err, StepMessage) || !errors.As(err, &pe) || pe.Code != ErrUnsupportedExtension {
		t.Errorf("unknown type: %v", err)
	}
	opened, err := Open(data, p.keys, OpenOptions{Extensions: Registry{13: func(Frame) (Message, error) { return notice{"yes"}, nil }}})
	if err != nil || opened.Message.(notice).text != "yes" {
		t.Errorf("%v, %v", opened, err)
	}
}

func TestOlderModeKeepsTheRest(t *testing.T) {
	p := newParty(t, cose.AlgESP256)
	older, err := p.key.SignerFor(cose.AlgES256)
	if err != nil {
		t.Fatal(err)
	}
	data, err := Protect(rand.Reader, &Success{}, older)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(data, p.keys, OpenOptions{}); !isStep(err, StepHeader) {
		t.Errorf("ES256 by default: %v", err)
	}
	options := OpenOptions{InsecureOlderPeers: true, Algorithms: make([]cose.Algorithm, 1, 8)}
	options.Algorithms[0] = cose.AlgEd25519
	if _, err := Open(data, p.keys, options); err != nil {
		t.Errorf("ES256 in the mode: %v", err)
	}
	if got := options.Algorithms[:3]; got[1] != 0 || got[2] != 0 {
		t.Error("Open wrote into the caller's slice")
	}
}

func ExampleProtect() {
	key, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	if err != nil {
		panic(err)
	}
	signer, err := key.Signer()
	if err != nil {
		panic(err)
	}
	trusted, err := cose.NewKeySet(key.Public())
	if err != nil {
		panic(err)
	}
	data, err := Protect(rand.Reader, &Error{Code: ErrTemporaryError, Message: "storage is full"}, signer)
	if err != nil {
		panic(err)
	}
	opened, err := Open(data, trusted, OpenOptions{})
	if err != nil {
		panic(err)
	}
	m := opened.Message.(*Error)
	fmt.Println(m.Code, m.Message, opened.Suite)
	// Output: ERR_TEMPORARY_ERROR storage is full [[18, -9]]
}
