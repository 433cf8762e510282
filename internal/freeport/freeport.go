// Package freeport finds TCP addresses for servers that a test or a benchmark starts in another process. Nobody
// listens there now, and unlike the port that a system gives who asks for any, the port is below those that it gives
// outgoing connections, one of which could otherwise take it before the server does.
package freeport

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports from first to before end are below the range that Linux, the BSDs and Windows give outgoing connections, and
// above those that are well known. Two that are chosen at the same time by different processes hardly ever collide.
const (
	first = 10_000
	end   = 32_768
	tries = 100
)

// Address returns an address of the loopback interface, host:port, that is free. It is safe for concurrent use.
func Address() (string, error) {
	var errs []error
	for range tries {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(first+rand.IntN(end-first)))
		ln, err := net.Listen("tcp", address)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		return address, ln.Close()
	}
	return "", errors.Join(errs...)
}
