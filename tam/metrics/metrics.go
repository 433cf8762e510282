// Package metrics measures a TAM for Prometheus, and counts what happens by the hour for the console.
//
//	m := metrics.New(store, log, time.Now)
//	t, err := tam.New(ctx, tam.Config{Store: m.Store(), …})
//	http.Handle("/tam", m.Handler("teep", transport.NewHandler(t, …)))
//	http.Handle("/metrics", m.Exporter())
//	go m.Run(ctx)
//
// No label holds anything that a device, a publisher or an operator chose: labels are names of calls,
// routes, states and kinds of event, of which there are few. Device identifiers are in no metric.
package metrics

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
)

// Metrics are the measurements of one process. All methods are safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	store    api.Store
	log      *slog.Logger
	clock    func() time.Time

	events       *prometheus.CounterVec
	storeSeconds *prometheus.HistogramVec
	storeErrors  *prometheus.CounterVec
	requests     *prometheus.CounterVec
	seconds      *prometheus.HistogramVec
	inFlight     *prometheus.GaugeVec

	mu       sync.Mutex
	activity map[activityKey]int64
	// fieldCounted is the newest hour for which the versions in the field are known.
	fieldCounted time.Time
}

type activityKey struct {
	hour time.Time
	kind tam.EventKind
}

// buckets reach from a cached read to a request that someone gave up on, in seconds.
var buckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10}

// New makes the measurements over a store.
func New(store api.Store, log *slog.Logger, clock func() time.Time) *Metrics {
	m := newMetrics(store, log, clock)
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.register(m.registry)
	return m
}

// NewTenant makes those of one tenant of a process, with a label tenant: an operator chose the name.
func NewTenant(tenant string, store api.Store, log *slog.Logger, clock func() time.Time) *Metrics {
	m := newMetrics(store, log, clock)
	m.register(prometheus.WrapRegistererWith(prometheus.Labels{"tenant": tenant}, m.registry))
	return m
}

func newMetrics(store api.Store, log *slog.Logger, clock func() time.Time) *Metrics {
	return &Metrics{
		registry: prometheus.NewRegistry(), store: store, log: log, clock: clock, activity: map[activityKey]int64{},
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "teep_tam_events_total", Help: "What happened with devices, by kind: attested, attestation-failed, update-sent, succeeded, failed, status-changed."}, []string{"kind"}),
		storeSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "teep_tam_store_seconds", Help: "Time that calls of the store took.", Buckets: buckets}, []string{"call"}),
		storeErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "teep_tam_store_errors_total", Help: "Calls of the store that the backend failed; refusals such as a used token are not counted."}, []string{"call"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "teep_tam_http_requests_total", Help: "HTTP requests, by server (teep, api, console), route and status."}, []string{"server", "route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "teep_tam_http_seconds", Help: "Time until requests were answered.", Buckets: buckets}, []string{"server"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "teep_tam_http_in_flight", Help: "Requests under way."}, []string{"server"}),
	}
}

func (m *Metrics) register(r prometheus.Registerer) {
	r.MustRegister(m.events, m.storeSeconds, m.storeErrors, m.requests, m.seconds, m.inFlight,
		&fleetCollector{store: m.store, clock: m.clock, log: m.log})
	for _, kind := range []tam.EventKind{tam.EventAttested, tam.EventAttestationFailed, tam.EventUpdateSent, tam.EventSucceeded, tam.EventFailed, tam.EventStatus} {
		m.events.WithLabelValues(string(kind)) // an alert on a rate needs the zero before the first event
	}
}

// Exporter serves the measurements in Prometheus' formats, with those of tenants of the same process.
func (m *Metrics) Exporter(tenants ...*Metrics) http.Handler {
	all := prometheus.Gatherers{m.registry}
	for _, t := range tenants {
		all = append(all, t.registry)
	}
	return promhttp.HandlerFor(all, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

// Counted are the connections of a server, as transport.Connections counts them.
type Counted interface {
	// Max is how many there may be, Open how many there are, Closed how many were closed because there
	// were too many.
	Max() int
	Open() int
	Closed() uint64
}

// Connections measures the connections of the named server. Call it once for each name.
func (m *Metrics) Connections(server string, c Counted) {
	label := prometheus.Labels{"server": server}
	m.registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "teep_tam_http_connections", Help: "Open connections.", ConstLabels: label},
			func() float64 { return float64(c.Open()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "teep_tam_http_connections_limit", Help: "How many connections there may be.", ConstLabels: label},
			func() float64 { return float64(c.Max()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "teep_tam_http_connections_closed_total", ConstLabels: label,
			Help: "Connections without a request that were closed because there were too many."},
			func() float64 { return float64(c.Closed()) }))
}

// Limits shows the limits of the named server, by what they limit. Call it once for each name.
func (m *Metrics) Limits(server string, limits map[string]float64) {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "teep_tam_http_limit", Help: "Limits of requests, by what they limit.",
		ConstLabels: prometheus.Labels{"server": server}}, []string{"limit"})
	for name, value := range limits {
		g.WithLabelValues(name).Set(value)
	}
	m.registry.MustRegister(g)
}

// Certificate shows when the TLS certificate of the named server expires, as seconds since 1970; none while expires
// says the zero time. Call it once for each name.
func (m *Metrics) Certificate(server string, expires func() time.Time) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "teep_tam_tls_certificate_expires_seconds",
		Help: "When the TLS certificate expires, in seconds since 1970; NaN: there is none yet.", ConstLabels: prometheus.Labels{"server": server}},
		func() float64 {
			at := expires()
			if at.IsZero() {
				return math.NaN()
			}
			return float64(at.Unix())
		}))
}

// Traces shows what became of the spans of traces. Call it once.
func (m *Metrics) Traces(spans func() (exported, failed, dropped uint64)) {
	counter := func(outcome string, which func() uint64) {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "teep_tam_trace_spans_total",
			Help:        "Spans of traces by what became of them: exported, failed (the collector did not take them), dropped (too many waited).",
			ConstLabels: prometheus.Labels{"outcome": outcome}}, func() float64 { return float64(which()) }))
	}
	counter("exported", func() uint64 { n, _, _ := spans(); return n })
	counter("failed", func() uint64 { _, n, _ := spans(); return n })
	counter("dropped", func() uint64 { _, _, n := spans(); return n })
}

// Payloads shows how much space payloads take, and may take. used is called for each scrape. Call it once.
func (m *Metrics) Payloads(used func(context.Context) (used, limit int64, err error)) {
	gauge := func(name, help string, which func(used, limit int64) int64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			used, limit, err := used(context.Background())
			if err != nil {
				return math.NaN() // the store does not say
			}
			return float64(which(used, limit))
		})
	}
	m.registry.MustRegister(
		gauge("teep_tam_payload_bytes", "Space that payloads take.", func(used, _ int64) int64 { return used }),
		gauge("teep_tam_payload_bytes_limit", "Space that payloads may take together.", func(_, limit int64) int64 { return limit }))
}

// Handler measures the requests that a handler answers, as those of the named server.
func (m *Metrics) Handler(server string, next http.Handler) http.Handler {
	inFlight, seconds := m.inFlight.WithLabelValues(server), m.seconds.WithLabelValues(server)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inFlight.Inc()
		defer inFlight.Dec()
		begin := time.Now()
		rec := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
		defer func() {
			seconds.Observe(time.Since(begin).Seconds())
			// The multiplexer notes in the request which of its few patterns matched.
			route := r.Pattern
			if route == "" {
				route = "none"
			}
			m.requests.WithLabelValues(server, route, strconv.Itoa(rec.status)).Inc()
		}()
		next.ServeHTTP(rec, r)
	})
}

type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (r *statusRecorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach what is beneath.
func (r *statusRecorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

const flushInterval = 10 * time.Second

// Run adds what was counted to the store every few seconds, until ctx ends and once more then.
func (m *Metrics) Run(ctx context.Context) error {
	tick := time.NewTicker(flushInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			m.Flush(last)
			return nil
		case <-tick.C:
			m.Flush(ctx)
			m.countField(ctx)
		}
	}
}

// Flush adds what was counted since the last time to the store. What cannot be added now is kept.
func (m *Metrics) Flush(ctx context.Context) {
	m.mu.Lock()
	counts := make([]tam.Activity, 0, len(m.activity))
	for k, n := range m.activity {
		counts = append(counts, tam.Activity{Hour: k.hour, Kind: k.kind, Count: n})
	}
	clear(m.activity)
	m.mu.Unlock()
	if len(counts) == 0 {
		return
	}
	if err := m.store.AddActivity(ctx, counts); err != nil {
		m.log.ErrorContext(ctx, "activity could not be stored, kept for the next time", "err", err)
		for _, c := range counts {
			m.count(c.Hour, c.Kind, c.Count)
		}
	}
}

func (m *Metrics) count(at time.Time, kind tam.EventKind, n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.activity[activityKey{at.UTC().Truncate(time.Hour), kind}] += n
}

// Store returns the store, measured.
func (m *Metrics) Store() api.Store { return &measured{m.store, m} }

// measured measures the calls that sessions consist of, and counts the events that were stored.
type measured struct {
	api.Store
	m *Metrics
}

func (s *measured) observe(call string, begin time.Time, err error) {
	s.m.storeSeconds.WithLabelValues(call).Observe(time.Since(begin).Seconds())
	if err != nil && !refusal(err) {
		s.m.storeErrors.WithLabelValues(call).Inc()
	}
}

// refusal tells the contract's answers from a failure of the backend.
func refusal(err error) bool {
	for _, known := range []error{tam.ErrNotFound, tam.ErrExists, tam.ErrConflict, tam.ErrConsumed, tam.ErrSequence, context.Canceled} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// CommitExchange implements [tam.Exchanges].
func (s *measured) CommitExchange(ctx context.Context, x tam.Exchange) error {
	begin := time.Now()
	err := s.Store.CommitExchange(ctx, x)
	s.observe("CommitExchange", begin, err)
	if err == nil && x.Event != nil {
		s.m.events.WithLabelValues(string(x.Event.Kind)).Inc()
		s.m.count(s.m.clock(), x.Event.Kind, 1)
	}
	return err
}

// DeviceByKey implements [tam.Devices].
func (s *measured) DeviceByKey(ctx context.Context, thumbprint []byte) (*tam.Device, error) {
	begin := time.Now()
	d, err := s.Store.DeviceByKey(ctx, thumbprint)
	s.observe("DeviceByKey", begin, err)
	return d, err
}

// CatalogueRevision implements [tam.Catalogue].
func (s *measured) CatalogueRevision(ctx context.Context) (int64, error) {
	begin := time.Now()
	n, err := s.Store.CatalogueRevision(ctx)
	s.observe("CatalogueRevision", begin, err)
	return n, err
}
