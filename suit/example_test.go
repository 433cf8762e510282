package suit_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
)

// An author describes one component, signs, and a device verifies.
func Example() {
	author, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	if err != nil {
		log.Fatal(err)
	}
	data := hello(author)

	keys, err := cose.NewKeySet(author.Public())
	if err != nil {
		log.Fatal(err)
	}
	envelope, err := suit.ParseEnvelope(data)
	if err != nil {
		log.Fatal(err)
	}
	authenticated, err := envelope.Verify(keys, suit.VerifyOptions{})
	if err != nil {
		log.Fatal(err)
	}
	m := authenticated.Manifest
	fmt.Println("manifest", m.ComponentID, "number", m.SequenceNumber)
	for _, c := range m.Install.Commands {
		fmt.Println(c.Code)
	}
	// Output:
	// manifest 'hello'/'manifest' number 1
	// directive-override-parameters
	// directive-fetch
	// condition-image-match
}

// Verify a manifest in ten lines: whom to trust, the envelope, its signature, what is in it.
func ExampleEnvelope_Verify() {
	author, err := cose.GenerateKey(rand.Reader, cose.AlgEd25519)
	if err != nil {
		log.Fatal(err)
	}
	data := hello(author) // what arrives from outside

	keys, err := cose.NewKeySet(author.Public())
	if err != nil {
		log.Fatal(err)
	}
	envelope, err := suit.ParseEnvelope(data)
	if err != nil {
		log.Fatal(err)
	}
	verified, err := envelope.Verify(keys, suit.VerifyOptions{})
	fmt.Println(err, verified.Manifest.SequenceNumber, verified.Algorithm)

	stranger, err := cose.GenerateKey(rand.Reader, cose.AlgEd25519)
	if err != nil {
		log.Fatal(err)
	}
	if keys, err = cose.NewKeySet(stranger.Public()); err != nil {
		log.Fatal(err)
	}
	_, err = envelope.Verify(keys, suit.VerifyOptions{})
	fmt.Println(errors.Is(err, suit.ErrUnauthorized))
	// Output:
	// <nil> 1 Ed25519
	// true
}

func hello(author *cose.Key) []byte {
	payload := []byte("hello, world")
	var shared, install suit.Parameters
	shared.SetVendorID(suit.VendorID{UUID: suit.NewVendorID("example.com")})
	shared.SetDigest(suit.NewDigest(payload))
	shared.SetSize(uint64(len(payload)))
	install.SetURI("#hello")

	m := suit.Manifest{SequenceNumber: 1, ComponentID: suit.NewComponentID("hello", "manifest")}
	m.Common.Components = []suit.ComponentID{suit.NewComponentID("hello")}
	m.Common.SharedSequence.Commands = suit.Sequence{
		suit.OverrideParameters(shared),
		suit.Condition(suit.CondVendorIdentifier, suit.ReportAll),
	}
	m.Install.Commands = suit.Sequence{
		suit.OverrideParameters(install),
		suit.Directive(suit.DirFetch, suit.ReportRecordOnFailure),
		suit.Condition(suit.CondImageMatch, suit.ReportAll),
	}
	envelope, err := suit.Builder{Manifest: m, Integrated: map[string][]byte{"#hello": payload}}.Build()
	if err != nil {
		log.Fatal(err)
	}
	signer, err := author.Signer()
	if err != nil {
		log.Fatal(err)
	}
	if err := envelope.Sign(rand.Reader, signer); err != nil {
		log.Fatal(err)
	}
	return envelope.Encode()
}
