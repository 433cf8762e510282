// Package broker is the TEEP Broker (RFC 9397 §6): it stands outside the TEE, takes requests of apps
// on the device, and relays bytes between the TEEP Agents of the device's TEEs and their TAMs. It
// holds no keys, sees into no message, and decides nothing that matters: whom to trust, what to
// install and whether a payload is the right one is decided inside the TEE.
//
//	b, err := broker.New(broker.Options{
//		TEEs:    []broker.TEE{{Name: "default", Agent: &link.Redialer{Dial: dial}}},
//		Poster:  client, // *transport.Client
//		Fetcher: client,
//	})
//	go b.Run(ctx)                                   // policy checks now and then
//	err = b.Request(ctx, broker.Request{Component: id}, nil) // returns when it is installed
//
// The agent never calls out. Every call to it returns an Ask: post this message to that TAM, fetch
// that payload, or nothing more. The session loop does what is asked and calls again with the
// outcome (TEEP/HTTP §5). Package broker/app lets apps on the device use a broker over a socket.
package broker
