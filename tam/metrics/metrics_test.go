package metrics_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/metrics"
	"github.com/go-teep/teep/tam/sqlite"
	"github.com/go-teep/teep/tam/sqlite/sqlitetest"
)

var now = time.Date(2026, 3, 1, 12, 30, 0, 0, time.UTC)

// failing is a store whose backend is gone when down is set.
type failing struct {
	api.Store
	down bool
}

var errDown = errors.New("disk full")

func (f *failing) CommitExchange(ctx context.Context, x tam.Exchange) error {
	if f.down {
		return errDown
	}
	return f.Store.CommitExchange(ctx, x)
}

func (f *failing) AddActivity(ctx context.Context, c []tam.Activity) error {
	if f.down {
		return errDown
	}
	return f.Store.AddActivity(ctx, c)
}

func (f *failing) CountDevices(ctx context.Context) ([]tam.DeviceCount, error) {
	if f.down {
		return nil, errDown
	}
	return f.Store.CountDevices(ctx)
}

func newMetrics(t *testing.T) (*metrics.Metrics, *failing) {
	t.Helper()
	store, err := sqlite.Open(t.Context(), sqlitetest.Database(t, t.TempDir()), sqlite.Options{RelaxedDurability: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	f := &failing{Store: store}
	return metrics.New(f, slog.New(slog.DiscardHandler), func() time.Time { return now }), f
}

func scrape(t *testing.T, m *metrics.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Exporter().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	data, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != http.StatusOK {
		t.Fatal(w.Code, err)
	}
	return string(data)
}

func wantLines(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no %s in the measurements", line)
		}
	}
}

func attested(id string) tam.Exchange {
	return tam.Exchange{
		Device: &tam.Device{ID: id, KeyThumbprint: []byte(id), AgentKey: []byte{1}, Status: tam.DeviceAccepted},
		Event:  &tam.Event{DeviceID: id, At: now, Kind: tam.EventAttested, Detail: "by " + id},
	}
}

func TestEventsAreCountedOnceStored(t *testing.T) {
	m, backend := newMetrics(t)
	s, ctx := m.Store(), t.Context()
	wantLines(t, scrape(t, m), `teep_tam_events_total{kind="attested"} 0`)
	const id = "secret-device-identifier"
	if err := s.CommitExchange(ctx, attested(id)); err != nil {
		t.Fatal(err)
	}
	if err := s.CommitExchange(ctx, attested(id)); !errors.Is(err, tam.ErrConflict) {
		t.Fatal(err) // refused: no event, and no failure of the store either
	}
	backend.down = true
	if err := s.CommitExchange(ctx, attested("b")); !errors.Is(err, errDown) {
		t.Fatal(err)
	}
	text := scrape(t, m)
	wantLines(t, text, `teep_tam_events_total{kind="attested"} 1`, `teep_tam_store_errors_total{call="CommitExchange"} 1`,
		`teep_tam_store_seconds_count{call="CommitExchange"} 3`)
	if strings.Contains(text, id) {
		t.Error("a device identifier is in the measurements")
	}
	m.Flush(ctx) // the store is down: kept
	backend.down = false
	m.Flush(ctx)
	m.Flush(ctx)
	list, err := backend.ActivitySince(ctx, now)
	if err != nil || len(list) != 1 || list[0].Count != 1 || !list[0].Hour.Equal(now.Truncate(time.Hour)) {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestFleet(t *testing.T) {
	m, backend := newMetrics(t)
	if err := m.Store().CommitExchange(t.Context(), attested("a")); err != nil {
		t.Fatal(err)
	}
	backend.down = true
	if strings.Contains(scrape(t, m), "teep_tam_devices{") {
		t.Error("counted devices without a store")
	}
	backend.down = false
	wantLines(t, scrape(t, m), `teep_tam_devices{attestation="none",status="accepted"} 1`)
}

func TestRequests(t *testing.T) {
	m, _ := newMetrics(t)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/devices/{id}", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	h := m.Handler("api", mux)
	for _, path := range []string{"/v1/devices/secret-1", "/v1/devices/secret-2", "/secret-3"} {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil))
	}
	text := scrape(t, m)
	wantLines(t, text, `teep_tam_http_requests_total{route="GET /v1/devices/{id}",server="api",status="418"} 2`,
		`teep_tam_http_requests_total{route="none",server="api",status="404"} 1`, `teep_tam_http_in_flight{server="api"} 0`)
	if strings.Contains(text, "secret-") {
		t.Error("a path is a label")
	}
}

func TestRunFlushesAtTheEnd(t *testing.T) {
	m, backend := newMetrics(t)
	if err := m.Store().CommitExchange(t.Context(), attested("a")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if list, err := backend.ActivitySince(t.Context(), now); err != nil || len(list) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestSpaceAndLimits: what payloads take, and what limits there are, is shown; a store that does not answer takes
// nothing else away.
func TestSpaceAndLimits(t *testing.T) {
	m, _ := newMetrics(t)
	var fault error
	m.Payloads(func(context.Context) (int64, int64, error) { return 7, 10, fault })
	m.Limits("teep", map[string]float64{"burst": 100})
	limit := `teep_tam_http_limit{limit="burst",server="teep"} 100`
	wantLines(t, scrape(t, m), "teep_tam_payload_bytes 7", "teep_tam_payload_bytes_limit 10", limit)
	fault = errors.New("it is away")
	wantLines(t, scrape(t, m), "teep_tam_payload_bytes NaN", limit)
}
