// Package teep implements the messages of the Trusted Execution Environment Provisioning protocol
// (draft-ietf-teep-protocol-26): QueryRequest, QueryResponse, Update, Success and Error.
//
// Two functions do most of the work. [Protect] encodes a message and signs it; [Open] takes what
// arrived through the validation steps of §4.1.2, in their order, and returns the message with
// the key that signed it:
//
//	data, err := teep.Protect(rand.Reader, &teep.Success{Token: update.Token}, signer)
//
//	opened, err := teep.Open(data, trustedKeys, teep.OpenOptions{})
//	switch m := opened.Message.(type) {
//	case *teep.QueryResponse:
//	case *teep.Success:
//	}
//
// [Encode] and [Decode] are the same without COSE. All of them hold to the rules of the text, not
// only to its CDDL: what we send is checked before it leaves, what arrives is checked before anyone
// sees it. Where the text forbids something, the decoder refuses it; where the text leaves room
// (unknown options, unknown cipher suites, tagged and untagged COSE), the decoder accepts it and
// keeps it.
//
// Everything that fails because of the other side is a [*ProtocolError], which knows the error code
// to answer with and the parameters that have to accompany it. The Choose functions negotiate cipher
// suite, version, freshness mechanism and SUIT profile, and fail with such an error.
//
// Manifests, reports, Evidence and system-property-claims pass through this package as encoded
// CBOR; packages suit and attest know what is inside. The package does no I/O, reads no clock
// and keeps no state: tokens and challenges are the business of who issues them.
//
// Values are not safe for concurrent modification; all functions are safe for concurrent use.
// Decoded messages do not share memory with the input.
package teep
