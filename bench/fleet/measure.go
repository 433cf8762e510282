package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-teep/teep/cose"
)

// figures are what a phase took.
type figures struct {
	sessions, updates int64
	wall, cpu         time.Duration
	p50, p99          time.Duration // of a session, from its first to its last message
}

func (f *figures) print(w io.Writer, phase string, floor time.Duration) {
	each := time.Duration(int64(f.cpu) / max(f.sessions, 1))
	fmt.Fprintf(w, "%s: %d sessions, %d updates in %v: %.0f sessions/s, p50 %v, p99 %v, %v of processor time each (%.1f × floor, devices included), at most %d MiB resident\n",
		phase, f.sessions, f.updates, f.wall.Round(time.Millisecond), float64(f.sessions)/f.wall.Seconds(),
		f.p50.Round(10*time.Microsecond), f.p99.Round(10*time.Microsecond), each.Round(time.Microsecond),
		float64(each)/float64(floor), residentPeak(os.Getpid())>>20)
}

// sample keeps every so many durations, so that a million of them are a few.
type sample struct {
	mu   sync.Mutex
	kept []time.Duration
}

const maxSample = 100_000

func (s *sample) add(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.kept) < maxSample {
		s.kept = append(s.kept, d)
	}
}

func (s *sample) quantile(q float64) time.Duration {
	if len(s.kept) == 0 {
		return 0
	}
	slices.Sort(s.kept)
	return s.kept[int(q*float64(len(s.kept)-1))]
}

// outcome is what a device did in a phase.
type outcome int

const (
	stayedAway outcome = iota
	nothingNew         // a session without an Update
	updated
)

// each runs visit for the devices from 0 to n, as many at a time as there are workers, and measures it.
func each(ctx context.Context, n, workers int, out io.Writer, visit func(ctx context.Context, index uint32) (outcome, error)) (*figures, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next, sessions, updates atomic.Int64
	var durations sample
	every := max(n/maxSample, 1)
	begin, cpu := time.Now(), processorTime()
	shown := begin
	var mu sync.Mutex
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for ctx.Err() == nil {
				i := next.Add(1) - 1
				if i >= int64(n) {
					return
				}
				start := time.Now()
				came, err := visit(ctx, uint32(i))
				if err != nil {
					cancel(fmt.Errorf("device %d: %w", i, err))
					return
				}
				if came == updated {
					updates.Add(1)
				}
				if came != stayedAway && sessions.Add(1)%int64(every) == 0 {
					durations.add(time.Since(start))
				}
				mu.Lock()
				if time.Since(shown) > 10*time.Second {
					shown = time.Now()
					fmt.Fprintf(out, "  %d of %d devices, %.0f sessions/s\n", i, n, float64(sessions.Load())/time.Since(begin).Seconds())
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return &figures{
		sessions: sessions.Load(), updates: updates.Load(), wall: time.Since(begin), cpu: processorTime() - cpu,
		p50: durations.quantile(.5), p99: durations.quantile(.99),
	}, nil
}

// add makes one phase of two.
func (f *figures) add(g *figures) {
	f.sessions, f.updates, f.wall, f.cpu = f.sessions+g.sessions, f.updates+g.updates, f.wall+g.wall, f.cpu+g.cpu
	f.p50, f.p99 = max(f.p50, g.p50), max(f.p99, g.p99)
}

func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// residentPeak is the most memory that a process ever had resident, in bytes; 0 where that is not known.
func residentPeak(pid int) int64 {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "VmHWM:"); ok {
			var kib int64
			if _, err := fmt.Sscan(rest, &kib); err == nil {
				return kib << 10
			}
		}
	}
	return 0
}

// bareCryptography is what no TAM can do without in a session with an Update: two signatures for the
// QueryRequest and one for the Update, a verification of QueryResponse and of Success.
func bareCryptography(s *service) (time.Duration, error) {
	d, err := s.fleet.device(0)
	if err != nil {
		return 0, err
	}
	message := make([]byte, 600)
	signature, err := d.Key.Sign(rand.Reader, message)
	if err != nil {
		return 0, err
	}
	v, err := d.Key.Public().Verifier()
	if err != nil {
		return 0, err
	}
	const rounds = 500
	begin := processorTime()
	for range rounds {
		for _, signer := range []cose.Signer{s.signers[0], s.signers[1], s.signers[1]} {
			if _, err := signer.Sign(rand.Reader, message); err != nil {
				return 0, err
			}
		}
		for range 2 {
			if err := v.Verify(message, signature); err != nil {
				return 0, err
			}
		}
	}
	return (processorTime() - begin) / rounds, nil
}

// usage is what a process took so far.
type usage struct {
	peak int64 // resident, in bytes
	cpu  time.Duration
}

func (in *installation) usage() []usage {
	list := make([]usage, len(in.processes))
	for i, p := range in.processes {
		list[i].peak = residentPeak(p.cmd.Process.Pid)
		list[i].cpu = processorTimeOf(p.cmd.Process.Pid)
	}
	return list
}

// processorTimeOf is the processor time of another process; 0 where that is not known.
func processorTimeOf(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// After the name, which may contain anything, the 12th and 13th fields are user and system time.
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	var ticks time.Duration
	for _, f := range fields[11:13] {
		var n int64
		if _, err := fmt.Sscan(f, &n); err == nil {
			ticks += time.Duration(n)
		}
	}
	return ticks * (time.Second / 100) // USER_HZ, which is 100 on every architecture that Go runs on
}
