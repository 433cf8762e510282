// Package api is the operator API of a TAM: how publishers upload components, how operators look at
// devices and say what they should have, and how administrators grant both.
//
//	handler, err := api.NewHandler(api.Config{TAM: t, Store: store})
//	http.ListenAndServeTLS(…, handler)
//
// and, from the other side,
//
//	c := api.Client{BaseURL: "https://tam.example", Token: token}
//	version, err := c.Publish(ctx, envelope)
//
// # Authorization
//
// Every request but GET /v1/healthz carries a bearer token, which [IssueToken] makes: random,
// stored as a hash, limited to scopes, and expiring. A route that names no scope is refused to
// everybody: what is not allowed is denied.
//
//	administrator  everything, publishers and tokens included
//	operator       devices and desired state; withdraws versions
//	publisher      uploads components, and sees them
//	auditor        sees everything, changes nothing
//
// # Form
//
// JSON in both directions, except for the envelopes. Component identifiers are written as
// [suit.ComponentID.String] does; in a path they are percent-encoded into one segment. Lists come in
// pages: items, and next, which is the value for ?after= of the next page. Errors are problem
// details (RFC 9457) whose member next says what to do.
package api
