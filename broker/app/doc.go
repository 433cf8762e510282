// Package app is how apps on the device use a TEEP Broker: over a Unix socket, they say which
// Trusted Components they depend on, and open and invoke Trusted Applications.
//
//	c, err := app.Dial(ctx, "/run/teep/broker.sock")
//	err = c.Request(ctx, app.Request{Component: id}, nil) // returns when it is installed
//	session, err := c.Open(ctx, id, app.Requirements{})
//	output, err := c.Invoke(ctx, session, "greet", []byte("world"))
//
// The broker's end is [Serve]. Who may connect is decided by the permissions of the socket and, if
// given, by [ServeOptions.Authorize]. Sessions belong to the connection that opened them: nobody else
// can name them, and they end with it.
package app
