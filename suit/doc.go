// Package suit builds, signs, verifies and parses SUIT manifests: signed descriptions of what a
// device is to install, and how.
//
// To verify a manifest, say whom to trust, parse the envelope, and verify it:
//
//	trusted, err := cose.ParsePEM(pem)
//	keys, err := cose.NewKeySet(trusted)
//	envelope, err := suit.ParseEnvelope(data)
//	authenticated, err := envelope.Verify(keys, suit.VerifyOptions{})
//	fmt.Println(authenticated.Manifest.SequenceNumber)
//
// [ParseEnvelope] looks at the outside only; the manifest is parsed by [Envelope.Verify], after its
// signature was checked (SUIT §6.2). The example of [Envelope.Verify] is that, whole. To run a manifest use package suit/processor, to write one
// from a description use package suit/describe, and to see what is in one use [Annotate].
//
// # Building
//
// Fill in a [Manifest], name in a [Builder] what is severable and what is integrated, build, and
// sign. Building is deterministic, and what it makes parses:
//
//	envelope, err := suit.Builder{Manifest: m, Severable: []suit.Label{suit.LabelText}}.Build()
//	err = envelope.Sign(rand.Reader, signer)
//	data := envelope.Encode()
//
// # What is covered
//
// The manifest and its envelope; dependencies, uninstall and manifest component identifiers (trust
// domains); versions, waiting, priorities, component metadata and CoSWID (update management);
// encrypted payloads ([EncryptPayload], [DecryptPayload]); reports ([Report], [OpenReport]); and
// the algorithm profiles ([Profiles]). Section numbers in comments are those of the SUIT manifest
// text unless another text is named. Not covered: COSE_Mac with recipients, the hashes SHAKE128
// and SHAKE256, and delegation, for which the texts reserve a label and say no more.
//
// # What is refused
//
// Everything the CDDL does not allow: unknown members, commands and parameters; values of a wrong
// type; lists that must not be empty; commands without arguments; indefinite lengths; duplicate
// keys; and what exceeds [MaxComponents], [MaxCommands], [MaxSequenceDepth] and their like. Such
// errors are a [*ParseError], which says where in the manifest the fault is and which reason a
// SUIT report gives for it; [ReasonFor] does so for every error. Maps in unusual order and
// integers in unusual length are accepted, except where their order has a meaning: what was signed
// is kept and checked as it was received.
//
// # Ownership and concurrency
//
// What is parsed shares memory with the bytes it came from: leave them alone as long as it is in
// use, or Clone. Parsed values may be read by several goroutines; [Builder] and the methods of
// [Envelope] that change it are for one. There is no state outside of values.
package suit
