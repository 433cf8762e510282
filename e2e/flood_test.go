package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	mathrand "math/rand/v2"
)

// TestIdleConnections opens connections to a TAM on which nothing is said, many more than it allows: devices are served
// meanwhile, nothing is stored, and the metrics say what happens and what is allowed. There are 10,000 of them, or as many
// as this process may have files; TEEP_FLOOD asks for another number.
func TestIdleConnections(t *testing.T) {
	const allowed = 100
	silent := int(environment("TEEP_FLOOD", mostConnections(t, 10000)))
	t.Logf("%d silent connections", silent)
	measured := unusedAddress(t)
	s, verifier := newPassportService(t, 1, func(text string) string {
		return text + fmt.Sprintf("metrics: {listen: %q}\n", measured)
	})
	s.edit(func(text string) string {
		return strings.Replace(text, "limits: {", fmt.Sprintf("limits: {connections: %d, ", allowed), 1)
	})
	s.start()
	w := newStorm(t, s, 1, 3, verifier)
	r := mathrand.New(mathrand.NewPCG(1, 1))
	envelope, err := w.envelope(1)
	must(t, err)
	_, err = w.client(w.replicas[0]).Publish(t.Context(), envelope)
	must(t, err)
	before := len(w.seenAll())

	var held []net.Conn
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	for n := range silent {
		c, err := net.Dial("tcp", s.replicas[0].teep)
		must(t, err)
		held = append(held, c)
		if n%(silent/3) == silent/6 {
			d := w.devices[n/(silent/3)%3]
			if err := w.session(t.Context(), d, r); err != nil || d.wrong != nil || !d.known {
				t.Errorf("a device beside %d silent connections: %v, %v", n, err, d.wrong)
			}
			w.transport.CloseIdleConnections()
		}
	}
	// The last ones may wait to be accepted yet, and what is closed is open until its goroutine ended.
	settled := func(value func(string) float64) bool {
		return value(`teep_tam_http_connections_closed_total{server="teep"}`) >= float64(silent-allowed) && value(`teep_tam_http_connections{server="teep"}`) <= allowed
	}
	value := metricsOf(t, measured)
	for deadline := time.Now().Add(30 * time.Second); !settled(value) && time.Now().Before(deadline); value = metricsOf(t, measured) {
		time.Sleep(20 * time.Millisecond)
	}
	if got := value(`teep_tam_http_connections_limit{server="teep"}`); got != allowed {
		t.Errorf("%v connections are allowed", got)
	}
	if got := value(`teep_tam_http_connections{server="teep"}`); got > allowed {
		t.Errorf("%v connections are open, %d are allowed", got, allowed)
	}
	if got := value(`teep_tam_http_connections_closed_total{server="teep"}`); got < float64(silent-allowed) {
		t.Errorf("%v of %d silent connections were closed, %d are allowed", got, silent, allowed)
	}
	for limit, want := range map[string]float64{"requests_per_second_and_address": 100000, "burst": 100000, "message_bytes": 4 << 20, "arriving_messages": 256, "process_seconds": 30} {
		if got := value(fmt.Sprintf(`teep_tam_http_limit{limit=%q,server="teep"}`, limit)); got != want {
			t.Errorf("limit %s is shown as %v", limit, got)
		}
	}
	list, err := w.client(w.replicas[0]).Devices(t.Context(), "")
	must(t, err)
	if len(list.Items) != 3 {
		t.Errorf("%d devices are known", len(list.Items))
	}
	// Three devices, each of which was attested, got an Update, and carried it out.
	if n := len(w.seenAll()) - before; n > 9 {
		t.Errorf("%d events were stored", n)
	}
}

// mostConnections is how many connections this process can hold beside what else it has open.
func mostConnections(t *testing.T, wanted uint64) uint64 {
	t.Helper()
	var limit syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	const others = 200
	return min(wanted, max(limit.Cur, 2*others)-others)
}

// seenAll is the feed as a whole.
func (w *storm) seenAll() []any {
	w.t.Helper()
	var all []any
	for after := ""; ; {
		page, err := w.client(w.replicas[0]).FeedEvents(w.t.Context(), after)
		must(w.t, err)
		for _, e := range page.Items {
			all = append(all, e)
		}
		if after = page.Next; after == "" {
			return all
		}
	}
}

// metricsOf reads the metrics of a TAM; a value that is not there is -1.
func metricsOf(t *testing.T, address string) func(string) float64 {
	t.Helper()
	res, err := http.Get("http://" + address + "/metrics")
	must(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	must(t, err)
	return func(name string) float64 {
		m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindSubmatch(text)
		if m == nil {
			return -1
		}
		v, err := strconv.ParseFloat(string(m[1]), 64)
		must(t, err)
		return v
	}
}
