package processor_test

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
	"github.com/go-teep/teep/suit/processor/memory"
)

// A device that trusts one author installs what that author signed.
func Example() {
	author, envelope := authored() // what arrives from outside

	device := memory.New(processor.Identity{Vendor: suit.NewVendorID("example.com"), Class: suit.NewVendorID("class")})
	trusted, err := processor.NewSigners(processor.Signer{Key: author, Rights: processor.AllComponents()})
	if err != nil {
		panic(err)
	}
	p, err := processor.New(processor.Config{Platform: device, Authority: trusted,
		Components: []suit.ComponentID{suit.NewComponentID("app")}})
	if err != nil {
		panic(err)
	}
	report, err := p.Update(context.Background(), envelope, processor.UpdateOptions{
		Trail: func(s processor.Step) { fmt.Println(s) }})
	fmt.Println(err, report.Failure == nil, string(device.State().Content["'app'"]))
	// Output:
	// install/common@1 directive-override-parameters 'app'
	// install/common@78 condition-vendor-identifier 'app'
	// install/common@80 condition-class-identifier 'app'
	// install@1 directive-override-parameters 'app'
	// install@9 directive-fetch 'app'
	// install@11 condition-image-match 'app'
	// <nil> true hello
}

// Verify a manifest and run it, in ten lines: whom to trust, the device, the processor, the run.
func ExampleProcessor_Update() {
	author, envelope := authored() // what arrives from outside

	trusted, err := processor.NewSigners(processor.Signer{Key: author, Rights: processor.AllComponents()})
	check(err)
	device := memory.New(processor.Identity{Vendor: suit.NewVendorID("example.com"), Class: suit.NewVendorID("class")})
	p, err := processor.New(processor.Config{Platform: device, Authority: trusted, Components: []suit.ComponentID{suit.NewComponentID("app")}})
	check(err)
	_, err = p.Update(context.Background(), envelope, processor.UpdateOptions{})
	check(err)
	fmt.Printf("%s\n", device.State().Content["'app'"])
	// Output: hello
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// authored is the work of the author: a manifest with its payload, signed.
func authored() (public *cose.Key, envelope []byte) {
	var identity, from suit.Parameters
	identity.SetVendorID(suit.VendorID{UUID: suit.NewVendorID("example.com")})
	identity.SetClassID(suit.NewVendorID("class"))
	identity.SetDigest(suit.NewDigest([]byte("hello")))
	from.SetURI("#app")
	var m suit.Manifest
	m.SequenceNumber, m.ComponentID = 1, suit.NewComponentID("app", "manifest")
	m.Common.Components = []suit.ComponentID{suit.NewComponentID("app")}
	m.Common.SharedSequence.Commands = suit.Sequence{suit.OverrideParameters(identity),
		suit.Condition(suit.CondVendorIdentifier, 0), suit.Condition(suit.CondClassIdentifier, 0)}
	m.Install.Commands = suit.Sequence{suit.OverrideParameters(from),
		suit.Directive(suit.DirFetch, 0), suit.Condition(suit.CondImageMatch, 0)}
	e, err := suit.Builder{Manifest: m, Integrated: map[string][]byte{"#app": []byte("hello")}}.Build()
	if err != nil {
		panic(err)
	}
	key, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	if err != nil {
		panic(err)
	}
	signer, err := key.Signer()
	if err != nil {
		panic(err)
	}
	if err := e.Sign(rand.Reader, signer); err != nil {
		panic(err)
	}
	return key.Public(), e.Encode()
}
