// Package transport is TEEP over HTTP (draft-ietf-teep-otrp-over-http): [Client] posts messages and
// fetches payloads, [NewHandler] receives messages. Both carry bytes and hold no opinion about
// what is inside them.
//
//	client, err := transport.NewClient(transport.ClientOptions{CAFile: "ca.pem"})
//	reply, err := client.Post(ctx, "https://tam.example/tam", message)
//
//	http.Handle("/tam", transport.NewHandler(tam, transport.HandlerOptions{}))
//
// # What TEEP asks of a transport (TEEP §12)
//
// HTTP delivers each message reliably and in order within one exchange, and says nothing about
// exchanges whose answer was lost. The client repeats a POST after a fault of the transport, with
// growing, jittered delays, as its [RetryPolicy] says. Every TEEP POST may be repeated: an empty
// one asks for a further QueryRequest, and a message that the receiver handled already is one
// whose token or challenge was consumed, which it ignores. What the ignored message would have been
// answered is lost then; the caller finds out by asking the agent, and starts a new session.
// Faults that repetition does not cure are typed errors ([*StatusError], [ErrUnreachable], …), of
// which the broker tells the agent through ProcessError.
package transport

// MediaType is the media type of TEEP messages, in both directions (TEEP §14.1).
const MediaType = "application/teep+cbor"
