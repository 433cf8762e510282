package transport

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// TestLimitConnections: the connection that has said nothing for longest makes room; one with a request
// under way stays, and so does the newest.
func TestLimitConnections(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	s := NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			close(entered)
			<-leave
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	limit := LimitConnections(s, 3)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(ln) //nolint:errcheck // ends with the test
	defer s.Close()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	get := func(c net.Conn, path string) {
		if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	answered := func(c net.Conn) {
		t.Helper()
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || r.StatusCode != http.StatusNoContent {
			t.Fatalf("%v, %v", r, err)
		}
	}
	// settled waits until the server knows that all connections but the busy one wait: it notices so
	// after its answer is out.
	settled := func() {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
			limit.mu.Lock()
			done := limit.open <= limit.max && limit.waiting.Len() == limit.open-1
			limit.mu.Unlock()
			if done {
				return
			}
		}
		t.Fatal("the server is not done with its connections")
	}
	busy := dial()
	get(busy, "/long")
	<-entered
	silent := dial()
	idle := dial()
	get(idle, "/")
	answered(idle)
	settled()
	for range 4 { // the silent one first, then the idle one, then these one after the other
		c := dial()
		get(c, "/")
		answered(c)
		settled()
	}
	for name, c := range map[string]net.Conn{"silent": silent, "idle": idle} {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("the %s one is still open", name)
		}
	}
	close(leave)
	answered(busy)
	if limit.Max() != 3 || limit.Closed() != 4 {
		t.Errorf("max %d, closed %d, open %d", limit.Max(), limit.Closed(), limit.Open())
	}
}
