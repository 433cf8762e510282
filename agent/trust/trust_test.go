package trust_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/agent/trust"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
)

// files are the key files beside a set.
type files map[string][]byte

func (f files) read(name string) ([]byte, error) {
	if data, ok := f[name]; ok {
		return data, nil
	}
	return nil, fmt.Errorf("no file %q", name)
}

func newKey(t testing.TB, alg cose.Algorithm) *cose.Key {
	t.Helper()
	k, err := cose.GenerateKey(rand.Reader, alg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newFiles(t testing.TB) files {
	f := files{}
	put := func(name string, k *cose.Key) {
		data, err := k.MarshalPEM()
		if err != nil {
			t.Fatal(err)
		}
		f[name] = data
	}
	for _, name := range []string{"admin", "tam", "other", "dev", "verifier"} {
		put(name+".pem", newKey(t, cose.AlgESP256).Public())
	}
	put("ed.pem", newKey(t, cose.AlgEd25519).Public())
	put("ecdh.pem", newKey(t, cose.AlgECDHESA128KW).Public())
	put("private.pem", newKey(t, cose.AlgESP256))
	f["text.pem"] = []byte("hello")
	return f
}

const complete = `
version: 4
administrator: admin.pem
tams:
  - name: example
    uris: [https://tam.example/teep, https://two.tam.example/teep]
    keys: [tam.pem, ed.pem]
    encryption-key: ecdh.pem
    must-attest: true
    components: ["'acme'"]
  - name: other
    uris: ["http://[::1]:8080/"]
    keys: [other.pem]
signers:
  - name: developer
    keys: [dev.pem]
    components: ["'hello'", "'shared'/'x'"]
    commands: [fetch, write, 3]
    parameters: [uri, image-digest]
  - name: all
    keys: [admin.pem]
    components: ["*"]
verifiers:
  - name: appraiser
    keys: [verifier.pem]
`

func parse(t testing.TB, f files, text string) *trust.Set {
	t.Helper()
	s, err := trust.ParseYAML([]byte(text), f.read)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestParseYAML(t *testing.T) {
	s := parse(t, newFiles(t), complete)
	one, ok := s.TAM("example")
	if !ok || len(one.Keys) != 2 || !one.MustAttest || one.Encryption == nil || len(one.URIs) != 2 {
		t.Fatalf("got %+v", one)
	}
	if !one.MayManage(suit.NewComponentID("acme", "x")) || one.MayManage(suit.NewComponentID("other")) {
		t.Error("limits of the TAM")
	}
	two, ok := s.TAMByURI("http://[::1]:8080/")
	if !ok || two.Name != "other" || !two.MayManage(suit.NewComponentID("anything")) {
		t.Errorf("got %+v", two)
	}
	if _, ok := s.TAMByURI("http://[::1]:8080"); ok {
		t.Error("a URI is matched to the letter")
	}
	dev, ok := s.Signer(s.Signers[0].Keys[0])
	if !ok || !dev.MaySign(suit.NewComponentID("hello")) || !dev.MaySign(suit.NewComponentID("shared", "x", "y")) || dev.MaySign(suit.NewComponentID("shared")) {
		t.Errorf("got %+v", dev)
	}
	if want := []suit.CommandCode{suit.DirFetch, suit.DirWrite, suit.CondImageMatch}; !slices.Equal(dev.Commands, want) {
		t.Errorf("commands %v", dev.Commands)
	}
	if want := []suit.ParameterLabel{suit.ParamURI, suit.ParamImageDigest}; !slices.Equal(dev.Parameters, want) {
		t.Errorf("parameters %v", dev.Parameters)
	}
	if !s.Signers[1].MaySign(suit.NewComponentID("whatever")) {
		t.Error(`"*" is not everything`)
	}
	a := s.Authority(time.Now(), nil)
	rights, ok := a.Rights(dev.Keys[0])
	if !ok || len(rights.Components) != 2 || len(rights.Components[0].Commands) != 3 {
		t.Errorf("rights %+v", rights)
	}
	if _, ok := a.Rights(one.Keys[0]); ok {
		t.Error("a TAM's key has rights over components")
	}
}

func TestParseYAMLRefuses(t *testing.T) {
	f := newFiles(t)
	for name, c := range map[string]struct{ old, new, want string }{
		"unknown key":           {"must-attest: true", "must-atest: true", `line 9: unknown key "must-atest"`},
		"unknown top key":       {"verifiers:", "verifier:", `unknown key "verifier": write one of version,`},
		"key twice":             {"    keys: [dev.pem]", "    keys: [dev.pem]\n    keys: [dev.pem]", "is there twice"},
		"no version":            {"version: 4\n", "", `write "version: 1"`},
		"version not a number":  {"version: 4", "version: four", "line 2: version is"},
		"no name":               {"name: example", `name: ""`, "no usable name"},
		"name twice":            {"name: other", "name: example", `named "example"`},
		"boolean as text":       {"must-attest: true", `must-attest: "yes"`, "write true or false"},
		"a scalar for a list":   {"keys: [dev.pem]", "keys: dev.pem", "expected a list"},
		"a list for a scalar":   {"name: developer", "name: [developer]", "expected a name as text"},
		"missing file":          {"keys: [dev.pem]", "keys: [gone.pem]", `no file "gone.pem"`},
		"no PEM":                {"keys: [dev.pem]", "keys: [text.pem]", "public key"},
		"private key":           {"keys: [dev.pem]", "keys: [private.pem]", "private key"},
		"private administrator": {"administrator: admin.pem", "administrator: private.pem", "private key"},
		"key of two TAMs":       {"keys: [other.pem]", "keys: [tam.pem]", "belongs to one"},
		"signing key encrypts":  {"encryption-key: ecdh.pem", "encryption-key: tam.pem", "make a key of its own"},
		"Ed25519 encrypts":      {"encryption-key: ecdh.pem", "encryption-key: ed.pem", ""},
		"no URI":                {"uris: [https://tam.example/teep, https://two.tam.example/teep]", "uris: []", "has no uris"},
		"URI of another scheme": {"https://two.tam.example/teep", "ftp://two.tam.example/teep", "https://"},
		"URI without a host":    {"https://two.tam.example/teep", "https:///teep", "has no host"},
		"URI with a password":   {"https://two.tam.example/teep", "https://u:p@two.tam.example/teep", "password"},
		"no keys":               {"keys: [other.pem]", "keys: []", "neither keys nor a certificate-authority"},
		"signer for nothing":    {`components: ["*"]`, "components: []", `or "*"`},
		"bad component":         {`components: ["*"]`, `components: ["'a"]`, "component identifier"},
		"unknown command":       {"commands: [fetch,", "commands: [fetsh,", `unknown command "fetsh"`},
		"unknown parameter":     {"parameters: [uri,", "parameters: [url,", `unknown parameter "url"`},
		"subject without CA":    {"keys: [other.pem]", "keys: [other.pem]\n    certificate-subject: x", "go together"},
		"two documents":         {"verifiers:", "---\nverifiers:", "keep one document"},
		"not YAML":              {"signers:", "signers: [", "line"},
		"verifier without keys": {"keys: [verifier.pem]", "keys: []", "has no keys"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(complete, c.old, c.new, 1)
			if text == complete {
				t.Fatal("nothing was replaced")
			}
			_, err := trust.ParseYAML([]byte(text), f.read)
			if !errors.Is(err, trust.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want it to contain %q", err, c.want)
			}
		})
	}
	for _, text := range []string{"", "# nothing\n", "[]", "tams", "version: 1\n", strings.Repeat("#", trust.MaxSize+1)} {
		if _, err := trust.ParseYAML([]byte(text), nil); !errors.Is(err, trust.ErrInvalid) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
	if _, err := trust.ParseYAML([]byte(complete), nil); err == nil || !strings.Contains(err.Error(), "write the PEM block itself") {
		t.Errorf("file names without a reader: %v", err)
	}
}

func TestCBOR(t *testing.T) {
	s := parse(t, newFiles(t), complete)
	data, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := trust.ParseCBOR(data)
	if err != nil {
		t.Fatal(err)
	}
	if !again.Equal(s) {
		t.Error("another set came back")
	}
	for name, bad := range map[string][]byte{
		"empty": {}, "no map": {0x80}, "no TAM": {0xa2, 1, 1, 3, 0x80},
		"trailing": append(bytes.Clone(data), 0), "truncated": data[:len(data)-1], "large": make([]byte, trust.MaxSize+1),
	} {
		if _, err := trust.ParseCBOR(bad); !errors.Is(err, trust.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSigned(t *testing.T) {
	s := parse(t, newFiles(t), complete)
	admin, other := newKey(t, cose.AlgESP256), newKey(t, cose.AlgESP256)
	s.Administrator = admin.Public()
	signer, err := admin.Signer()
	if err != nil {
		t.Fatal(err)
	}
	signed, err := trust.Sign(rand.Reader, s, signer)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := trust.Open(signed, admin.Public()); err != nil || !got.Equal(s) {
		t.Errorf("got %v", err)
	}
	if _, err := trust.OpenSelfSigned(signed); err != nil {
		t.Error(err)
	}
	refused := func(why string, data []byte, key *cose.Key) {
		t.Helper()
		if _, err := trust.Open(data, key); !errors.Is(err, trust.ErrInvalid) {
			t.Errorf("%s: %v", why, err)
		}
	}
	refused("another administrator", signed, other.Public())
	refused("no administrator", signed, nil)
	for i := range signed {
		flipped := bytes.Clone(signed)
		flipped[i] ^= 0x10
		if got, err := trust.Open(flipped, admin.Public()); err == nil && !got.Equal(s) {
			t.Fatalf("byte %d flipped and accepted", i)
		}
	}
	// Anything else that the administrator's key signs is no set.
	payload, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	plain, err := cose.Sign1(rand.Reader, payload, signer, cose.SignOptions{})
	if err != nil {
		t.Fatal(err)
	}
	refused("signed for another purpose", plain, admin.Public())
}

func TestKeysByKid(t *testing.T) {
	s := parse(t, newFiles(t), complete)
	keys := s.TAMKeys(time.Now(), nil)
	var h cose.Headers
	if got := keys.VerifiersFor(cose.AlgESP256, h); len(got) != 2 {
		t.Errorf("without kid: %d keys", len(got))
	}
	if err := h.Protected.Set(cose.LabelKeyID, s.TAMs[1].Keys[0].Thumbprint()); err != nil {
		t.Fatal(err)
	}
	got := keys.VerifiersFor(cose.AlgESP256, h)
	if len(got) != 1 || !got[0].Key().Equal(s.TAMs[1].Keys[0]) {
		t.Errorf("by kid: %d keys", len(got))
	}
	if got := keys.VerifiersFor(cose.AlgEd25519, h); len(got) != 0 {
		t.Errorf("by kid, another algorithm: %d keys", len(got))
	}
	if tam, _, ok := keys.Sender(s.TAMs[1].Keys[0]); !ok || tam.Name != "other" {
		t.Errorf("sender %v", tam)
	}
	if _, _, ok := keys.Sender(s.Signers[0].Keys[0]); ok {
		t.Error("a signer's key is no TAM's")
	}
	if got := s.VerifierKeys().VerifiersFor(cose.AlgESP256, cose.Headers{}); len(got) != 1 {
		t.Errorf("verifiers: %d", len(got))
	}
	if got := s.Authority(time.Now(), nil).VerifiersFor(cose.AlgESP256, cose.Headers{}); len(got) != 2 {
		t.Errorf("signers: %d", len(got))
	}
}

// FuzzParseYAML: no input panics, and what is accepted survives the CBOR form.
func FuzzParseYAML(f *testing.F) {
	keys := newFiles(f)
	f.Add([]byte(complete))
	f.Add([]byte("version: 1\ntams:\n  - {name: a, uris: [https://a/], keys: [tam.pem]}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := trust.ParseYAML(data, keys.read)
		if err != nil {
			if !errors.Is(err, trust.ErrInvalid) {
				t.Errorf("an error of another kind: %v", err)
			}
			return
		}
		encoded, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := trust.ParseCBOR(encoded); err != nil || !again.Equal(s) {
			t.Errorf("lost in CBOR: %v", err)
		}
	})
}

// FuzzParseCBOR: what is accepted encodes back to the same bytes.
func FuzzParseCBOR(f *testing.F) {
	data, err := parse(f, newFiles(f), complete).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := trust.ParseCBOR(data)
		if err != nil {
			return
		}
		if again, err := s.Encode(); err != nil || !bytes.Equal(again, data) {
			t.Errorf("%x encodes to %x, %v", data, again, err)
		}
	})
}
