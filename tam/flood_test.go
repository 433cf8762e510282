package tam_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/tam/metrics"
	"github.com/go-teep/teep/transport"
)

// floodSize is how many silent connections, and empty and garbled messages, there are; TEEP_FLOOD=10000 is
// the long run, for which this process needs 18000 file descriptors.
func floodSize(t *testing.T) int {
	t.Helper()
	text := os.Getenv("TEEP_FLOOD")
	if text == "" {
		return 200
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 100 {
		t.Fatalf("TEEP_FLOOD=%q: write a number from 100", text)
	}
	return n
}

// flooded is a TAM behind its HTTP server, with the limits that matter here small enough to be reached.
type flooded struct {
	*world
	address string
	metrics *metrics.Metrics
	held    []net.Conn
}

func newFlooded(t *testing.T, connections int) *flooded {
	t.Helper()
	w := newWorld(t)
	m := metrics.New(w.store, w.config.Logger, time.Now)
	server := transport.NewServer(m.Handler("teep", transport.NewHandler(w.tam, transport.HandlerOptions{MaxArriving: 8, Rate: 1, Burst: 50})))
	m.Connections("teep", transport.LimitConnections(server, connections))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	go func() {
		if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	f := &flooded{world: w, address: ln.Addr().String(), metrics: m}
	t.Cleanup(func() {
		for _, c := range f.held {
			c.Close()
		}
		must(t, server.Close())
	})
	return f
}

// from connects from one of the addresses of this machine.
func (f *flooded) from(ip string) net.Conn {
	f.t.Helper()
	c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}).Dial("tcp", f.address)
	must(f.t, err)
	return c
}

// hold opens n connections that send no more than begin, from many addresses.
func (f *flooded) hold(n int, begin string) {
	f.t.Helper()
	for i := range n {
		c := f.from(fmt.Sprintf("127.0.%d.%d", 2+i/200%200, 1+i%200))
		f.held = append(f.held, c)
		io.WriteString(c, begin) //nolint:errcheck // the server may have closed it, which is the point
	}
}

func clientFrom(ip string) *http.Client {
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	return &http.Client{Transport: &http.Transport{DialContext: d.DialContext}, Timeout: time.Minute}
}

func (f *flooded) request(c *http.Client, body io.Reader) (status int, reply []byte, err error) {
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+f.address+"/", body)
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Accept", transport.MediaType)
	r.Header.Set("Content-Type", transport.MediaType)
	response, err := c.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	reply, err = io.ReadAll(response.Body)
	return response.StatusCode, reply, err
}

// rows counts the rows of every table.
func (f *flooded) rows() map[string]int {
	f.t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(f.dir, "tam.db"))
	must(f.t, err)
	defer db.Close()
	names, err := db.Query(`SELECT name FROM sqlite_master WHERE type = 'table'`)
	must(f.t, err)
	defer names.Close()
	count := make(map[string]int)
	for names.Next() {
		var name string
		must(f.t, names.Scan(&name))
		count[name] = 0
	}
	must(f.t, names.Err())
	for name := range count {
		var n int
		must(f.t, db.QueryRow(`SELECT count(*) FROM "`+name+`"`).Scan(&n))
		count[name] = n
	}
	if len(count) < 5 {
		f.t.Fatalf("only the tables %v", count)
	}
	return count
}

// added is what came to a count of rows.
func added(before, after map[string]int) string {
	more := make(map[string]int) // prints in order
	for name, n := range after {
		if n != before[name] {
			more[name] = n - before[name]
		}
	}
	return fmt.Sprint(more)
}

// session runs a device's session over HTTP.
func (f *flooded) session(a *agent, c *http.Client) {
	f.t.Helper()
	status, query, err := f.request(c, nil)
	if err != nil || status != http.StatusOK {
		f.t.Fatalf("a device that connects: %d, %v", status, err)
	}
	response := a.protect(a.response(a.open(query).(*teep.QueryRequest)))
	if status, _, err := f.request(c, bytes.NewReader(response)); err != nil || status != http.StatusNoContent {
		f.t.Fatalf("a device's QueryResponse: %d, %v", status, err)
	}
}

// endless is a body whose size nobody says.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// attack sends n requests of each kind from one address.
func (f *flooded) attack(n int, ip string) {
	c := clientFrom(ip)
	defer c.CloseIdleConnections()
	for i := range n {
		for name, body := range map[string]io.Reader{"empty": nil, "garbage": strings.NewReader(fmt.Sprintf("\xd2\x84garbage %d", i))} {
			status, _, err := f.request(c, body)
			if err != nil || status != 200 && status != 204 && status != 429 {
				f.t.Errorf("%s: %d, %v", name, status, err)
			}
		}
	}
}

// TestFlood: empty, garbled, slow and giant messages and silent connections store nothing, displace each
// other and not devices, and show in the metrics.
func TestFlood(t *testing.T) {
	n := floodSize(t)
	f := newFlooded(t, n/4)
	a := f.agent(cose.AlgESP256)
	device := clientFrom("127.0.1.1")
	f.session(a, device)
	before := f.rows()
	f.session(a, device)
	one := added(before, f.rows())
	device.CloseIdleConnections()

	before = f.rows()
	const head = "POST / HTTP/1.1\r\nHost: tam\r\nAccept: " + transport.MediaType + "\r\nContent-Type: " + transport.MediaType + "\r\n"
	f.hold(n, "")
	f.hold(n/4, head)
	f.hold(n/4, head+"Content-Length: 100\r\n\r\n\xd2")
	f.attack(n, "127.0.1.2")
	for name, size := range map[string]int64{"said": 1 << 30, "not said": 5 << 20} {
		body := io.LimitReader(endless{}, size)
		if name == "said" {
			c := f.from("127.0.1.3")
			f.held = append(f.held, c)
			_, err := fmt.Fprintf(c, "%sContent-Length: %d\r\n\r\n", head, size)
			must(t, err)
			answer := make([]byte, len("HTTP/1.1 413"))
			if _, err := io.ReadFull(c, answer); err != nil || string(answer) != "HTTP/1.1 413" {
				t.Errorf("giant, %s: %q, %v", name, answer, err)
			}
			continue
		}
		// The server answers and closes while the client still sends, which may keep the answer from it.
		if status, _, err := f.request(clientFrom("127.0.1.3"), body); err == nil && status != http.StatusRequestEntityTooLarge {
			t.Errorf("giant, %s: %d", name, status)
		}
	}
	if got := added(before, f.rows()); got != "map[]" {
		t.Fatalf("the flood stored %s", got)
	}

	// The flood goes on, and the device comes.
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() { f.attack(n/2, fmt.Sprintf("127.0.1.%d", 10+i)) })
	}
	device = clientFrom("127.0.1.1")
	f.session(a, device)
	wg.Wait()
	if got := added(before, f.rows()); got != one {
		t.Errorf("with a session, the flood stored %s; the session alone %s", got, one)
	}

	scraped := httptest.NewRecorder()
	f.metrics.Exporter().ServeHTTP(scraped, httptest.NewRequest("GET", "/metrics", nil))
	text := scraped.Body.String()
	for _, want := range []string{`status="408"`, `status="413"`, `status="429"`,
		fmt.Sprintf("teep_tam_http_connections_limit{server=\"teep\"} %d\n", n/4)} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics do not say %s", want)
		}
	}
	if strings.Contains(text, "teep_tam_http_connections_closed_total{server=\"teep\"} 0\n") ||
		!strings.Contains(text, "teep_tam_http_connections_closed_total{server=\"teep\"} ") {
		t.Error("no connection was closed")
	}
}
