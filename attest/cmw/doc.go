// Package cmw reads and writes Conceptual Message Wrappers in CBOR (rats-cmw): an envelope that
// says what kind of Evidence, or other message of remote attestation, is inside. Its three forms
// are a record with a media type, a CBOR tag, and a collection of several under labels.
//
//	data, err := cmw.Record{MediaType: eat.MediaType, Value: token, Indicator: cmw.Evidence}.Encode()
//	m, err := cmw.Parse(data)
//
// A wrapper proves nothing about its content. A [Verifier] opens records and tags and hands what
// is inside to the verifier for its media type.
package cmw
