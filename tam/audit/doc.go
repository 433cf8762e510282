// Package audit is the record of who changed what at a TAM: append-only, and chained by hashes, so
// that a copy taken at any time shows later whether an entry was changed, removed or put in between.
//
// A store writes the entry of a change in the same transaction as the change: neither exists without
// the other. Who acts travels in the context:
//
//	ctx = audit.WithActor(ctx, audit.Actor{Via: "api", ID: token.ID, Name: token.Name})
//	err := store.WithdrawVersion(ctx, …) // appends the entry "version.withdraw" by that actor
//
// An export is one JSON object a line, oldest first; [Verify] checks it without the TAM:
//
//	report, err := audit.Verify(file, noted)
//
// # What the chain shows, and what not
//
// Each entry's hash covers all of its fields and the hash before it. Whoever can write to the database
// can compute a new chain from any point on, or cut off its end. Both show when the hash of a known
// entry is kept elsewhere: [Report.Head] is what to keep, and [Report.Missing] says that it is not there any more.
package audit
