// Package conform tests whether an implementation of TEEP does what the texts demand. It plays the
// other side, honest and hostile, and yields one [Result] for each requirement:
//
//	results := conform.CheckTAM(ctx, conform.TAM{URI: "https://tam.example/teep", Keys: keys, Device: device})
//	results := conform.CheckAgent(ctx, conform.Agent{Link: client, TAM: keys})
//	conform.WriteTable(os.Stdout, results)
//	if conform.Failed(results) { … }
//
// Any TAM can be checked over HTTP, and any agent that speaks the link of this project; package
// link says how. A check that cannot be made is skipped and says what it would need: an agent
// that nobody endorsed cannot see what a TAM does after attestation, for one.
//
// Sections are those of the TEEP protocol (§) and of TEEP over HTTP (HTTP §). A failed MUST fails the
// whole; a failed SHOULD is a warning. What passes here is not proven correct: it did not fail in
// the ways that were tried.
package conform
