package bench

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/bench/fill"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/postgres"
	"github.com/go-teep/teep/tam/postgres/pgtest"
)

// sizeFrom is a size that the environment may change, so that a run with the defaults is short.
func sizeFrom(b *testing.B, variable string, otherwise int) int {
	b.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		b.Fatalf("%s is %q: write a positive number, such as 1000000", variable, text)
	}
	return n
}

const few = 1000

// BenchmarkFleetSize handles QueryResponses of devices in a large fleet and in one of a thousand:
// $BENCH_DEVICES, or 20,000. The figures are times of single messages, one after the other, each
// with a commit that survives a loss of power; those of the small fleet are the floor. The two take
// turns, message by message, so that what else the machine does harms both alike.
func BenchmarkFleetSize(b *testing.B) {
	large := sizeFrom(b, "BENCH_DEVICES", 20_000)
	for _, backend := range []string{"sqlite", "postgres"} {
		b.Run(backend, func(b *testing.B) {
			open := opener(b, backend)
			var fleets [2]*fleet
			var times [2][]time.Duration
			for i, devices := range []int{few, large} {
				store := open()
				populate(b, store, devices, 0)
				fleets[i] = newFleet(b, store)
				fleets[i].sessions() // the first time, a device becomes known
			}
			for b.Loop() {
				inTurns(&fleets, &times)
			}
			for i, name := range []string{"floor", "ns"} {
				slices.Sort(times[i])
				b.ReportMetric(quantile(times[i], 0.5), name+"-p50")
				b.ReportMetric(quantile(times[i], 0.99), name+"-p99")
			}
			b.ReportMetric(quantile(times[1], 0.99)/quantile(times[0], 0.99), "×floor-p99")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkPast is what a session costs the TAM on one core after many past ones: $BENCH_PAST, or
// 20,000 tokens used up and entries of history, against a thousand.
func BenchmarkPast(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	open := opener(b, "sqlite")
	atWork := newWorkers(b)
	var fleets [2]*fleet
	var costs [2]cost
	for i, past := range []int{few, sizeFrom(b, "BENCH_PAST", 20_000)} {
		store := open()
		populate(b, store, few, past)
		fleets[i] = newFleet(b, store)
		fleets[i].sessions()
	}
	sessions := 0
	for b.Loop() {
		for i, w := range fleets {
			w.wholeSessions(b, atWork, &costs[i])
		}
		sessions += fleetSize
	}
	each := func(c cost) float64 { return float64(c.cpu.Nanoseconds()) / 1e3 / float64(sessions) }
	b.ReportMetric(each(costs[1]), "µs-cpu/session")
	b.ReportMetric(each(costs[0]), "µs-cpu-floor/session")
	b.ReportMetric(each(costs[1])/each(costs[0]), "×floor")
	b.ReportMetric(0, "ns/op")
}

// opener returns a function that makes a new store.
func opener(b *testing.B, backend string) func() tam.Store {
	if backend == "sqlite" {
		return func() tam.Store { return openSQLite(b) }
	}
	server := pgtest.Start(b, "fsync=on", "full_page_writes=on", "max_wal_size=4GB", "shared_buffers=128MB")
	return func() tam.Store {
		store, err := postgres.Open(b.Context(), server.Database(b), postgres.Options{})
		check(b, err)
		b.Cleanup(func() { store.Close() }) //nolint:errcheck // the database goes with the server
		return store
	}
}

// populate makes devices, and spreads past exchanges over them.
func populate(b *testing.B, store tam.Store, devices, past int) {
	b.Helper()
	const atOnce = 128
	key, err := newSigner(b, cose.AlgESP256).Public().MarshalCBOR()
	check(b, err)
	now := time.Now()
	each := func(n int, f func(i int) error) {
		var all sync.WaitGroup
		for first := range atOnce {
			all.Go(func() {
				for i := first; i < n; i += atOnce {
					if err := f(i); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
	}
	name := func(i int) [32]byte { return sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i))) }
	device := func(i int) (*tam.Device, error) {
		sum := name(i)
		return &tam.Device{
			ID: tam.DeviceID(sum[:]), KeyThumbprint: sum[:], AgentKey: key, Status: tam.DeviceAccepted, FirstSeen: now, LastSeen: now,
			UEID: sum[:17], OEMID: []byte{0x43, 1, 2, 3}, HWModel: []byte("device"), HWVersion: "1",
			Attestation: tam.Attestation{Status: attest.StatusAffirming, Measurement: sum[:], At: now},
			Inventory:   []tam.Installed{{Manifest: suit.NewComponentID("hello", "manifest"), Sequence: 1, Digest: sum[:]}},
		}, nil
	}
	if p, ok := store.(*postgres.Store); ok {
		check(b, fill.Postgres(b.Context(), p, devices, device))
	} else {
		each(devices, func(i int) error {
			d, err := device(i)
			if err != nil {
				return err
			}
			return store.CommitExchange(context.Background(), tam.Exchange{Device: d})
		})
	}
	each(past, func(i int) error {
		sum := name(i % devices)
		at := now.Add(time.Duration(i-past) * time.Millisecond)
		var id [16]byte
		binary.BigEndian.PutUint64(id[:], uint64(at.UnixMilli())<<16)
		binary.BigEndian.PutUint64(id[8:], uint64(i))
		return store.CommitExchange(context.Background(), tam.Exchange{
			Consume: &tam.Consumption{ID: id, Expires: at.Add(12 * time.Hour)},
			Event:   &tam.Event{DeviceID: tam.DeviceID(sum[:]), At: at, Kind: tam.EventUpdateSent, Detail: "install hello/manifest sequence number 1"},
		})
	})
}

// inTurns runs one session of every agent of both fleets, one message at a time, and notes how long each
// QueryResponse takes.
func inTurns(fleets *[2]*fleet, times *[2][]time.Duration) {
	var requests, responses, updates [2]round
	for n, w := range fleets {
		for i := range requests[n] {
			requests[n][i] = w.must(w.tam.ProcessConnect(w.b.Context()))
		}
		responses[n] = w.agents.answer(w.b, requests[n])
	}
	for i := range fleetSize {
		for turn := range fleets {
			n := (turn + i) % len(fleets) // neither is always the first
			w := fleets[n]
			start := time.Now()
			updates[n][i] = w.must(w.tam.ProcessTeepMessage(w.b.Context(), responses[n][i]))
			times[n] = append(times[n], time.Since(start))
		}
	}
	for n, w := range fleets {
		for _, m := range w.agents.answer(w.b, updates[n]) {
			w.must(w.tam.ProcessTeepMessage(w.b.Context(), m))
		}
	}
}

// sessions runs one session of every agent, one message at a time.
func (w *fleet) sessions() {
	b := w.b
	var messages round
	for i := range messages {
		messages[i] = w.must(w.tam.ProcessConnect(b.Context()))
	}
	for range 2 { // QueryResponse, and Success
		messages = w.agents.answer(b, messages)
		for i, m := range messages {
			messages[i] = w.must(w.tam.ProcessTeepMessage(b.Context(), m))
		}
	}
}

// wholeSessions runs one session of every agent, many at once.
func (w *fleet) wholeSessions(b *testing.B, atWork *workers, c *cost) {
	b.Helper()
	var messages, replies round
	c.of(b, atWork, func(int) []byte { return w.must(w.tam.ProcessConnect(b.Context())) }, &messages)
	handle := func(i int) []byte { return w.must(w.tam.ProcessTeepMessage(b.Context(), messages[i])) }
	messages = w.agents.answer(b, messages)
	c.of(b, atWork, handle, &replies)
	messages = w.agents.answer(b, replies)
	c.of(b, atWork, handle, &replies)
}

// quantile of a sorted list, in nanoseconds.
func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[min(len(sorted)-1, int(q*float64(len(sorted))))])
}
