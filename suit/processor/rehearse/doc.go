// Package rehearse runs a SUIT manifest on a device that exists as a description only, so that an
// author sees before signing, and an operator before publishing, what a device would do with it:
// every command in its order, what changes, or the reason with which the device refuses.
//
// It is the processor that devices run (package processor) on a device in memory (package memory):
// nothing is simulated but the device. A description is YAML:
//
//	vendor: {domain: example.com}
//	class: {name: sandbox-wasm}
//	components: ["*"]                   # prefixes of the component identifiers that it has
//	installed:
//	  - id: [hello]
//	    content: {file: hello-1.wasm}
//	manifests:
//	  - envelope: hello-1.suit          # installed before the run begins
//	  - id: [lib, manifest]             # or known by its number alone
//	    sequence-number: 7
//	payloads:
//	  https://example.com/hello.wasm: hello-2.wasm
//	signers:
//	  - keys: [dev.pub.pem]
//	    components: [[hello]]
//
// [ParseYAML] reads it, and [Device.Rehearse] runs a manifest on it:
//
//	device, err := rehearse.ParseYAML(text, rehearse.Options{Name: "device.yaml", ReadFile: os.ReadFile})
//	outcome, err := device.Rehearse(ctx, rehearse.Run{Envelope: envelope, Procedure: processor.ProcedureUpdate})
//	for _, step := range outcome.Trail {
//		fmt.Println(step)
//	}
//	if outcome.Failure != nil { … }
//
// What a description does not say, the device does not have: a manifest that asks for the battery
// of a device without one is refused, as it is by a real one. Signatures are checked with the keys
// of the description, unless [Run.InsecureUnverified] is set.
package rehearse
