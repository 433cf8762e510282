package console

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
)

// TestFindingDevices: by ID, by the beginning of one, by UEID, and by a condition that few of many devices meet.
func TestFindingDevices(t *testing.T) {
	s := newService(t)
	for n := range 120 {
		id := fmt.Sprintf("ab%02x%028d", n, n)
		d := &tam.Device{ID: id, KeyThumbprint: []byte(id), AgentKey: []byte{1}, Status: tam.DeviceAccepted, FirstSeen: s.now, LastSeen: s.now, UEID: []byte{1, byte(n / 2)}, HWVersion: fmt.Sprint(n)}
		must(t, s.store.CommitExchange(t.Context(), tam.Exchange{Device: d, Reindex: true}))
	}
	c, _ := s.login(api.ScopeAuditor)
	one := func(n int) string { return Prefix + fmt.Sprintf("devices/ab%02x%028d", n, n) }
	for find, to := range map[string]string{
		fmt.Sprintf("ab%02x%028d", 7, 7): one(7), strings.ToUpper(fmt.Sprintf("ab%02x%028d", 10, 10)): one(10), "ab07": one(7), " AB77 ": one(119),
	} {
		if r := s.get(c, "devices?find="+url.QueryEscape(find)); r.status != http.StatusSeeOther || r.header.Get("Location") != to {
			t.Errorf("%q leads to %q: %d", find, r.header.Get("Location"), r.status)
		}
	}
	for query, want := range map[string]int{
		"find=ab0": 16, "find=ab": devicesPage, "find=0105": 2, "find=0199": 0, "find=nothing": 0, "find=" + url.QueryEscape(hostile): 0, "": devicesPage,
		"status=accepted": devicesPage, "match=" + url.QueryEscape(`hwversion == "99"`): 1, "match=false": 0, "match=true": devicesPage,
	} {
		r := s.get(c, "devices?"+query)
		inspect(t, query, r.body)
		if got := strings.Count(r.body, `<th scope="row">`); r.status != http.StatusOK || got != want {
			t.Errorf("%q: %d, %d devices, not %d", query, r.status, got, want)
		}
		if more := strings.Contains(r.body, `rel="next"`) || strings.Contains(r.body, "write more"); more != (want == devicesPage) {
			t.Errorf("%q: it leads on: %v", query, more)
		}
	}
}

// nextIn is where a page leads on to; empty on the last one.
func nextIn(body string) string {
	_, next, _ := strings.Cut(body, `rel="next" href="`+Prefix)
	next, _, _ = strings.Cut(next, `"`)
	return html.UnescapeString(next)
}

// TestEveryEventIsListedOnce: those of one kind, page by page.
func TestEveryEventIsListedOnce(t *testing.T) {
	s := newService(t)
	must(t, s.store.CommitExchange(t.Context(), tam.Exchange{Device: &tam.Device{ID: "0123", KeyThumbprint: []byte{1}, AgentKey: []byte{1}, Status: tam.DeviceAccepted, FirstSeen: s.now, LastSeen: s.now}}))
	const events = 2*eventsPage + 1
	for n := range 2 * events {
		must(t, s.store.CommitExchange(t.Context(), tam.Exchange{Event: &tam.Event{
			DeviceID: "0123", At: s.now, Kind: []tam.EventKind{tam.EventFailed, tam.EventAttested}[n%2], Detail: fmt.Sprintf("event %d.", n)}}))
	}
	c, _ := s.login(api.ScopeAuditor)
	for query, want := range map[string]int{"": 2 * events, "kind=failed": events, "kind=succeeded": 0} {
		seen := map[string]bool{}
		for path := "events?" + query; path != ""; {
			body := s.get(c, path).body
			for _, text := range regexp.MustCompile(`event \d+\.`).FindAllString(body, -1) {
				if seen[text] {
					t.Fatalf("%q lists %s twice", query, text)
				}
				seen[text] = true
			}
			path = nextIn(body)
		}
		if len(seen) != want {
			t.Errorf("%q lists %d events of %d", query, len(seen), want)
		}
	}
}

// TestEveryDeviceIsListedOnce: pages of a list, followed to their end.
func TestEveryDeviceIsListedOnce(t *testing.T) {
	s := newService(t)
	const devices = 2*devicesPage + 1
	for n := range devices {
		id := fmt.Sprintf("%032x", n)
		must(t, s.store.CommitExchange(t.Context(), tam.Exchange{Device: &tam.Device{ID: id, KeyThumbprint: []byte(id), AgentKey: []byte{1}, Status: tam.DevicePending, FirstSeen: s.now, LastSeen: s.now}}))
	}
	c, _ := s.login(api.ScopeAuditor)
	for _, query := range []string{"", "status=pending", "match=true"} {
		seen := map[string]bool{}
		for path := "devices?" + query; path != ""; {
			body := s.get(c, path).body
			for _, part := range strings.Split(body, `href="`+Prefix+`devices/`)[1:] {
				id, _, _ := strings.Cut(part, `"`)
				if seen[id] {
					t.Fatalf("%q lists %s twice", query, id)
				}
				seen[id] = true
			}
			path = nextIn(body)
		}
		if len(seen) != devices {
			t.Errorf("%q lists %d devices of %d", query, len(seen), devices)
		}
	}
}
