package transport

import (
	"container/list"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// DefaultConnections is how many connections [LimitConnections] keeps by default: few enough for the
// descriptors that a process usually may have.
const DefaultConnections = 4096

// Connections counts the connections of a server and bounds them. It is safe for concurrent use.
type Connections struct {
	max int

	mu      sync.Mutex
	open    int
	closed  uint64
	waiting *list.List // of net.Conn without a request, the one that waits longest in front
	entries map[net.Conn]*list.Element
}

// LimitConnections bounds the connections of a server that has not started; max 0 means
// [DefaultConnections]. When there are more, the one that has waited longest without a whole request is
// closed, so that whoever opens many and says nothing displaces itself. Connections with a request under
// way are not closed for others. It takes the server's ConnState.
func LimitConnections(s *http.Server, max int) *Connections {
	c := &Connections{max: orDefault(max, DefaultConnections), waiting: list.New(), entries: make(map[net.Conn]*list.Element)}
	s.ConnState = c.changed
	return c
}

// Max is how many connections there may be.
func (c *Connections) Max() int { return c.max }

// Open is how many connections there are now.
func (c *Connections) Open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}

// Closed is how many connections were closed because there were too many.
func (c *Connections) Closed() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

func (c *Connections) changed(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[conn]; e != nil {
		c.waiting.Remove(e)
		delete(c.entries, conn)
	}
	switch state {
	case http.StateNew:
		c.open++
		c.entries[conn] = c.waiting.PushBack(conn)
	case http.StateIdle:
		c.entries[conn] = c.waiting.PushBack(conn)
	case http.StateClosed, http.StateHijacked:
		c.open--
	}
	// Those that were closed here are counted until the server noticed.
	if c.waiting.Len() > 0 && state == http.StateNew && c.open > c.max {
		oldest := c.waiting.Remove(c.waiting.Front()).(net.Conn)
		delete(c.entries, oldest)
		c.closed++
		if t, ok := oldest.(*tls.Conn); ok {
			oldest = t.NetConn() // saying goodbye could block
		}
		oldest.Close() //nolint:errcheck // it is gone either way
	}
}
