// Package tam is the Trusted Application Manager of TEEP (RFC 9397 §2): it asks devices what
// they are and what they hold, decides what they should hold, and sends them the manifests that
// make it so.
//
// The package is a pure core. [New] takes keys, an attestation verifier, a [Store], a clock and a
// source of randomness; what comes back has the two calls that RFC 9397 §6.2.1 gives a TAM:
//
//	t, err := tam.New(ctx, tam.Config{Signers: …, Verifier: …, Store: …, Blobs: …})
//	request, err := t.ProcessConnect(ctx)            // the broker connected: QueryRequest
//	reply, err := t.ProcessTeepMessage(ctx, message) // QueryResponse, Success or Error arrived
//
// Both return the bytes to send back; empty bytes mean that there is nothing to say. An error
// means that the TAM itself failed (its store, say) and that the caller should answer so; a
// message that is invalid, late, replayed or foreign is no error: it is logged with its reason and
// answered with nothing (TEEP §7.1).
//
// # Replicas
//
// Any number of TAMs may run over one Store. Tokens and challenges are data that any of them can
// check (see token.go); issuing one stores nothing, so that a flood of empty requests costs
// signatures and no storage. Using one up is part of the one write transaction that a message
// causes.
//
// # Where things are
//
//   - token.go: tokens and challenges
//   - connect.go: QueryRequest
//   - message.go: receiving, checking and dispatching a message
//   - queryresponse.go, attestation.go, decide.go, update.go: from QueryResponse to Update
//   - outcome.go: Success and Error
//   - standing.go, enrol.go, rollout.go, govern.go, preview.go: policy (tam/policy) applied to devices
//   - publish.go, signers.go: publishers and the versions that they upload
//   - store.go, device.go, catalogue.go: what is stored, and what a Store guarantees
package tam
