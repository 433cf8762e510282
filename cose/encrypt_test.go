package cose_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
)

func contentAlgorithms() []cose.Algorithm {
	return []cose.Algorithm{cose.AlgA128GCM, cose.AlgA256GCM, cose.AlgChaCha20Poly1305, cose.AlgA128CTR, cose.AlgA256CTR}
}

func anyContent(other string) cose.DecryptOptions {
	return cose.DecryptOptions{Algorithms: contentAlgorithms(), KDFOther: other}
}

func x25519Key(t *testing.T) *cose.Key {
	t.Helper()
	x, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := cose.NewPrivateKey(x)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

type receiver struct {
	name string
	to   cose.Recipient
	key  *cose.Key
}

func receivers(t *testing.T) []receiver {
	kw128, kw256 := newKey(t, cose.AlgA128KW, 1), newKey(t, cose.AlgA256KW, 2).WithKeyID([]byte("kek"))
	p256, p384, x := newKey(t, cose.AlgECDHESA128KW, 3), newKey(t, cose.AlgESP384, 4), x25519Key(t)
	long := newKey(t, cose.AlgECDHESA256KW, 5)
	return []receiver{
		{"A128KW", cose.A128KWRecipient(kw128), kw128},
		{"A256KW", cose.A256KWRecipient(kw256), kw256},
		{"ECDH P-256", cose.ECDHESRecipient(p256.Public(), "EAT Encryption"), p256},
		{"ECDH P-384", cose.ECDHESRecipient(p384.Public(), "EAT Encryption"), p384},
		{"ECDH X25519", cose.ECDHESRecipient(x.Public(), "EAT Encryption"), x},
		{"ECDH A256KW", cose.ECDHESRecipient(long.Public(), "EAT Encryption"), long},
	}
}

func TestEncryptRoundTrip(t *testing.T) {
	for _, r := range receivers(t) {
		for _, alg := range contentAlgorithms() {
			for _, eo := range []cose.EncryptOptions{{}, {Detached: true}, {Untagged: true}, {ExternalAAD: []byte("aad")}, {ContentType: "a/b"}} {
				if eo.ExternalAAD != nil && !alg.IsAuthenticated() {
					continue
				}
				msg, detached, err := cose.Encrypt(rand.Reader, []byte("plaintext"), alg, []cose.Recipient{r.to}, eo)
				if err != nil {
					t.Fatalf("%s %v: %v", r.name, alg, err)
				}
				if eo.Detached != (detached != nil) || !cbor.IsDeterministic(msg) {
					t.Errorf("%s %v: detached %x, message %x", r.name, alg, detached, msg)
				}
				do := anyContent("EAT Encryption")
				do.ExternalAAD = eo.ExternalAAD
				got, err := cose.Decrypt(msg, detached, cose.DecryptKeys{r.key}, do)
				if err != nil || string(got) != "plaintext" {
					t.Errorf("%s %v %+v: %q, %v", r.name, alg, eo, got, err)
				}
			}
		}
	}
}

// One content, every recipient, each alone able to read it; by kid, by thumbprint and by trial.
func TestSeveralRecipients(t *testing.T) {
	all := receivers(t)
	var to []cose.Recipient
	for _, r := range all {
		to = append(to, r.to)
	}
	msg, _, err := cose.Encrypt(rand.Reader, []byte("plaintext"), cose.AlgA128GCM, to, cose.EncryptOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		got, err := cose.Decrypt(msg, nil, cose.DecryptKeys{nil, newKey(t, cose.AlgA128KW, 99), r.key}, anyContent("EAT Encryption"))
		if err != nil || string(got) != "plaintext" {
			t.Errorf("%s: %v", r.name, err)
		}
	}
	_, err = cose.Decrypt(msg, nil, nil, anyContent(""))
	wantErr(t, err, cose.ErrNoKey)
	_, err = cose.Decrypt(msg, nil, cose.DecryptKeys{all[2].key.Public()}, anyContent("EAT Encryption"))
	wantErr(t, err, cose.ErrNoKey)
	_, err = cose.Decrypt(msg, nil, cose.DecryptKeys{newKey(t, cose.AlgECDHESA128KW, 77).WithKeyID([]byte("nobody"))}, anyContent("EAT Encryption"))
	wantErr(t, err, cose.ErrNoKey)
	_, err = cose.Decrypt(msg, nil, cose.DecryptKeys{newKey(t, cose.AlgECDHESA128KW, 77)}, anyContent("EAT Encryption"))
	wantErr(t, err, cose.ErrDecrypt)
	for _, r := range all[2:] {
		_, err = cose.Decrypt(msg, nil, cose.DecryptKeys{r.key}, anyContent("SUIT Report Encryption"))
		wantErr(t, err, cose.ErrDecrypt)
	}
}

func TestDirectRecipient(t *testing.T) {
	k := newKey(t, cose.AlgA128GCM, 1).WithKeyID([]byte("our-secret"))
	msg, _, err := cose.Encrypt(rand.Reader, []byte("p"), cose.AlgA128GCM, []cose.Recipient{cose.DirectRecipient(k)}, cose.EncryptOptions{})
	if err != nil {
		t.Fatal(err)
	}
	plain := cose.NewSymmetricKey(must(k.Symmetric()))
	if got, err := cose.Decrypt(msg, nil, cose.DecryptKeys{plain}, cose.DecryptOptions{}); err != nil || string(got) != "p" {
		t.Errorf("%q, %v", got, err)
	}
	_, err = cose.Decrypt(msg, nil, cose.DecryptKeys{newKey(t, cose.AlgA256GCM, 1)}, cose.DecryptOptions{})
	if err == nil {
		t.Error("a direct key of another size was accepted")
	}
	_, _, err = cose.Encrypt(rand.Reader, nil, cose.AlgA128GCM, []cose.Recipient{cose.DirectRecipient(k), cose.A128KWRecipient(plain)}, cose.EncryptOptions{})
	wantErr(t, err, cose.ErrKey)
	_, err = cose.WrapContentKey(rand.Reader, make([]byte, 16), cose.AlgA128GCM, []cose.Recipient{cose.DirectRecipient(k)}, cose.EncryptOptions{IV: make([]byte, 12)})
	wantErr(t, err, cose.ErrKey)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestEncrypt0(t *testing.T) {
	for _, alg := range contentAlgorithms() {
		k := newKey(t, alg, 1).WithKeyID([]byte("k"))
		for _, detach := range []bool{false, true} {
			msg, detached, err := cose.Encrypt0(rand.Reader, []byte("plaintext"), k, alg, cose.EncryptOptions{Detached: detach})
			if err != nil {
				t.Fatal(err)
			}
			got, err := cose.Decrypt0(msg, detached, k, anyContent(""))
			if err != nil || string(got) != "plaintext" {
				t.Errorf("%v: %q, %v", alg, got, err)
			}
			if !alg.IsAuthenticated() {
				_, err = cose.Decrypt0(msg, detached, k, cose.DecryptOptions{})
				wantErr(t, err, cose.ErrAlgorithm)
				continue
			}
			_, err = cose.Decrypt0(msg, detached, newKey(t, alg, 2), cose.DecryptOptions{})
			wantErr(t, err, cose.ErrDecrypt)
			_, err = cose.Decrypt0(msg, detached, k, cose.DecryptOptions{ExternalAAD: []byte("x")})
			wantErr(t, err, cose.ErrDecrypt)
			for i := range msg {
				for bit := range byte(8) {
					if got, err := cose.Decrypt0(flip(msg, i, bit), detached, k, cose.DecryptOptions{}); err == nil && string(got) != "plaintext" {
						t.Errorf("%v: byte %d bit %d changed: %q", alg, i, bit, got)
					}
				}
			}
			for n := range msg {
				if _, err := cose.Decrypt0(msg[:n], detached, k, cose.DecryptOptions{}); !errors.Is(err, cose.ErrMalformed) {
					t.Errorf("%v: truncated to %d: %v", alg, n, err)
				}
			}
		}
	}
	_, _, err := cose.Encrypt0(rand.Reader, nil, newKey(t, cose.AlgA128GCM, 1), cose.AlgA256GCM, cose.EncryptOptions{})
	wantErr(t, err, cose.ErrAlgorithm)
	_, _, err = cose.Encrypt0(rand.Reader, nil, newKey(t, cose.AlgA128KW, 1), cose.AlgA128KW, cose.EncryptOptions{})
	wantErr(t, err, cose.ErrAlgorithm)
}

func TestEncryptOptionsRefused(t *testing.T) {
	kek := newKey(t, cose.AlgA128KW, 1)
	to := []cose.Recipient{cose.A128KWRecipient(kek)}
	var protected cose.Header
	if err := protected.Set(77, 1); err != nil {
		t.Fatal(err)
	}
	var withIV cose.Header
	if err := withIV.Set(5, make([]byte, 12)); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		alg cose.Algorithm
		to  []cose.Recipient
		o   cose.EncryptOptions
		err error
	}{
		"no recipients":         {cose.AlgA128GCM, nil, cose.EncryptOptions{}, cose.ErrMalformed},
		"too many recipients":   {cose.AlgA128GCM, make([]cose.Recipient, cose.MaxRecipients+1), cose.EncryptOptions{}, cose.ErrMalformed},
		"not a content cipher":  {cose.AlgESP256, to, cose.EncryptOptions{}, cose.ErrAlgorithm},
		"AAD without AEAD":      {cose.AlgA128CTR, to, cose.EncryptOptions{ExternalAAD: []byte("x")}, cose.ErrHeader},
		"protected no AEAD":     {cose.AlgA128CTR, to, cose.EncryptOptions{Protected: protected}, cose.ErrHeader},
		"IV of the wrong size":  {cose.AlgA128GCM, to, cose.EncryptOptions{IV: make([]byte, 16)}, cose.ErrHeader},
		"IV as a parameter":     {cose.AlgA128GCM, to, cose.EncryptOptions{Unprotected: withIV}, cose.ErrHeader},
		"KEK of the wrong size": {cose.AlgA128GCM, []cose.Recipient{cose.A256KWRecipient(kek)}, cose.EncryptOptions{}, cose.ErrAlgorithm},
		"KEK is missing":        {cose.AlgA128GCM, []cose.Recipient{cose.A256KWRecipient(nil)}, cose.EncryptOptions{}, cose.ErrKey},
		"ECDH key is missing":   {cose.AlgA128GCM, []cose.Recipient{cose.ECDHESRecipient(nil, "")}, cose.EncryptOptions{}, cose.ErrKey},
		"ECDH to Ed25519":       {cose.AlgA128GCM, []cose.Recipient{cose.ECDHESRecipient(newKey(t, cose.AlgEd25519, 1), "")}, cose.EncryptOptions{}, cose.ErrAlgorithm},
		"direct is missing":     {cose.AlgA128GCM, []cose.Recipient{cose.DirectRecipient(nil)}, cose.EncryptOptions{}, cose.ErrKey},
	} {
		_, _, err := cose.Encrypt(rand.Reader, []byte("p"), tt.alg, tt.to, tt.o)
		if !errors.Is(err, tt.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, _, err := cose.Encrypt(bytes.NewReader(nil), []byte("p"), cose.AlgA128GCM, to, cose.EncryptOptions{})
	wantErr(t, err, cose.ErrKey)
	_, err = cose.WrapContentKey(rand.Reader, make([]byte, 15), cose.AlgA128GCM, to, cose.EncryptOptions{IV: make([]byte, 12)})
	wantErr(t, err, cose.ErrKey)
	_, err = cose.WrapContentKey(rand.Reader, make([]byte, 16), cose.AlgA128GCM, to, cose.EncryptOptions{})
	wantErr(t, err, cose.ErrHeader)
}

// Structures that the package would not make.
func TestDecryptRefused(t *testing.T) {
	kek := newKey(t, cose.AlgA128KW, 1)
	p256 := newKey(t, cose.AlgECDHESA128KW, 2)
	ephemeral := newKey(t, cose.AlgESP256, 3).Public()
	p384 := newKey(t, cose.AlgESP384, 3).Public()
	type m = map[any]any
	gcm := []byte{0xa1, 1, 1}
	iv := m{5: make([]byte, 12)}
	wrapped := make([]byte, 24)
	good := []any{[]byte{}, m{1: -3}, wrapped}
	esProtected := []byte{0xa1, 1, 0x38, 0x1c}
	es := func(unprotected m) []any { return []any{esProtected, unprotected, wrapped} }
	many := make([]any, cose.MaxRecipients+1)
	for i := range many {
		many[i] = good
	}
	for name, tt := range map[string]struct {
		msg []any
		err error
	}{
		"wrong KEK":                  {[]any{gcm, iv, nil, []any{good}}, cose.ErrDecrypt},
		"no recipients":              {[]any{gcm, iv, nil, []any{}}, cose.ErrMalformed},
		"too many recipients":        {[]any{gcm, iv, nil, many}, cose.ErrTooLarge},
		"alg unprotected":            {[]any{[]byte{}, m{1: 1, 5: make([]byte, 12)}, nil, []any{good}}, cose.ErrHeader},
		"alg missing":                {[]any{[]byte{}, iv, nil, []any{good}}, cose.ErrAlgorithm},
		"CTR with protected":         {[]any{[]byte{0xa1, 1, 0x39, 0xff, 0xfd}, m{5: make([]byte, 16)}, nil, []any{good}}, cose.ErrHeader},
		"crit":                       {[]any{[]byte{0xa3, 1, 1, 2, 0x81, 0x18, 77, 0x18, 77, 1}, iv, nil, []any{good}}, cose.ErrHeader},
		"Partial IV":                 {[]any{gcm, m{6: []byte{1}}, nil, []any{good}}, cose.ErrHeader},
		"KW with protected":          {[]any{gcm, iv, nil, []any{[]any{[]byte{0xa1, 4, 0x41, 1}, m{1: -3}, wrapped}}}, cose.ErrHeader},
		"KW too short":               {[]any{gcm, iv, nil, []any{[]any{[]byte{}, m{1: -3}, make([]byte, 16)}}}, cose.ErrMalformed},
		"KW too long":                {[]any{gcm, iv, nil, []any{[]any{[]byte{}, m{1: -3}, make([]byte, 1<<16)}}}, cose.ErrMalformed},
		"KW null":                    {[]any{gcm, iv, nil, []any{[]any{[]byte{}, m{1: -3}, nil}}}, cose.ErrMalformed},
		"recipient alg unknown":      {[]any{gcm, iv, nil, []any{[]any{[]byte{}, m{1: -4711}, wrapped}}}, cose.ErrAlgorithm},
		"recipient alg missing":      {[]any{gcm, iv, nil, []any{[]any{[]byte{}, m{}, wrapped}}}, cose.ErrAlgorithm},
		"recipient in two buckets":   {[]any{gcm, iv, nil, []any{[]any{esProtected, m{1: -29}, wrapped}}}, cose.ErrHeader},
		"recipient crit":             {[]any{gcm, iv, nil, []any{[]any{[]byte{0xa3, 1, 0x38, 0x1c, 2, 0x81, 0x18, 77, 0x18, 77, 1}, m{-1: ephemeral}, wrapped}}}, cose.ErrHeader},
		"nested recipients":          {[]any{gcm, iv, nil, []any{[]any{[]byte{}, m{1: -3}, wrapped, []any{good}}}}, cose.ErrMalformed},
		"direct not alone":           {[]any{gcm, iv, nil, []any{good, []any{[]byte{}, m{1: -6}, []byte{}}}}, cose.ErrMalformed},
		"direct with ciphertext":     {[]any{gcm, iv, nil, []any{[]any{[]byte{}, m{1: -6}, wrapped}}}, cose.ErrMalformed},
		"ECDH alg unprotected":       {[]any{gcm, iv, nil, []any{[]any{[]byte{}, m{1: -29, -1: ephemeral}, wrapped}}}, cose.ErrHeader},
		"ECDH without ephemeral":     {[]any{gcm, iv, nil, []any{es(m{})}}, cose.ErrHeader},
		"ECDH ephemeral no key":      {[]any{gcm, iv, nil, []any{es(m{-1: m{1: 2}})}}, cose.ErrHeader},
		"ECDH ephemeral of P-384":    {[]any{gcm, iv, nil, []any{es(m{-1: p384})}}, cose.ErrHeader},
		"ECDH ephemeral off curve":   {[]any{gcm, iv, nil, []any{es(m{-1: m{1: 2, -1: 1, -2: make([]byte, 32), -3: make([]byte, 32)}})}}, cose.ErrHeader},
		"ECDH salt of wrong type":    {[]any{gcm, iv, nil, []any{es(m{-1: ephemeral, -20: "salt"})}}, cose.ErrHeader},
		"ECDH salt too long":         {[]any{gcm, iv, nil, []any{es(m{-1: ephemeral, -20: make([]byte, 2000)})}}, cose.ErrHeader},
		"ECDH of another ephemeral":  {[]any{gcm, iv, nil, []any{es(m{-1: ephemeral})}}, cose.ErrDecrypt},
		"ciphertext is a text":       {[]any{gcm, iv, "c", []any{good}}, cose.ErrMalformed},
		"five elements":              {[]any{gcm, iv, nil, []any{good}, 1}, cose.ErrMalformed},
		"recipients is byte string":  {[]any{gcm, iv, nil, []byte("r")}, cose.ErrMalformed},
		"recipient is a byte string": {[]any{gcm, iv, nil, []any{[]byte("r")}}, cose.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			keys := cose.DecryptKeys{kek, p256}
			if name == "direct with ciphertext" {
				keys = cose.DecryptKeys{cose.NewSymmetricKey(make([]byte, 16))}
			}
			_, err := cose.Decrypt(mustEncode(t, tt.msg), []byte("c"), keys, anyContent(""))
			wantErr(t, err, tt.err)
		})
	}
	_, err := cose.ParseEncrypt(mustEncode(t, cbor.Tag{Number: 16, Content: []any{gcm, iv, nil, []any{good}}}))
	wantErr(t, err, cose.ErrMalformed)
	_, err = cose.Decrypt0(mustEncode(t, []any{gcm, m{5: make([]byte, 11)}, []byte("c")}), nil, newKey(t, cose.AlgA128GCM, 1), cose.DecryptOptions{})
	wantErr(t, err, cose.ErrHeader)
	_, err = cose.Decrypt0(mustEncode(t, []any{gcm, m{}, []byte("c")}), nil, newKey(t, cose.AlgA128GCM, 1), cose.DecryptOptions{})
	wantErr(t, err, cose.ErrHeader)
}

// An attacker who turns an AEAD message into one of AES-CTR gets nothing decrypted.
func TestNoDowngradeToCTR(t *testing.T) {
	kek := newKey(t, cose.AlgA128KW, 1)
	msg, ciphertext, err := cose.Encrypt(rand.Reader, []byte("plaintext"), cose.AlgA128GCM, []cose.Recipient{cose.A128KWRecipient(kek)}, cose.EncryptOptions{Detached: true})
	if err != nil {
		t.Fatal(err)
	}
	var tag cbor.RawTag
	var fields []cbor.RawMessage
	if err := errors.Join(cbor.Unmarshal(msg, &tag), cbor.Unmarshal(tag.Content, &fields)); err != nil {
		t.Fatal(err)
	}
	fields[0] = []byte{0x40}
	fields[1] = mustEncode(t, map[int]any{1: -65534, 5: make([]byte, 16)})
	_, err = cose.Decrypt(mustEncode(t, fields), ciphertext, cose.DecryptKeys{kek}, cose.DecryptOptions{})
	wantErr(t, err, cose.ErrAlgorithm)
	_, err = cose.Decrypt(msg, ciphertext, cose.DecryptKeys{kek}, cose.DecryptOptions{Algorithms: []cose.Algorithm{cose.AlgA256GCM}})
	wantErr(t, err, cose.ErrAlgorithm)
}

// The salt and the party information of other senders enter the key derivation.
func TestKDFParametersOfTheMessage(t *testing.T) {
	k := newKey(t, cose.AlgECDHESA128KW, 2)
	msg, _, err := cose.Encrypt(rand.Reader, []byte("p"), cose.AlgA128GCM, []cose.Recipient{cose.ECDHESRecipient(k.Public(), "")}, cose.EncryptOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, label := range []int64{-20, -21, -22, -23, -24, -25, -26} {
		var tag cbor.RawTag
		var fields []cbor.RawMessage
		var to [][]cbor.RawMessage
		var unprotected map[int64]cbor.RawMessage
		if err := errors.Join(cbor.Unmarshal(msg, &tag), cbor.Unmarshal(tag.Content, &fields),
			cbor.Unmarshal(fields[3], &to), cbor.Unmarshal(to[0][1], &unprotected)); err != nil {
			t.Fatal(err)
		}
		unprotected[label] = mustEncode(t, []byte("value"))
		to[0][1] = mustEncode(t, unprotected)
		fields[3] = mustEncode(t, to)
		_, err := cose.Decrypt(mustEncode(t, fields), nil, cose.DecryptKeys{k}, cose.DecryptOptions{})
		wantErr(t, err, cose.ErrDecrypt)
	}
}

// A content that was encrypted once reaches a further recipient without being touched.
func TestWrapContentKeyForAnother(t *testing.T) {
	a, b := newKey(t, cose.AlgA128KW, 1), newKey(t, cose.AlgECDHESA128KW, 2)
	for _, alg := range contentAlgorithms() {
		first, ciphertext, err := cose.Encrypt(rand.Reader, []byte("p"), alg, []cose.Recipient{cose.A128KWRecipient(a)}, cose.EncryptOptions{Detached: true})
		if err != nil {
			t.Fatal(err)
		}
		m, err := cose.ParseEncrypt(first)
		if err != nil {
			t.Fatal(err)
		}
		key, err := m.ContentKey(cose.DecryptKeys{a}, anyContent(""))
		if err != nil {
			t.Fatal(err)
		}
		second, err := cose.WrapContentKey(rand.Reader, key, m.Algorithm(), []cose.Recipient{cose.ECDHESRecipient(b.Public(), "o")}, cose.EncryptOptions{IV: m.IV()})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := cose.Decrypt(second, ciphertext, cose.DecryptKeys{b}, anyContent("o")); err != nil || string(got) != "p" {
			t.Errorf("%v: %q, %v", alg, got, err)
		}
		if n, err := cose.ParseEncrypt(second); err != nil || !n.Detached || n.Recipients() != 1 || !bytes.Equal(n.RecipientKeyIDs()[0], b.Thumbprint()) {
			t.Errorf("%v: %+v, %v", alg, n, err)
		}
	}
}

// An IV that is agreed on out of band, as firmware encryption allows for AES-CTR.
func TestIVFromOutside(t *testing.T) {
	k := newKey(t, cose.AlgA128GCM, 1)
	iv := bytes.Repeat([]byte{7}, 12)
	msg, _, err := cose.Encrypt0(rand.Reader, []byte("p"), k, cose.AlgA128GCM, cose.EncryptOptions{IV: iv})
	if err != nil {
		t.Fatal(err)
	}
	var tag cbor.RawTag
	var fields []cbor.RawMessage
	if err := errors.Join(cbor.Unmarshal(msg, &tag), cbor.Unmarshal(tag.Content, &fields)); err != nil {
		t.Fatal(err)
	}
	fields[1] = []byte{0xa0}
	if got, err := cose.Decrypt0(mustEncode(t, fields), nil, k, cose.DecryptOptions{IV: iv}); err != nil || string(got) != "p" {
		t.Errorf("%q, %v", got, err)
	}
	_, err = cose.Decrypt0(msg, nil, k, cose.DecryptOptions{IV: make([]byte, 12)})
	wantErr(t, err, cose.ErrHeader)
}

func TestUnwrapTrialsAreBounded(t *testing.T) {
	k := newKey(t, cose.AlgA128KW, 1)
	to := make([]cose.Recipient, cose.MaxTrials+1)
	for i := range to {
		to[i] = cose.A128KWRecipient(newKey(t, cose.AlgA128KW, byte(i+2)))
	}
	to[len(to)-1] = cose.A128KWRecipient(k)
	msg, _, err := cose.Encrypt(rand.Reader, []byte("p"), cose.AlgA128GCM, to, cose.EncryptOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = cose.Decrypt(msg, nil, cose.DecryptKeys{k}, cose.DecryptOptions{}); err == nil {
		t.Error("more keys were tried than MaxTrials allows")
	}
	to[len(to)-1] = cose.A128KWRecipient(k.WithKeyID([]byte("named")))
	if msg, _, err = cose.Encrypt(rand.Reader, []byte("p"), cose.AlgA128GCM, to, cose.EncryptOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err = cose.Decrypt(msg, nil, cose.DecryptKeys{k.WithKeyID([]byte("named"))}, cose.DecryptOptions{}); err != nil {
		t.Errorf("a named recipient is found among many: %v", err)
	}
}
