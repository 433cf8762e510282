// Package agent is the TEEP Agent: the state machine inside a Trusted Execution Environment that
// lets trusted TAMs, and nobody else, install, update and remove Trusted Components in it
// (RFC 9397, TEEP protocol).
//
//	a, err := agent.New(agent.Config{
//		TEE:      environment,        // tee/sandbox, tee/vm: keys, sealed state, runtime
//		Attester: attester,           // makes Evidence
//		Trust:    trustFile,          // whom to trust; see package agent/trust
//	})
//	defer a.Close()
//	err = link.Serve(ctx, conn, a)    // the broker takes it from here
//
// It joins the rooms below it: package teep for the messages, suit/processor for the manifests,
// attest for Evidence, tee for keys, storage and runtime. It opens no connection and no file, and
// starts nothing by itself; [Agent] implements link.Agent, and everything happens inside a call
// of it.
//
// # Asks
//
// What the agent wants from outside is what a call returns: a link.Ask to connect to a TAM, to
// send it a message, to fetch a piece of a payload, or to have Evidence appraised. An Update that has to fetch runs on a
// goroutine of its own, which stops at each fetch until Deliver brings the bytes; the calls and
// that goroutine meet in an exchange. One Update is processed at a time. What the broker brings
// is never trusted: the processor holds it against digests that are signed.
//
// # State
//
// One sealed record (package agent/state) names everything: components, manifests, owners, the
// highest sequence numbers, trust anchors, requests, and the Update that is in progress. Every
// change replaces the record as a whole, so a crash leaves the state before or after a change.
// An Update is written down before it is begun; an agent that was killed takes it up again at
// the next RequestPolicyCheck, does not fetch again what was complete, and answers its TAM then.
//
// # Ownership
//
// A component and its manifest belong to the TAM that installed them, under the name of the TAM's
// trust anchor. Another TAM does not get to see, update, refer to or remove them, and content that
// one TAM brought is never given to a component of another, even if it knows the digest.
//
// # Personalization data
//
// An application X, opened by its component identifier, is given as read-only personalization
// data the installed components of the same owner whose identifier begins with X's (named by the
// rest of it), and those of manifests that depend on the manifest that installed X (named by
// their whole identifier). Names join the parts with "/", parts that are not text in hexadecimal.
//
// # Applications that are interpreted
//
// An application X need not be a program itself: its manifest may depend on the one of a runtime, and
// leave it to that, by suit-directive-process-dependency in suit-invoke, to start the runtime's
// component (trust domains §template-dependency). Opening X then starts that program, with X's
// sealed storage and X's personalization data, among which X's content is called "application".
// Several applications share a runtime and nothing else. The runtime stays as long as one of them
// needs it, and is updated together with them.
package agent
