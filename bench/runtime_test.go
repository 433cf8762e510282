package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"testing"
	"time"

	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/tee/teetest/program"
	"github.com/go-teep/teep/tee/wasm"
)

// codeBlob is an application's code in memory.
type codeBlob struct{ *bytes.Reader }

func (codeBlob) Close() error { return nil }

// noData is the storage of an application that stores nothing.
type noData struct{}

func (noData) Load() (map[string][]byte, error) { return nil, nil }
func (noData) Apply(map[string][]byte) error    { return nil }
func (noData) Remove() error                    { return nil }

// BenchmarkWarmInvocation is one call of an application that is open: a reactor, which stays in
// memory, and a command, which starts anew each time. The floor is the copy of the input there and
// back; the bar is a millisecond.
func BenchmarkWarmInvocation(b *testing.B) {
	for _, bc := range []struct {
		name, command string
		code          []byte
	}{{"reactor", "echo", program.Reactor()}, {"command", "", program.Echo()}} {
		b.Run(bc.name, func(b *testing.B) {
			r, err := wasm.New(context.Background(), wasm.Config{Rand: rand.Reader, Now: time.Now})
			if err != nil {
				b.Fatal(err)
			}
			defer r.Close(context.Background())
			s, err := r.Open(context.Background(), tee.Application{Name: bc.name, Code: codeBlob{bytes.NewReader(bc.code)}, Data: noData{}})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			input := bytes.Repeat([]byte{7}, 1024)
			var whole, floor time.Duration
			for b.Loop() {
				start := time.Now()
				out, err := s.Invoke(context.Background(), bc.command, input)
				middle := time.Now()
				if err != nil || !bytes.Equal(out, input) {
					b.Fatalf("%d bytes, %v", len(out), err)
				}
				there := bytes.Clone(input)
				back := bytes.Clone(there)
				whole, floor = whole+middle.Sub(start), floor+time.Since(middle)
				if len(back) != len(input) {
					b.Fatal("copy")
				}
			}
			each := float64(whole.Nanoseconds()) / float64(b.N)
			b.ReportMetric(each/1e3, "µs/invocation")
			b.ReportMetric(float64(floor.Nanoseconds())/float64(b.N)/1e3, "µs/copy")
			b.ReportMetric(each/1e6, "of-bar")
			b.ReportMetric(0, "ns/op")
		})
	}
}
