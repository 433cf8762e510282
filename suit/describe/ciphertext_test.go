package describe_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/describe"
	"github.com/go-teep/teep/suit/distribute"
)

// encryptedFiles holds a payload of 12 bytes in the clear and under two ciphers.
func encryptedFiles(t *testing.T) (key *cose.Key, files map[string][]byte) {
	t.Helper()
	key, err := cose.GenerateKey(rand.Reader, cose.AlgECDHESA128KW)
	if err != nil {
		t.Fatal(err)
	}
	to, err := suit.PayloadRecipient(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	files = map[string][]byte{"app.bin": []byte("hello, world"), "short.bin": []byte("hello")}
	for name, alg := range map[string]cose.Algorithm{"gcm": cose.AlgA128GCM, "ctr": cose.AlgA128CTR} {
		var out bytes.Buffer
		if files[name+".info"], err = suit.EncryptPayload(rand.Reader, bytes.NewReader(files["app.bin"]), &out, alg, to); err != nil {
			t.Fatal(err)
		}
		files[name+".enc"] = out.Bytes()
	}
	attached, _, err := cose.Encrypt(rand.Reader, []byte("x"), cose.AlgA128GCM, []cose.Recipient{to}, cose.EncryptOptions{})
	if err != nil {
		t.Fatal(err)
	}
	files["attached.info"] = attached
	return key, files
}

func buildFrom(files map[string][]byte, source string) (*describe.Result, error) {
	return describe.Build([]byte("sequence-number: 1\nvendor: {domain: a}\nclass: {name: b}\ncomponents:\n  - id: [app]\n    "+source+"\n"),
		describe.Options{Name: "x", ReadFile: func(name string) ([]byte, error) {
			data, ok := files[name]
			if !ok {
				return nil, fmt.Errorf("no file %q", name)
			}
			return data, nil
		}})
}

func TestCiphertextOfAnotherTool(t *testing.T) {
	key, files := encryptedFiles(t)
	digest := suit.NewDigest(files["app.bin"])
	for name, source := range map[string]string{
		"payload":            `payload: {file: app.bin, uri: "https://example.com/a", encrypt: {ciphertext: gcm.enc, encryption-info: gcm.info}}`,
		"counter mode":       `payload: {file: app.bin, uri: "https://example.com/a", encrypt: {ciphertext: ctr.enc, encryption-info: ctr.info, info: manifest}}`,
		"without the secret": `payload: {digest: {file: app.bin}, size: 12, uri: "https://example.com/a", encrypt: {ciphertext: gcm.enc, encryption-info: gcm.info}}`,
		"integrated":         `payload: {file: app.bin, integrated: true, encrypt: {ciphertext: gcm.enc, encryption-info: gcm.info}}`,
		"content":            `content: {file: app.bin, encrypt: {ciphertext: gcm.enc, encryption-info: gcm.info}}`,
	} {
		t.Run(name, func(t *testing.T) {
			r, err := buildFrom(files, source)
			if err != nil {
				t.Fatal(err)
			}
			m, err := r.Envelope.UnverifiedManifest()
			if err != nil {
				t.Fatal(err)
			}
			var p, shared suit.Parameters
			m.Install.Commands.Walk(func(c *suit.Command) bool { p.Override(c.Parameters); return true })
			m.Common.SharedSequence.Commands.Walk(func(c *suit.Command) bool {
				if d, ok := c.Parameters.Digest(); ok && shared.Len() == 0 && d.Equal(digest) {
					shared.Override(c.Parameters)
				}
				return true
			})
			if size, _ := shared.Size(); size != 12 {
				t.Errorf("the manifest does not say what the plaintext is")
			}
			info, ok := p.EncryptionInfo()
			if !ok {
				t.Fatal("no encryption info")
			}
			var ciphertext []byte
			switch {
			case len(r.Payloads) == 1:
				if ciphertext = r.Payloads[0].Content; r.Payloads[0].Encrypted || !strings.HasSuffix(r.Payloads[0].File, ".enc") {
					t.Errorf("payload is %+v", r.Payloads[0])
				}
			case r.Envelope.Integrated["#app.bin"] != nil:
				ciphertext = r.Envelope.Integrated["#app.bin"]
			default:
				ciphertext, _ = p.Content()
			}
			got, err := suit.DecryptPayload(info, cose.DecryptKeys{key}, bytes.NewReader(ciphertext), int64(len(ciphertext)))
			if err != nil {
				t.Fatal(err)
			}
			var plain bytes.Buffer
			if _, err := plain.ReadFrom(got); err != nil || plain.String() != "hello, world" {
				t.Errorf("decrypts to %q, %v", plain.String(), err)
			}
		})
	}
}

func TestCiphertextWhoseKeyComesSeparately(t *testing.T) {
	_, files := encryptedFiles(t)
	r, err := buildFrom(files, `payload: {file: app.bin, uri: "https://example.com/a", encrypt: {ciphertext: gcm.enc, info: separate}}`)
	if err != nil {
		t.Fatal(err)
	}
	m, err := r.Envelope.UnverifiedManifest()
	if err != nil {
		t.Fatal(err)
	}
	m.Install.Commands.Walk(func(c *suit.Command) bool {
		if c.Parameters.Has(suit.ParamEncryptionInfo) {
			t.Error("the encryption info is in the manifest")
		}
		return true
	})
	if len(r.Separate) != 0 || !bytes.Equal(r.Payloads[0].Content, files["gcm.enc"]) {
		t.Errorf("result is %+v", r)
	}
}

func TestCiphertextRefuses(t *testing.T) {
	_, files := encryptedFiles(t)
	payload := func(encrypt string) string { return "payload: {file: app.bin, uri: u, encrypt: {" + encrypt + "}}" }
	for name, c := range map[string]struct{ source, want string }{
		"no info":              {payload("ciphertext: gcm.enc"), "x:6:47: a ciphertext needs its encryption-info"},
		"no ciphertext":        {payload("encryption-info: gcm.info"), "name that file, too"},
		"encrypted twice":      {payload("ciphertext: gcm.enc, encryption-info: gcm.info, to: [app.bin]"), "leave to out"},
		"another algorithm":    {payload("ciphertext: gcm.enc, encryption-info: gcm.info, algorithm: A128CTR"), "leave algorithm out"},
		"no such ciphertext":   {payload("ciphertext: none, encryption-info: gcm.info"), `x:6:60: cannot read file "none"`},
		"no such info":         {payload("ciphertext: gcm.enc, encryption-info: none"), `cannot read file "none"`},
		"swapped":              {payload("ciphertext: gcm.info, encryption-info: gcm.enc"), "is not a SUIT_Encryption_Info"},
		"attached":             {payload("ciphertext: gcm.enc, encryption-info: attached.info"), "ciphertext of its own"},
		"of another cipher":    {payload("ciphertext: gcm.enc, encryption-info: ctr.info"), "has 28 bytes, and cannot be the ciphertext of 12 bytes"},
		"of another, reversed": {payload("ciphertext: ctr.enc, encryption-info: gcm.info"), "has 12 bytes, and cannot be"},
		"of another payload":   {"payload: {file: short.bin, uri: u, encrypt: {ciphertext: gcm.enc, encryption-info: gcm.info}}", "cannot be the ciphertext of 5 bytes"},
		"separate, of another": {"payload: {file: short.bin, uri: u, encrypt: {ciphertext: gcm.enc, info: separate}}", "cannot be the ciphertext of 5 bytes"},
		"separate with info":   {payload("ciphertext: gcm.enc, encryption-info: gcm.info, info: separate"), "leave encryption-info out"},
		"unknown place":        {payload("ciphertext: gcm.enc, encryption-info: gcm.info, info: elsewhere"), "elsewhere"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := buildFrom(files, c.source)
			var e *describe.Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// A device gets one key for a manifest from who distributes them. What would be decrypted with it and must not be is
// refused where it is described.
func TestOneSeparateKeyPerManifest(t *testing.T) {
	_, files := encryptedFiles(t)
	const first = `components:
  - id: [a]
    payload: {file: app.bin, uri: "https://example.com/a", encrypt: {ciphertext: gcm.enc, info: separate}}
`
	for name, c := range map[string]struct{ second, want string }{
		"a second key":      {`{id: [b], payload: {file: app.bin, uri: "https://example.com/b", encrypt: {ciphertext: gcm.enc, info: separate}}}`, "a manifest of its own"},
		"content":           {`{id: [b], content: {text: plain}}`, "would be used for this one too"},
		"a copy":            {`{id: [b], copy-from: [c]}, {id: [c]}`, "would be used for this one too"},
		"a fetched payload": {`{id: [b], payload: {file: app.bin, uri: "https://example.com/b"}}`, ""},
		"a key of its own":  {`{id: [b], payload: {file: app.bin, uri: "https://example.com/b", encrypt: {ciphertext: gcm.enc, encryption-info: gcm.info}}}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			second := "  - " + strings.ReplaceAll(c.second, "}, {id", "}\n  - {id") + "\n"
			r, err := describe.Build([]byte(simple(first+second)), describe.Options{Name: "d.yaml", ReadFile: func(name string) ([]byte, error) { return files[name], nil }})
			var at *describe.Error
			switch {
			case c.want == "" && err != nil:
				t.Fatal(err)
			case c.want == "":
				m, err := r.Envelope.UnverifiedManifest()
				if err == nil {
					err = distribute.UsesKey(m)
				}
				if err != nil {
					t.Errorf("described, and not to be distributed: %v", err)
				}
			case !errors.As(err, &at) || at.Line != 5 || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "dependencies: [{file"):
				t.Errorf("%v", err)
			}
		})
	}
}
