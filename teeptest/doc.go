// Package teeptest runs a TAM, a broker and agents in one process, for tests of anything that
// speaks TEEP, or that is provisioned by it.
//
//	w := teeptest.New(t, teeptest.Options{})
//	w.Publish(w.Component("hello", 1, "hello, world"))
//	d := w.Device
//	if err := d.Request(ctx, "hello"); err != nil { … }     // attest, install
//	out, err := d.Invoke(ctx, "hello", "greet", nil)        // "hello, world"
//
// Everything is real: keys are made, messages are signed, Evidence is appraised, the TAM keeps its
// state in SQLite behind an HTTP server on loopback, the broker talks to it with the HTTP client
// and to the agent over the link, and applications run under WebAssembly. What is simulated is the
// device's disk, so that [Device.Crash] can lose what a real one would lose, and the clock, which
// stands still until [Clock.Advance].
//
// # Hostile mode
//
// All messages and payloads pass a [Relay], which does nothing to them until it is told to:
//
//	w.Relay.SetFaults(teeptest.Faults{Drop: 0.1, Replay: 0.1, FlipBit: 0.1})
//
// It then loses, doubles, holds back, reorders, replays, truncates and damages what passes, in both
// directions, as drawn from a seed; [Relay.Log] tells what it did. A client that copes only with
// an honest network does not pass.
//
// [World.Settle] ends the faults and lets time pass until nothing changes any more. What is then
// installed has to be what the TAM wants, and [World.CheckAsked] fails the test if a device ever got
// into a state that no TAM asked for.
package teeptest
