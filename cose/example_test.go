package cose_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"

	"github.com/go-teep/teep/cose"
)

// Sign a payload, and verify it with the public key.
func Example() {
	key, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	if err != nil {
		log.Fatal(err)
	}
	signer, err := key.Signer()
	if err != nil {
		log.Fatal(err)
	}
	msg, err := cose.Sign1(rand.Reader, []byte("hello"), signer, cose.SignOptions{ContentType: "text/plain"})
	if err != nil {
		log.Fatal(err)
	}

	trusted, err := cose.NewKeySet(key.Public())
	if err != nil {
		log.Fatal(err)
	}
	verified, err := cose.Verify(msg, trusted, cose.VerifyOptions{ContentTypes: []any{"text/plain"}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s, signed with %v\n", verified.Payload, verified.Algorithm)
	// Output: hello, signed with ESP256
}

// A message by somebody else says so.
func ExampleVerify_unknownSigner() {
	stranger, err := cose.GenerateKey(rand.Reader, cose.AlgEd25519)
	if err != nil {
		log.Fatal(err)
	}
	signer, err := stranger.Signer()
	if err != nil {
		log.Fatal(err)
	}
	msg, err := cose.Sign1(rand.Reader, []byte("hello"), signer, cose.SignOptions{})
	if err != nil {
		log.Fatal(err)
	}
	_, err = cose.Verify(msg, cose.KeySet{}, cose.VerifyOptions{})
	fmt.Println(errors.Is(err, cose.ErrUnknownSigner))
	// Output: true
}

// Offer signatures of two algorithms; the verifier needs to know one.
func ExampleSignMulti() {
	var signers []cose.Signer
	var second *cose.Key
	for _, alg := range []cose.Algorithm{cose.AlgESP256, cose.AlgEd25519} {
		key, err := cose.GenerateKey(rand.Reader, alg)
		if err != nil {
			log.Fatal(err)
		}
		signer, err := key.Signer()
		if err != nil {
			log.Fatal(err)
		}
		signers, second = append(signers, signer), key
	}
	msg, err := cose.SignMulti(rand.Reader, []byte("hello"), signers, cose.SignOptions{})
	if err != nil {
		log.Fatal(err)
	}
	trusted, err := cose.NewKeySet(second)
	if err != nil {
		log.Fatal(err)
	}
	verified, err := cose.Verify(msg, trusted, cose.VerifyOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(verified.Algorithm)
	// Output: Ed25519
}

// Encrypt for the holder of a private key.
func ExampleEncrypt() {
	device, err := cose.GenerateKey(rand.Reader, cose.AlgECDHESA128KW)
	if err != nil {
		log.Fatal(err)
	}
	to := []cose.Recipient{cose.ECDHESRecipient(device.Public(), "SUIT Report Encryption")}
	msg, _, err := cose.Encrypt(rand.Reader, []byte("report"), cose.AlgA128GCM, to, cose.EncryptOptions{})
	if err != nil {
		log.Fatal(err)
	}
	plaintext, err := cose.Decrypt(msg, nil, cose.DecryptKeys{device}, cose.DecryptOptions{KDFOther: "SUIT Report Encryption"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", plaintext)
	// Output: report
}

// Encrypt and decrypt a content that need not fit into memory.
func ExampleNewContentReader() {
	kek, err := cose.GenerateKey(rand.Reader, cose.AlgA128KW)
	if err != nil {
		log.Fatal(err)
	}
	alg := cose.AlgChaCha20Poly1305
	contentKey, iv, err := cose.NewContentKey(rand.Reader, alg)
	if err != nil {
		log.Fatal(err)
	}
	info, err := cose.WrapContentKey(rand.Reader, contentKey, alg, []cose.Recipient{cose.A128KWRecipient(kek)}, cose.EncryptOptions{IV: iv})
	if err != nil {
		log.Fatal(err)
	}
	m, err := cose.ParseEncrypt(info)
	if err != nil {
		log.Fatal(err)
	}

	var file bytes.Buffer
	w, err := cose.NewContentWriter(alg, contentKey, iv, m.AAD(nil), &file)
	if err != nil {
		log.Fatal(err)
	}
	if _, err = io.WriteString(w, "a large payload"); err == nil {
		err = w.Close()
	}
	if err != nil {
		log.Fatal(err)
	}

	unwrapped, err := m.ContentKey(cose.DecryptKeys{kek}, cose.DecryptOptions{})
	if err != nil {
		log.Fatal(err)
	}
	r, err := cose.NewContentReader(m.Algorithm(), unwrapped, m.IV(), m.AAD(nil), bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil {
		log.Fatal(err)
	}
	plaintext, err := io.ReadAll(r)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", plaintext)
	// Output: a large payload
}

// Identify a key by its thumbprint (RFC 9679).
func ExampleKey_Thumbprint() {
	key, err := cose.ParsePEM([]byte(`-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
-----END PUBLIC KEY-----`))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%v %x\n", key.Alg(), key.Thumbprint()[:8])
	// Output: Ed25519 866eefbd6718c884
}
