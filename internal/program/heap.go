package program

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// HeapRoom is how much memory a server of this project may fill between two collections of garbage, in bytes.
const HeapRoom = 64 << 20

const (
	heapInterval = time.Second
	// The runtime collects no later than at 4 MiB times the percentage, and by itself at 100 percent.
	runtimeHeap               = 4 << 20
	leastPercent, mostPercent = 100, HeapRoom * 100 / runtimeHeap
)

// KeepHeapRoom lets the heap grow by about [HeapRoom] between collections, however little of it lives, until
// ctx ends. A server keeps little and makes garbage quickly: left to itself the runtime would collect that
// little hundreds of times per second. Where GOGC or GOMEMLIMIT is set, the operator decided otherwise.
func KeepHeapRoom(ctx context.Context) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	before := debug.SetGCPercent(heapPercent(liveHeap()))
	go func() {
		tick := time.NewTicker(heapInterval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if p := heapPercent(liveHeap()); p != before {
					debug.SetGCPercent(p)
					before = p
				}
			case <-ctx.Done():
				return
			}
		}
	}()
}

// heapPercent is how much garbage there may be, in percent of what lives. It is rounded, because changing
// it stops the world.
func heapPercent(live uint64) int {
	p := HeapRoom * 100 / max(live, runtimeHeap)
	return int(min(max(p/50*50, leastPercent), mostPercent))
}

// liveHeap is what the last collection left, in bytes.
func liveHeap() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
}
