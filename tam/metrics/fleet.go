package metrics

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/go-teep/teep/tam"
)

// fleetCollector tells how many devices there are. Counting a large fleet takes the store a while, so
// the numbers may be a minute old.
type fleetCollector struct {
	store tam.Overview
	clock func() time.Time
	log   *slog.Logger

	mu     sync.Mutex
	counts []tam.DeviceCount
	read   time.Time
}

const (
	fleetMaxAge  = time.Minute
	fleetTimeout = 10 * time.Second
)

var fleetDevices = prometheus.NewDesc("teep_tam_devices",
	"Devices that the TAM knows, by status and attestation; the same from every replica.", []string{"status", "attestation"}, nil)

// Describe implements prometheus.Collector.
func (f *fleetCollector) Describe(ch chan<- *prometheus.Desc) { ch <- fleetDevices }

// Collect implements prometheus.Collector.
func (f *fleetCollector) Collect(ch chan<- prometheus.Metric) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := f.clock(); f.read.IsZero() || now.Sub(f.read) >= fleetMaxAge {
		ctx, cancel := context.WithTimeout(context.Background(), fleetTimeout)
		defer cancel()
		counts, err := f.store.CountDevices(ctx)
		if err != nil {
			f.log.Error("devices could not be counted", "err", err)
			return // no number is better than a wrong one
		}
		f.counts, f.read = counts, now
	}
	for _, c := range f.counts {
		ch <- prometheus.MustNewConstMetric(fleetDevices, prometheus.GaugeValue, float64(c.Devices), string(c.Status), c.Attestation.String())
	}
}
